/* How the monitor starts a program: fork, wiring and exec without a line of Python in between.
 *
 * Not a part of the library that programs link with: the monitor's own, called through ctypes. After the fork
 * of a Python process every line of Python costs page faults; this costs next to none. It is a fork and not
 * a vfork, so that a program on a file server that hangs does not stop the monitor with it.
 *
 * The child is a copy of a process with one thread: what it calls need not be async-signal-safe.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "attributes.h"

#define EXEC_FAILED 127
#define RECORD_BYTES 128 /* as in monitor/records.py */
#define GIMLI_SPAWN_PID_ROOM 12 /* bytes behind the "=" of an own_pid variable */

struct gimli_spawn {
    const char *program; /* what is executed; argv[0] is only its name */
    char *const *argv;
    char *const *envp;
    const char *cwd;    /* NULL: the monitor's own */
    const char *input;  /* opened as standard input; NULL: inherited */
    const char *output; /* a FIFO, opened as standard output and error; NULL: inherited */
    int page_fd;        /* left open in the program under the same number; -1: none */
    int status_fd;      /* told "NAME: REASON" when the program cannot be started; close on exec */
    int record_fd;      /* the run record, locked; close on exec */
    int cgroup_fd;      /* the control group to be born into; -1: the monitor's own, also when it returns */
    const char *boot_id;
    unsigned long descriptors_soft, descriptors_hard;
    int has_session; /* 0: it stays in the monitor's, as the original's setsid = 0 */
    const struct gimli_attributes *attributes;
    const int *placed_from, *placed_at; /* descriptors, and the numbers under which the program has them; */
    size_t placed_count;                /* none of the numbers is one of the descriptors, or page_fd, status_fd */
    char *const *own_pid;               /* "NAME=" with room behind, also in envp: filled in with the pid */
};

/* Python ignores the first two, and a monitor blocks most. */
static void reset_signals(void)
{
    const struct sigaction usual = {.sa_handler = SIG_DFL};
    sigset_t none;
    sigaction(SIGPIPE, &usual, NULL);
    sigaction(SIGXFSZ, &usual, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int open_as(const char *path, int flags, int first, int last)
{
    int fd = open(path, flags);
    if (fd < 0)
        return -1;
    for (int standard = first; standard <= last; standard++)
        if (dup2(fd, standard) < 0)
            return -1;
    if (fd > STDERR_FILENO)
        close(fd);
    return 0;
}

/* Field 22 of /proc/self/stat: when this process started, in clock ticks since boot; 0 without /proc. */
static unsigned long long start_ticks(void)
{
    char stat[1024];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, stat, sizeof stat - 1);
    close(fd);
    if (size <= 0)
        return 0;
    stat[size] = '\0';
    char *field = strrchr(stat, ')'); /* the name before it may hold spaces and brackets */
    for (int number = 2; field != NULL && number < 22; number++)
        field = strchr(field + 1, ' ');
    return field == NULL ? 0 : strtoull(field, NULL, 10);
}

/* Who runs, written by the one who will: a monitor that is killed right after its fork has no time to. Until
 * this has returned the lock on the record tells the next monitor to wait. */
static int record(const struct gimli_spawn *told)
{
    if (told->record_fd < 0)
        return 0; /* a probe */
    char line[RECORD_BYTES + 1];
    int size = snprintf(line, sizeof line, "running %d %llu %s", getpid(), start_ticks(), told->boot_id);
    if (size < 0 || size >= RECORD_BYTES)
        return -1;
    memset(line + size, ' ', (size_t)(RECORD_BYTES - size));
    line[RECORD_BYTES - 1] = '\n';
    if (pwrite(told->record_fd, line, RECORD_BYTES, 0) != RECORD_BYTES)
        return -1;
    return close(told->record_fd);
}

static int place_descriptors(const struct gimli_spawn *told)
{
    for (size_t i = 0; i < told->placed_count; i++)
        if (dup2(told->placed_from[i], told->placed_at[i]) < 0)
            return -1;
    return 0;
}

/* The texts are the child's copies of the monitor's. */
static void write_own_pid(char *const *texts)
{
    for (; *texts != NULL; texts++)
        snprintf(*texts + strlen(*texts), GIMLI_SPAWN_PID_ROOM, "%d", (int)getpid());
}

/* Returns only when it failed: with the name of what could not be used. */
static const char *become(const struct gimli_spawn *told)
{
    const struct rlimit descriptors = {told->descriptors_soft, told->descriptors_hard};
    if (record(told) < 0)
        return "run record";
    if (told->has_session)
        setsid();
    reset_signals();
    setrlimit(RLIMIT_NOFILE, &descriptors);
    if (told->input != NULL && open_as(told->input, O_RDONLY, STDIN_FILENO, STDIN_FILENO) < 0)
        return "input";
    /* Read and write: the program holds its own pipe open, so it outlives a monitor without SIGPIPE. */
    if (told->output != NULL && open_as(told->output, O_RDWR, STDOUT_FILENO, STDERR_FILENO) < 0)
        return "output";
    if (told->page_fd >= 0 && fcntl(told->page_fd, F_SETFD, 0) < 0)
        return "heartbeat page";
    if (place_descriptors(told) < 0)
        return "descriptors";
    /* After the monitor's own files, which another user could not open; before the directory, which is the
     * program's own. */
    const char *refused = gimli_attributes_apply(told->attributes);
    if (refused != NULL)
        return refused;
    if (told->cwd != NULL && chdir(told->cwd) < 0)
        return told->cwd;
    write_own_pid(told->own_pid);
    environ = (char **)told->envp; /* execvp looks the program up in the PATH that it will have */
    execvp(told->program, told->argv);
    return told->program;
}

/* Start a program. Returns its pid, or -1 with errno. */
__attribute__((visibility("default"))) int gimli_spawn(struct gimli_spawn *told);

/* Born into a control group, since moving there later waits for all processors (Linux 5.7). Not through the C
 * library, which has no such fork: the child calls nothing that would notice. */
static pid_t fork_into(int *cgroup_fd)
{
    struct clone_args how = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (__u64)*cgroup_fd};
    pid_t pid = *cgroup_fd < 0 ? -1 : (pid_t)syscall(SYS_clone3, &how, sizeof how);
    if (pid >= 0)
        return pid;
    *cgroup_fd = -1;
    return fork();
}

int gimli_spawn(struct gimli_spawn *told)
{
    pid_t pid = fork_into(&told->cgroup_fd);
    if (pid == 0) {
        const char *step = become(told);
        int why = errno;
        dprintf(told->status_fd, "%s: %s", step, strerror(why));
        _exit(EXEC_FAILED);
    }
    return pid;
}
