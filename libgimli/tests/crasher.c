/* Crashes in the way that its argument names. tests/libgimli/test_library.py plays the monitor.
 *
 * Compiled with -DLINKED it uses libgimli; without, it knows nothing of it and gets it by LD_PRELOAD. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef LINKED
#include <libgimli.h>
static volatile struct gimli_heartbeat *hb;
#endif

static void say(const char *text)
{
    while (write(STDOUT_FILENO, text, strlen(text)) < 0)
        if (errno != EINTR)
            _exit(1);
}

/* Wait for the monitor's word: a byte on standard input. */
static void await_word(void)
{
    char byte;
    while (read(STDIN_FILENO, &byte, 1) < 0)
        if (errno != EINTR)
            _exit(1);
}

static void on_tick(int signo)
{
    (void)signo;
}

/* From now on a signal comes every 50 us, and interrupts whatever can be interrupted. */
static void storm(void)
{
    const struct sigaction tick = {.sa_handler = on_tick}; /* no SA_RESTART */
    const struct itimerval often = {{0, 50}, {0, 50}};
    sigaction(SIGALRM, &tick, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
}

__attribute__((noinline)) static void segv(void)
{
    int *volatile wild = (int *)0x10;
    *wild = 1;
}

__attribute__((noinline)) static int recurse(int depth)
{
    volatile char frame[4096];
    frame[0] = (char)depth;
    return depth < 0 ? 0 : recurse(depth + 1) + frame[0];
}

static void overflow(void)
{
    exit(recurse(0));
}

__attribute__((no_sanitize("undefined"))) static void fpe(void)
{
    volatile int zero = 0;
    exit(7 / zero);
}

static void ill(void)
{
    __builtin_trap();
}

/* A signal that somebody sent: there is no instruction to fault again. */
static void sent(void)
{
    kill(getpid(), SIGSEGV);
}

static void *in_thread(void *crash)
{
    ((void (*)(void))(size_t)crash)();
    return NULL;
}

static pthread_t start(void (*crash)(void))
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, in_thread, (void *)(size_t)crash) != 0)
        exit(1);
    return thread;
}

static void thread_segv(void)
{
    pthread_join(start(segv), NULL);
}

static void thread_overflow(void)
{
    pthread_join(start(overflow), NULL);
}

static void thread_abort(void)
{
    pthread_join(start(abort), NULL);
}

static pthread_barrier_t together;

static void segv_together(void)
{
    pthread_barrier_wait(&together);
    segv();
}

static void two_threads(void)
{
    pthread_barrier_init(&together, NULL, 2);
    pthread_t first = start(segv_together);
    pthread_t second = start(segv_together);
    pthread_join(first, NULL);
    pthread_join(second, NULL);
}

/* Two workers crash at once; the service goes on, and ends well. */
static void workers(void)
{
    for (int i = 0; i < 2; i++)
        if (fork() == 0)
            segv();
    for (int i = 0; i < 2; i++) {
        int status;
        if (wait(&status) < 0 || !WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)
            exit(1);
    }
    exit(0);
}

/* As daemons do: close what is not known, and use the numbers for other files. */
static void close_all(void)
{
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    for (int fd = 3; fd < 300; fd++)
        if (open("/dev/null", O_RDWR) < 0)
            exit(1);
    segv();
}

static void ignored_abort(void)
{
    raise(SIGABRT);
    say("alive\n");
    exit(0);
}

#ifdef LINKED
/* When, so that the monitor can tell that it had released the program before. */
static void on_shutdown(int signo, siginfo_t *si)
{
    struct timespec now;
    char line[64];
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(line, sizeof line, "shutdown %d %d %lld\n", signo, si->si_signo,
             now.tv_sec * 1000000000LL + now.tv_nsec);
    say(line);
}

static void crash_again(int signo, siginfo_t *si)
{
    (void)signo, (void)si;
    say("again\n");
    abort();
}

static void twice(void)
{
    gimli_set_shutdown_func(crash_again);
    segv();
}

static void garbage(void)
{
    memset((void *)hb, 0xff, 4096);
    segv();
}

/* What a healthy program writes, step by step on the monitor's word. */
static void beats(void)
{
    await_word();
    gimli_note("order %d of %s", 7, "lunch");
    struct gimli_pulse *pulse = gimli_pulse_register("worker", 1500);
    gimli_heartbeat_set(hb, GIMLI_HB_RUNNING);
    gimli_heartbeat_set(hb, GIMLI_HB_RUNNING);
    say("running\n");
    await_word();
    gimli_pulse_pause(pulse);
    gimli_heartbeat_set(hb, GIMLI_HB_STOPPING);
    say("stopping\n");
    await_word();
    exit(0);
}

/* One beat at each word of the monitor's. */
static void beat_by_beat(void)
{
    for (;;) {
        await_word();
        gimli_heartbeat_set(hb, GIMLI_HB_RUNNING);
        say("beat\n");
    }
}
#endif

static const struct {
    const char *name;
    void (*run)(void);
} modes[] = {
    {"segv", segv},
    {"abort", abort},
    {"overflow", overflow},
    {"fpe", fpe},
    {"ill", ill},
    {"sent", sent},
    {"thread_segv", thread_segv},
    {"thread_abort", thread_abort},
    {"thread_overflow", thread_overflow},
    {"two_threads", two_threads},
    {"workers", workers},
    {"close_all", close_all},
    {"ignored_abort", ignored_abort},
#ifdef LINKED
    {"twice", twice},
    {"garbage", garbage},
    {"beats", beats},
    {"beat_by_beat", beat_by_beat},
#endif
};

int main(int argc, char *argv[])
{
    if (getenv("STORM") != NULL)
        storm();
#ifdef LINKED
    hb = gimli_heartbeat_attach();
    gimli_establish_signal_handlers();
    gimli_set_shutdown_func(on_shutdown);
#endif
    say("ready\n");
    if (argc > 2) /* any second argument: wait for the word */
        await_word();
    for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof *modes; i++)
        if (strcmp(modes[i].name, argv[1]) == 0)
            modes[i].run();
    return 1;
}
