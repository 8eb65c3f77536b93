/* What happens when the program crashes: ask the monitor for a snapshot, shut down, die by the same signal.
 *
 * The asking goes by ticket (heartbeat_layout.h), because the workers of a service share one page and may
 * crash at the same time. Every wait ends: when the snapshot is taken, when the monitor is gone, when it says
 * that it wants none, and after the page's wait_ms in any case.
 *
 * All of this runs in a signal handler of a program that is broken in an unknown way. It allocates nothing,
 * takes no lock, calls only what signal-safety(7) lists (and plain system calls), and believes nothing that
 * stands in the page, where the program may have written anything.
 */
#define _GNU_SOURCE
#include "libgimli.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "private.h"

#define SLICE_NS (100 * NS_PER_MS)     /* between looks at whether the monitor still lives */
#define BUSY_SLICE_NS (10 * NS_PER_MS) /* until the full bell is rung again */
#define WAIT_MS_DEFAULT 10000u
#define WAIT_MS_MAX 60000u

static const int signals[] = {SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE, SIGSYS};

static _Atomic gimli_shutdown_func_t shutdown_func;
static atomic_bool established;

/* The thread whose crash this process dies of, with its pid: a child made by fork or vfork starts anew. */
static _Atomic uint64_t crashing;

/* ---- Waiting for the snapshot ---- */

/* The monitor's fields are believed only while its magic stands beside them. */
static bool is_intact(const struct gimli_page *page)
{
    return page->magic == GIMLI_PAGE_MAGIC && page->version == GIMLI_PAGE_VERSION;
}

static uint64_t patience_ns(const struct gimli_page *page)
{
    uint32_t wait_ms = page != NULL && is_intact(page) ? page->wait_ms : WAIT_MS_DEFAULT;
    return (wait_ms < WAIT_MS_MAX ? wait_ms : WAIT_MS_MAX) * NS_PER_MS;
}

static bool is_unwanted(struct gimli_page *page)
{
    return is_intact(page) && (page->flags & GIMLI_PAGE_DIE_AT_ONCE);
}

/* Sleep while *word is seen, for a slice at most. Shared: the other side is another process. */
static void futex_wait(_Atomic uint32_t *word, uint32_t seen, uint64_t slice_ns, uint64_t deadline_ns)
{
    uint64_t now = now_ns();
    uint64_t left_ns = now < deadline_ns ? deadline_ns - now : 0;
    struct timespec timeout = {.tv_nsec = (long)(left_ns < slice_ns ? left_ns : slice_ns)};
    syscall(SYS_futex, word, FUTEX_WAIT, seen, &timeout, NULL, 0);
}

static bool is_thread(uint32_t tid)
{
    /* kill takes any thread's id, not only the first one's of its process. */
    return tid <= INT_MAX && (kill((pid_t)tid, 0) == 0 || errno != ESRCH);
}

/* Become the owner of the crash record. Others hold it while their snapshot is taken. One who is dead, or
 * has it for longer than anybody may wait, loses it: the record is then overwritten, which harms nobody,
 * since the monitor took what it needed long ago or never will. */
static void claim(struct gimli_page *page, uint32_t tid, uint64_t deadline_ns)
{
    for (;;) {
        uint32_t owner = 0;
        if (atomic_compare_exchange_strong(&page->crash.owner, &owner, tid))
            return;
        bool stale = owner == tid || !is_thread(owner) || !is_intact(page) || now_ns() >= deadline_ns;
        if (stale && atomic_compare_exchange_strong(&page->crash.owner, &owner, tid))
            return;
        if (!stale)
            futex_wait(&page->crash.owner, owner, SLICE_NS, deadline_ns);
    }
}

