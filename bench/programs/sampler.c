/* A program that feels how long it was stopped: sampler GAP MEGABYTES THREADS.
 *
 * One thread reads CLOCK_MONOTONIC every 50 us and keeps the longest gap between two readings, in
 * nanoseconds, as the u64 at the start of the file GAP; whoever looks sets it back to 0. The others wait:
 * half of them on a condition, half asleep, below some calls. MEGABYTES of memory are present and its own.
 *
 * The sampling thread asks for real-time priority, so that a busy machine does not look like a stop. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_BYTES (1 << 20)
#define SAMPLE_EVERY_NS 50000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

static int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

__attribute__((noinline)) static void wait_deep(int depth, int kind)
{
    if (depth > 0) {
        wait_deep(depth - 1, kind);
        depth = 0; /* not a tail call */
    }
    pthread_mutex_lock(&lock);
    while (kind == 0)
        pthread_cond_wait(&never, &lock);
    pthread_mutex_unlock(&lock);
    while (kind != 0)
        sleep(1000);
}

static void *wait_forever(void *kind)
{
    wait_deep(8, (int)(intptr_t)kind);
    return NULL;
}

static void fill(size_t megabytes)
{
    for (size_t i = 0; i < megabytes; i++) {
        char *block = malloc(BLOCK_BYTES);
        if (block == NULL)
            exit(1);
        memset(block, (int)i | 1, BLOCK_BYTES);
    }
}

static void sample(volatile int64_t *longest_ns)
{
    const struct timespec interval = {.tv_nsec = SAMPLE_EVERY_NS};
    int64_t before = clock_ns();
    for (;;) {
        nanosleep(&interval, NULL);
        int64_t now = clock_ns();
        if (now - before > *longest_ns)
            *longest_ns = now - before;
        before = now;
    }
}

int main(int argc, char *argv[])
{
    if (argc != 4)
        return 2;
    int fd = open(argv[1], O_RDWR);
    int64_t *longest_ns = mmap(NULL, sizeof *longest_ns, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (longest_ns == MAP_FAILED)
        return 1;
    fill((size_t)atoi(argv[2]));
    for (intptr_t i = 0; i < atoi(argv[3]) - 1; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, wait_forever, (void *)(i % 2)) != 0)
            return 1;
    }
    prctl(PR_SET_TIMERSLACK, 1);
    sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1});
    sample(longest_ns);
}
