/* Crashes as the first argument says, and waits to be captured as libgimli does: a handler on a stack of its
 * own fills the crash record of the page named by the second, and waits for its release. */
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "heartbeat_layout.h"

static struct gimli_page *page;

static void on_fault(int signo, siginfo_t *info, void *context)
{
    struct gimli_crash *crash = &page->crash;
    crash->signo = signo;
    crash->code = info->si_code;
    crash->address = (uint64_t)(uintptr_t)info->si_addr;
    crash->pid = getpid();
    crash->tid = (int)syscall(SYS_gettid);
    crash->ucontext = getenv("BAD_UCONTEXT") ? 64 : (uint64_t)(uintptr_t)context;
    crash->siginfo = (uint64_t)(uintptr_t)info;
    uint32_t ticket = atomic_fetch_add(&crash->request, 1) + 1;
    (void)!write(1, "crashed\n", 8);
    uint32_t seen;
    while ((int32_t)((seen = atomic_load(&crash->release)) - ticket) < 0)
        syscall(SYS_futex, &crash->release, FUTEX_WAIT, seen, NULL, NULL, 0);
    signal(signo, SIG_DFL);
    if (info->si_code <= 0)
        raise(signo);
}

static int null_dereference(int depth)
{
    volatile int *pointer = NULL;
    return depth > 0 ? null_dereference(depth - 1) + 1 : *pointer;
}

static int overflow(volatile char *previous)
{
    volatile char frame[4096];
    frame[0] = previous[0];
    return overflow(frame) + frame[1];
}

static void *crash_in_thread(void *unused)
{
    (void)unused;
    static char stack[1 << 16];
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    null_dereference(2);
    return NULL;
}

int main(int argc, char **argv)
{
    static char stack[1 << 16];
    if (argc != 3)
        return 2;
    int fd = open(argv[2], O_RDWR);
    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGABRT, &action, NULL);
    if (!strcmp(argv[1], "null"))
        null_dereference(3);
    if (!strcmp(argv[1], "overflow"))
        overflow(stack);
    if (!strcmp(argv[1], "abort"))
        abort();
    if (!strcmp(argv[1], "jump"))
        ((void (*)(void))NULL)();
    pthread_t thread;
    pthread_create(&thread, NULL, crash_in_thread, NULL);
    pthread_join(thread, NULL);
    return 1;
}
