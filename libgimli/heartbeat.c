/* The heartbeat page, as the program writes it: state, pulses and note.
 *
 * A beat is a few plain stores. The monitor is told (bell.c) only of what changes a deadline it sleeps on: a
 * new state, and a pulse that comes, goes or resumes.
 */
#define _GNU_SOURCE
#include "libgimli.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "private.h"

#define ORIGINAL_SIZE 8 /* the original's segment: state and ticks */

enum kind { KIND_FOREIGN, KIND_ORIGINAL, KIND_PAGE };

/* Written under the lock before anybody can have a handle, and never again. */
static pthread_mutex_t attach_lock = PTHREAD_MUTEX_INITIALIZER;
static struct gimli_page *segment;
static enum kind segment_kind;
static pid_t original_monitor_pid;

static _Atomic pid_t attached_pid; /* 0: nobody, a parent's: not this process */

/* The bell's queue was full (of ten datagrams, for all services of a monitor): ring at the next beat. */
static atomic_bool ring_owed;

/* Whose file is this? A program may be started by one that was watched, long after that one closed the
 * descriptor and its number was taken by another file, and that file must not be written to. So: a page
 * says by its magic that it is one. The original's segment says nothing, but its monitor makes it exactly
 * eight bytes long and unlinks it before the program starts; anything else is foreign. A page whose magic
 * was overwritten is refused too. */
