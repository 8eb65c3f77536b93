/* Four workers, each with a pulse; after a few beats one of them waits for ever while the others go on.
 *
 *   cc -g stuck_worker.c $(gimli --cflags --libs) -pthread -o stuck_worker
 *   gimli run -- ./stuck_worker [INTERVAL_MS [BEATS [lock|pipe]]]
 *
 * The program as a whole beats all the time: only the pulse shows that the thread "mailer" is stuck, and the
 * report shows on what. With `lock` (unless told otherwise) on a mutex that the thread "archiver" took and
 * never gives back; with `pipe` on a pipe that nobody writes to.
 */
#define _GNU_SOURCE
#include <libgimli.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct job {
    int number;
    char subject[32];
};

struct worker {
    const char *name;
    void (*work)(struct job *job);
    int done;
};

static unsigned int interval_ms = 1000;
static int beats = 5; /* before the mailer gets stuck */
static int reads_pipe;

static pthread_mutex_t mailbox = PTHREAD_MUTEX_INITIALIZER;
static int replies[2];

static void pause_ms(unsigned int ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    nanosleep(&time, NULL);
}

static void count(struct job *job)
{
    snprintf(job->subject, sizeof job->subject, "counted %d", job->number);
}

/* Takes the mailbox for a moment, and the last time forgets to give it back: the bug. */
static void archive(struct job *job)
{
    snprintf(job->subject, sizeof job->subject, "archived %d", job->number);
    if (reads_pipe || job->number > beats)
        return;
    pthread_mutex_lock(&mailbox);
    if (job->number < beats)
        pthread_mutex_unlock(&mailbox);
    else
        printf("archiver: keeps the mailbox locked\n");
}

__attribute__((noinline)) static void wait_for_reply(struct job *job)
{
    char reply[64];
    printf("mailer: waits for the reply to job %d\n", job->number);
    ssize_t size = read(replies[0], reply, sizeof reply);
    printf("mailer: a reply of %zd bytes\n", size);
}

__attribute__((noinline)) static void send_mail(struct job *job)
{
    snprintf(job->subject, sizeof job->subject, "mail %d", job->number);
    pthread_mutex_lock(&mailbox);
    pthread_mutex_unlock(&mailbox);
    if (reads_pipe && job->number > beats)
        wait_for_reply(job);
    printf("mailer: sent \"%s\"\n", job->subject);
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    pthread_setname_np(pthread_self(), worker->name);
    struct gimli_pulse *pulse = gimli_pulse_register(worker->name, interval_ms);
    for (;;) {
        struct job job = {.number = ++worker->done};
        gimli_pulse_beat(pulse);
        worker->work(&job);
        pause_ms(interval_ms / 5);
    }
    return NULL;
}

int main(int argc, char *argv[])
{
    static struct worker workers[] = {
        {.name = "counter", .work = count},
        {.name = "mailer", .work = send_mail},
        {.name = "archiver", .work = archive},
        {.name = "auditor", .work = count},
    };
    if (argc > 1)
        interval_ms = (unsigned int)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        beats = atoi(argv[2]);
    reads_pipe = argc > 3 && strcmp(argv[3], "pipe") == 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (pipe(replies) != 0)
        return 1;

    volatile struct gimli_heartbeat *hb = gimli_heartbeat_attach();
    for (size_t i = 0; i < sizeof workers / sizeof *workers; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, run, &workers[i]) != 0)
            return 1;
        pthread_detach(thread);
    }
    for (int round = 1;; round++) {
        gimli_heartbeat_set(hb, GIMLI_HB_RUNNING);
        gimli_note("round %d", round);
        printf("round %d: all is well, says the main thread\n", round);
        pause_ms(interval_ms / 2);
    }
}
