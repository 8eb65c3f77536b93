/* A program as it was linked with the original library, whose whole protocol is here and nothing of ours.
 *
 *   original_client crash | hang | run | signal
 *
 * crash: a few beats, then a null dereference. hang: a few beats, then silence. run: beats until it is ended.
 * signal: as run, but each beat is a SIGUSR1 to the monitor and the segment is not used.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { NOT_SUPPORTED, STARTING, RUNNING, STOPPING };

struct heartbeat {
    int state;
    int ticks;
};

static volatile struct heartbeat *heartbeat;

/* The monitor, our parent, traces us while we are stopped, and continues us. */
static void on_fault(int signo, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    signal(signo, SIG_DFL);
    kill(getppid(), SIGUSR2);
    kill(getpid(), SIGSTOP);
    if (heartbeat != NULL)
        heartbeat->state = STOPPING;
    kill(getpid(), signo);
}

static void attach(void)
{
    const int signals[] = {SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE};
    const char *text = getenv("GIMLI_HB_FD");
    int fd = text == NULL ? -1 : atoi(text);
    void *segment = mmap(NULL, sizeof *heartbeat, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (segment == MAP_FAILED) {
        fprintf(stderr, "no heartbeat segment in GIMLI_HB_FD\n");
        exit(2);
    }
    close(fd);
    heartbeat = segment;
    heartbeat->state = STARTING;
    const struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &action, NULL);
}

static void beat(void)
{
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    if (heartbeat != NULL) {
        heartbeat->state = RUNNING;
        heartbeat->ticks++;
    } else {
        kill(atoi(getenv("GIMLI_MONITOR_PID")), SIGUSR1);
    }
    nanosleep(&pause, NULL);
}

__attribute__((noinline)) static void crash(int *volatile nothing)
{
    *nothing = 1;
}

int main(int argc, char *argv[])
{
    const char *mode = argc > 1 ? argv[1] : "run";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(mode, "signal") != 0)
        attach();
    else if (getenv("GIMLI_MONITOR_PID") == NULL)
        return 2;

    for (int i = 0; i < 3; i++)
        beat();
    printf("running\n");
    if (strcmp(mode, "crash") == 0)
        crash(NULL);
    while (strcmp(mode, "hang") == 0)
        pause();
    for (;;)
        beat();
}