static enum kind identify(int fd)
{
    struct stat file;
    if (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode) || (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
        return KIND_FOREIGN;
    if (file.st_size == ORIGINAL_SIZE && file.st_nlink == 0)
        return KIND_ORIGINAL;

    struct gimli_page page;
    if (file.st_size < GIMLI_PAGE_SIZE || pread(fd, &page, sizeof page, 0) != (ssize_t)sizeof page)
        return KIND_FOREIGN;
    bool ours = page.magic == GIMLI_PAGE_MAGIC && page.version == GIMLI_PAGE_VERSION &&
                page.size == GIMLI_PAGE_SIZE;
    return ours ? KIND_PAGE : KIND_FOREIGN;
}

/* The number that a variable of the environment holds, or -1. */
static int number_from_environment(const char *name)
{
    const char *text = secure_getenv(name);
    if (text == NULL)
        return -1;
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    return errno != 0 || end == text || *end != '\0' || number < 0 || number > INT_MAX ? -1 : (int)number;
}

bool heartbeat_map(void)
{
    if (segment != NULL)
        return true;
    int fd = number_from_environment("GIMLI_HB_FD");
    enum kind kind = fd < 0 ? KIND_FOREIGN : identify(fd);
    if (kind == KIND_FOREIGN)
        return false;
    void *address = mmap(NULL, GIMLI_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED)
        return false;
    segment_kind = kind;
    original_monitor_pid = number_from_environment("GIMLI_MONITOR_PID");
    segment = address; /* the descriptor stays open: descendants inherit it */
    return true;
}

struct gimli_page *heartbeat_page(void)
{
    return segment_kind == KIND_PAGE ? segment : NULL;
}

bool heartbeat_parent_is_original(void)
{
    return segment_kind == KIND_ORIGINAL && getppid() == original_monitor_pid;
}

void heartbeat_stopping(void)
{
    if (attached_pid == getpid())
        atomic_store_explicit(&segment->state, GIMLI_HB_STOPPING, memory_order_release);
}

static void tell_monitor(void)
{
    atomic_store_explicit(&ring_owed, bell_ring() == BELL_BUSY, memory_order_relaxed);
}

static bool is_ring_owed(void)
{
    return atomic_load_explicit(&ring_owed, memory_order_relaxed);
}

/* Make this process the one that beats. */
static void attach(void)
{
    pid_t pid = getpid();
    struct gimli_page *page = heartbeat_page();
    if (page != NULL) {
        bell_init();
        /* The same process with a new image: what the old one registered, nobody beats any more. */
        if (page->attached_pid == pid)
            for (int i = 0; i < GIMLI_PULSES_MAX; i++)
                page->pulses[i].state = GIMLI_PULSE_FREE;
        page->attached_pid = pid;
        page->library = GIMLI_LIBRARY_C;
    }
    attached_pid = pid;
    gimli_establish_signal_handlers();
    gimli_heartbeat_set((volatile struct gimli_heartbeat *)segment, GIMLI_HB_STARTING);
}

volatile struct gimli_heartbeat *gimli_heartbeat_attach(void)
{
    int saved_errno = errno;
    pthread_mutex_lock(&attach_lock);
    if (heartbeat_map() && attached_pid != getpid())
        attach();
    pthread_mutex_unlock(&attach_lock);
    errno = saved_errno;
    return (volatile struct gimli_heartbeat *)segment;
}

void gimli_heartbeat_set(volatile struct gimli_heartbeat *hb, int state)
{
    struct gimli_page *beats = (struct gimli_page *)hb;
    if (beats == NULL || state < GIMLI_HB_NOT_SUPP || state > GIMLI_HB_STOPPING)
        return;
    struct gimli_page *page = heartbeat_page();

    /* The time first, the state after it: a monitor that sees RUNNING with the time of a beat from before
     * would take the start for a silence. */
    if (page != NULL)
        atomic_store_explicit(&page->beat_ns, now_ns(), memory_order_relaxed);
    atomic_fetch_add_explicit(&beats->ticks, 1, memory_order_relaxed);
    bool changes = atomic_load_explicit(&beats->state, memory_order_relaxed) != state;
    if (changes)
        atomic_store_explicit(&beats->state, state, memory_order_release);
    if (page != NULL && (changes || is_ring_owed()))
        tell_monitor();
}

/* Make a claimed or paused pulse the calling thread's, watched from now on. */
static void activate(struct gimli_pulse *pulse)
{
    pulse->tid = gettid();
    atomic_store_explicit(&pulse->beat_ns, now_ns(), memory_order_relaxed);
    atomic_store_explicit(&pulse->state, GIMLI_PULSE_ACTIVE, memory_order_release);
    tell_monitor();
}

struct gimli_pulse *gimli_pulse_register(const char *name, unsigned int interval_ms)
{
    struct gimli_page *page = attached_pid != 0 ? heartbeat_page() : NULL;
    if (page == NULL || interval_ms == 0)
        return NULL;
    for (int i = 0; i < GIMLI_PULSES_MAX; i++) {
        struct gimli_pulse *pulse = &page->pulses[i];
        uint32_t free_state = GIMLI_PULSE_FREE;
        if (!atomic_compare_exchange_strong(&pulse->state, &free_state, GIMLI_PULSE_CLAIMED))
            continue;
        memset(pulse->name, 0, sizeof pulse->name);
        memcpy(pulse->name, name, strnlen(name, sizeof pulse->name - 1));
        pulse->interval_ns = interval_ms * NS_PER_MS;
        activate(pulse);
        return pulse;
    }
    return NULL;
}

void gimli_pulse_beat(struct gimli_pulse *pulse)
{
    if (pulse == NULL)
        return;
    atomic_store_explicit(&pulse->beat_ns, now_ns(), memory_order_relaxed);
    if (is_ring_owed())
        tell_monitor();
}

void gimli_pulse_pause(struct gimli_pulse *pulse)
{
    /* Needs no ring: a monitor that wakes for the old deadline finds the pulse paused. */
    if (pulse != NULL)
        atomic_store_explicit(&pulse->state, GIMLI_PULSE_PAUSED, memory_order_relaxed);
}

void gimli_pulse_resume(struct gimli_pulse *pulse)
{
    if (pulse != NULL)
        activate(pulse);
}

void gimli_pulse_unregister(struct gimli_pulse *pulse)
{
    if (pulse == NULL)
        return;
    atomic_store_explicit(&pulse->state, GIMLI_PULSE_FREE, memory_order_release);
    tell_monitor();
}

void gimli_note(const char *format, ...)
{
    static atomic_flag writing = ATOMIC_FLAG_INIT;
    struct gimli_page *page = heartbeat_page();
    if (page == NULL)
        return;

    int saved_errno = errno;
    char note[GIMLI_NOTE_SIZE] = "";
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(note, sizeof note, format, arguments);
    va_end(arguments);
    /* Whoever comes while another thread writes counts as overwritten by it. */
    if (!atomic_flag_test_and_set_explicit(&writing, memory_order_acquire)) {
        memcpy(page->note, note, sizeof note);
        atomic_flag_clear_explicit(&writing, memory_order_release);
    }
    errno = saved_errno;
}