static void disclaim(struct gimli_page *page, uint32_t tid)
{
    if (atomic_compare_exchange_strong(&page->crash.owner, &tid, 0))
        syscall(SYS_futex, &page->crash.owner, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void fill(struct gimli_crash *crash, const siginfo_t *si, const void *ucontext)
{
    crash->signo = si->si_signo;
    crash->code = si->si_code;
    crash->address = si->si_code > 0 ? (uintptr_t)si->si_addr : 0; /* a sent signal has none */
    crash->pid = getpid();
    crash->tid = gettid();
    crash->time_ns = now_ns();
    crash->ucontext = (uintptr_t)ucontext;
    crash->siginfo = (uintptr_t)si;
}

static bool is_answered(struct gimli_crash *crash, uint32_t ticket)
{
    return (int32_t)(crash->release - ticket) >= 0;
}

static uint32_t take_ticket(struct gimli_crash *crash)
{
    uint32_t ticket = crash->request + 1;
    if (is_answered(crash, ticket)) /* only an overwritten page has answers to what nobody asked */
        ticket = crash->release + 1;
    crash->request = ticket;
    return ticket;
}

static void wait_for_release(struct gimli_page *page, uint32_t ticket, uint64_t deadline_ns)
{
    enum bell bell = bell_ring();
    while (bell != BELL_GONE) {
        uint32_t seen = page->crash.release;
        if (is_answered(&page->crash, ticket) || is_unwanted(page) || now_ns() >= deadline_ns)
            return;
        futex_wait(&page->crash.release, seen, bell == BELL_BUSY ? BUSY_SLICE_NS : SLICE_NS, deadline_ns);
        if (is_answered(&page->crash, ticket))
            return;
        if (bell == BELL_BUSY)
            bell = bell_ring();
        else if (bell_is_gone())
            bell = BELL_GONE;
    }
}

static void ask_for_snapshot(struct gimli_page *page, const siginfo_t *si, const void *ucontext)
{
    if (is_unwanted(page))
        return;
    uint64_t start_ns = now_ns();
    uint64_t patience = patience_ns(page);
    uint32_t tid = (uint32_t)gettid();

    claim(page, tid, start_ns + patience / 2);
    fill(&page->crash, si, ucontext);
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); /* Yama: the helper is no ancestor of ours */
    wait_for_release(page, take_ticket(&page->crash), start_ns + patience);
    disclaim(page, tid);
}

/* The original's way: the monitor traces us while we are stopped, and continues us. Only for its own child:
 * nobody would continue a child of anybody else's. */
static void ask_original_monitor(void)
{
    kill(getppid(), SIGUSR2);
    kill(getpid(), SIGSTOP);
}

/* ---- The handler ---- */

/* Die by this signal as soon as the handler returns: the kernel delivers it, with the siginfo of the fault,
 * to a thread whose registers are again those of the fault, so that a core of the kernel's shows it. To
 * return and fault again would do for most faults, but not for a sent signal or a refused system call. */
static void die(int signo, siginfo_t *si, ucontext_t *ucontext)
{
    signal(signo, SIG_DFL);
    sigdelset(&ucontext->uc_sigmask, signo);
    if (syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), signo, si) != 0)
        syscall(SYS_tgkill, getpid(), gettid(), signo); /* a filter may know only this one */
}

/* Wait until the thread that crashed first has ended the process. */
static void park(void)
{
    uint64_t ns = patience_ns(heartbeat_page());
    struct timespec time = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    nanosleep(&time, NULL); /* no signal interrupts it: all are blocked */
}

static void shut_down(int signo, siginfo_t *si, const void *ucontext)
{
    struct gimli_page *page = heartbeat_page();
    if (page != NULL)
        ask_for_snapshot(page, si, ucontext);
    else if (heartbeat_parent_is_original())
        ask_original_monitor();

    heartbeat_stopping();
    gimli_shutdown_func_t func = shutdown_func;
    if (func != NULL)
        func(signo, si);
}

static void handle_crash(int signo, siginfo_t *si, void *ucontext)
{
    int saved_errno = errno;
    uint64_t self = (uint64_t)(uint32_t)getpid() << 32 | (uint32_t)gettid();
    uint64_t first = crashing;
    bool is_first = first >> 32 != self >> 32 && atomic_compare_exchange_strong(&crashing, &first, self);
    if (is_first)
        shut_down(signo, si, ucontext);
    else if (first != self)
        park();
    /* else a crash inside the shutdown function, or a handler that was chained before ours: enough */
    die(signo, si, ucontext);
    errno = saved_errno;
}

bool crash_handlers_established(void)
{
    return established;
}

void gimli_establish_signal_handlers(void)
{
    int saved_errno = errno;
    struct altstack *altstack = altstack_init();
    if (altstack != NULL)
        altstack_use(altstack);

    struct sigaction action = {.sa_sigaction = handle_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigfillset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction old;
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    }
    established = true;
    errno = saved_errno;
}

void gimli_set_shutdown_func(gimli_shutdown_func_t func)
{
    shutdown_func = func;
}
