/* How the monitor starts a program, without a line of Python between clone and exec.
 *
 * Not a part of the library that programs link with: the monitor's own, called through ctypes. The child shares
 * the monitor's memory until its exec, on a stack of its own, and nobody waits for it: nothing is copied, and a
 * program on a file server that hangs does not stop the monitor (docs/decisions/0004-spawn-in-c.md). So all that
 * it uses is in a room which the monitor leaves alone until the kernel says that the child has left the memory.
 */
#define _GNU_SOURCE
#include "spawn.h"
#include "berths.h"
#include "kernel_call.h"

#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STACK_BYTES 32768
#define PAGE_BYTES_MAX 65536 /* of the architectures that Linux has */
#define ROOM_BYTES_STEP 4096
#define ROOMS_KEPT 4 /* empty ones; when many start at once, some wait long for their turn */

/* The orders of one start, as monitor/spawn.py packs them: this, and then
 *     limits     u64 soft, u64 hard, u32 resource, u32 unused
 *     groups     u32
 *     placed     i32 from, i32 at
 *     texts      each with its NUL: boot_id, cwd, input, output, program, user, names of the limits, argv, envp.
 *                An empty cwd, input or output is none. */
struct orders {
    uint64_t descriptors_soft, descriptors_hard;
    int32_t page_fd, status_fd, record_fd, cgroup_fd;
    int32_t has_session, umask, has_user;
    uint32_t uid, gid;
    uint32_t limits_count, groups_count, placed_count, argv_count, envp_count, own_pid_count;
    uint32_t has_page_text; /* the next of envp is "NAME=" with room for the number of the page */
};

struct packed_limit {
    uint64_t soft, hard;
    uint32_t resource, unused;
};

/* Where one child lives until its exec: a guard page, its stack, and what it was told. */
struct room {
    struct room *next;
    size_t size;
    char *memory;           /* a page that nobody may touch, STACK_BYTES, then this */
    atomic_int is_occupied; /* the kernel clears it when the child has left the memory: CLONE_CHILD_CLEARTID */
    atomic_int shares_table;
    struct berth *berth; /* where the child finds its descriptors, until it has taken them; NULL: elsewhere */
    struct gimli_spawn told;
    char data[] __attribute__((aligned(16)));
};

static struct room *rooms;

static struct room *make_room(size_t data_bytes)
{
    size_t before = PAGE_BYTES_MAX + STACK_BYTES;
    size_t size = before + sizeof(struct room) + data_bytes;
    size = (size + ROOM_BYTES_STEP - 1) / ROOM_BYTES_STEP * ROOM_BYTES_STEP;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    mprotect(memory, PAGE_BYTES_MAX, PROT_NONE);
    struct room *room = (struct room *)(memory + before);
    *room = (struct room){.next = rooms, .size = size, .memory = memory};
    rooms = room;
    return room;
}

/* An empty room with so many bytes for data. */
static struct room *find_room(size_t data_bytes)
{
    for (struct room *room = rooms; room != NULL; room = room->next)
        if (room->berth == NULL && !atomic_load(&room->is_occupied) &&
            (size_t)((char *)room + sizeof *room - room->memory) + data_bytes <= room->size)
            return room;
    return make_room(data_bytes);
}

/* The newest are kept: a size that was asked for last will be asked for again. */
static void give_up_empty_rooms(void)
{
    int empty = 0;
    for (struct room **at = &rooms; *at != NULL;) {
        struct room *room = *at;
        if (room->berth != NULL || atomic_load(&room->is_occupied) || ++empty <= ROOMS_KEPT) {
            at = &room->next;
            continue;
        }
        *at = room->next;
        munmap(room->memory, room->size);
    }
}

static char *next_text(char **at)
{
    char *text = *at;
    *at += strlen(text) + 1;
    return text;
}

static char *next_text_or_none(char **at)
{
    char *text = next_text(at);
    return *text ? text : NULL;
}

/* Behind the orders in the room's data: the arrays of pointers into it. */
static size_t arrays_bytes(const struct orders *orders)
{
    return orders->limits_count * sizeof(struct gimli_limit) +
           (1 + orders->argv_count + 1 + orders->envp_count + 1) * sizeof(char *);
}

static void unpack(struct gimli_spawn *told, struct orders *orders, char *arrays)
{
    const struct packed_limit *limits = (const struct packed_limit *)(orders + 1);
    const uint32_t *groups = (const uint32_t *)(limits + orders->limits_count);
    const struct gimli_placed *placed = (const struct gimli_placed *)(groups + orders->groups_count);
    char *texts = (char *)(placed + orders->placed_count);
    *told = (struct gimli_spawn){
        .table_end = gimli_berths_end(),
        .page_fd = orders->page_fd,
        .status_fd = orders->status_fd,
        .record_fd = orders->record_fd,
        .descriptors_soft = orders->descriptors_soft,
        .descriptors_hard = orders->descriptors_hard,
        .has_session = orders->has_session,
        .umask = orders->umask,
        .has_user = orders->has_user,
        .uid = orders->uid,
        .gid = orders->gid,
        .groups = groups,
        .groups_count = orders->groups_count,
        .limits = (struct gimli_limit *)arrays,
        .limits_count = orders->limits_count,
        .placed = placed,
        .placed_count = orders->placed_count,
        .own_pid_count = orders->own_pid_count,
    };
    told->boot_id = next_text(&texts);
    told->cwd = next_text_or_none(&texts);
    told->input = next_text_or_none(&texts);
    told->output = next_text_or_none(&texts);
    told->program = next_text(&texts);
    told->user = next_text(&texts);
    for (size_t i = 0; i < told->limits_count; i++)
        told->limits[i] =
            (struct gimli_limit){limits[i].soft, limits[i].hard, next_text(&texts), (int)limits[i].resource};
    told->argv = (char **)(told->limits + told->limits_count) + 1;
    for (size_t i = 0; i < orders->argv_count; i++)
        told->argv[i] = next_text(&texts);
    told->argv[orders->argv_count] = NULL;
    told->envp = told->argv + orders->argv_count + 1;
    for (size_t i = 0; i < orders->envp_count; i++)
        told->envp[i] = next_text(&texts);
    told->envp[orders->envp_count] = NULL;
}

