/* Four threads deep in functions of known names, and as much heap as the argument says, in MB. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pthread_barrier_t ready;
static volatile int writable_global = 4711;

static int innermost(int depth)
{
    volatile int local = depth * 10;
    pthread_barrier_wait(&ready);
    for (;;)
        pause();
    return local + writable_global;
}

static int middle(int depth) { return innermost(depth + 1) + 1; }
static int outermost(int depth) { return middle(depth + 1) + 1; }

static void *work(void *number)
{
    outermost((int)(long)number);
    return NULL;
}

int main(int argc, char **argv)
{
    size_t size = (size_t)(argc > 1 ? atol(argv[1]) : 0) << 20;
    char *heap = malloc(size + 1);
    memset(heap, 7, size + 1);
    pthread_barrier_init(&ready, NULL, 4);
    for (long i = 1; i <= 3; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, work, (void *)(i * 100));
    }
    pthread_barrier_wait(&ready);
    puts("ready");
    fflush(stdout);
    pthread_barrier_init(&ready, NULL, 1);
    return outermost(0);
}