/* Room for a number is left as zeros. */
static void write_page_number(struct gimli_spawn *told, const struct orders *orders)
{
    if (orders->has_page_text) {
        char *room = strchr(told->envp[orders->own_pid_count], '=') + 1;
        snprintf(room, strlen(room), "%d", told->page_fd);
    }
}

static void run(void *room)
{
    gimli_become(&((struct room *)room)->told);
}

static int run_for_clone(void *room)
{
    run(room);
    return 0;
}

/* Where clone3 is not to be had (an old seccomp filter): the same, but in the monitor's own control group. */
static long clone_simply(struct room *room, unsigned long flags, int *ret_pidfd)
{
    int pid = clone(run_for_clone, room, (int)flags | SIGCHLD, room, ret_pidfd, NULL, &room->is_occupied);
    return pid < 0 ? -errno : pid;
}

/* Born into a control group, since moving there later waits for all processors (Linux 5.7). */
static long start_child(struct room *room, int *cgroup_fd, int *ret_pidfd)
{
    unsigned long flags = CLONE_VM | CLONE_PIDFD | CLONE_CHILD_CLEARTID;
    if (atomic_load(&room->shares_table))
        flags |= CLONE_FILES;
    struct clone_args how = {
        .flags = flags | (*cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
        .pidfd = (uintptr_t)ret_pidfd,
        .child_tid = (uintptr_t)&room->is_occupied,
        .exit_signal = SIGCHLD,
        .stack = (uintptr_t)room->memory + PAGE_BYTES_MAX,
        .stack_size = STACK_BYTES,
        .cgroup = *cgroup_fd >= 0 ? (uint64_t)*cgroup_fd : 0,
    };
    long pid = kernel_clone3(&how, sizeof how, run, room);
    if (pid < 0 && *cgroup_fd >= 0) {
        *cgroup_fd = -1;
        how.flags = flags;
        how.cgroup = 0;
        pid = kernel_clone3(&how, sizeof how, run, room);
    }
    return pid == -ENOSYS ? clone_simply(room, flags, ret_pidfd) : pid;
}

/* A service's child shares the monitor's table, if it needs nothing that has no berth. */
static void enter_berth(struct room *room)
{
    struct gimli_spawn *told = &room->told;
    const int needed[BERTH_DESCRIPTORS] = {told->status_fd, told->record_fd, told->page_fd};
    bool fits = told->record_fd >= 0 && told->placed_count == 0;
    room->berth = fits ? gimli_berth_take(needed) : NULL;
    told->shares_table = &room->shares_table;
    told->berth = room->berth;
    atomic_store(&room->shares_table, room->berth != NULL);
    if (room->berth == NULL)
        return;
    told->status_fd = room->berth->numbers[0];
    told->record_fd = room->berth->numbers[1];
    told->page_fd = told->page_fd < 0 ? -1 : room->berth->numbers[2];
}

static void leave_berth(struct room *room)
{
    if (room->berth != NULL)
        gimli_berth_clear(room->berth);
    room->berth = NULL;
}

/* Let go of what children that have begun have copies of. Until then the end of their status pipes cannot be
 * seen. Returns how many have yet to begin. */
__attribute__((visibility("default"))) int gimli_clear_berths(void);

int gimli_clear_berths(void)
{
    int taken = 0;
    for (struct room *room = rooms; room != NULL; room = room->next) {
        if (room->berth == NULL)
            continue;
        /* It has taken its copies, or was killed before it could. */
        if (!atomic_load(&room->shares_table) || !atomic_load(&room->is_occupied))
            leave_berth(room);
        else
            taken++;
    }
    give_up_empty_rooms();
    return taken;
}

/* Start a program.
 *
 * Returns its pid, or -1 with errno; ret_pidfd is its pidfd, and ret_is_grouped whether it was born into the
 * control group of the orders. */
__attribute__((visibility("default"))) int gimli_spawn(const void *packed, size_t packed_bytes, int *ret_pidfd,
                                                       int *ret_is_grouped);

int gimli_spawn(const void *packed, size_t packed_bytes, int *ret_pidfd, int *ret_is_grouped)
{
    gimli_clear_berths();
    size_t orders_bytes = (packed_bytes + 15) / 16 * 16;
    struct room *room = find_room(orders_bytes + arrays_bytes(packed));
    if (room == NULL)
        return -1;
    struct orders *orders = memcpy(room->data, packed, packed_bytes);
    unpack(&room->told, orders, room->data + orders_bytes);
    enter_berth(room);
    write_page_number(&room->told, orders);
    int cgroup_fd = orders->cgroup_fd;
    /* No handler of the monitor may run in the child. By the kernel's call: the C library spares two signals. */
    const unsigned long all = ~0UL;
    unsigned long before;
    kernel_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&before, sizeof all, 0);
    atomic_store(&room->is_occupied, 1);
    long pid = start_child(room, &cgroup_fd, ret_pidfd);
    if (pid < 0) {
        atomic_store(&room->is_occupied, 0);
        leave_berth(room);
    }
    kernel_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, sizeof before, 0);
    *ret_is_grouped = pid >= 0 && cgroup_fd >= 0;
    if (pid < 0)
        errno = (int)-pid;
    return (int)(pid < 0 ? -1 : pid);
}
