/* What the library's files ask of one another. Nothing here is exported. */
#ifndef GIMLI_PRIVATE_H
#define GIMLI_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "heartbeat_layout.h"

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

/* The clock of the page. Async-signal-safe, and no system call where there is a vdso. */
static inline uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* heartbeat.c */

/* Map what GIMLI_HB_FD names, once. False when that is not a monitor's. */
bool heartbeat_map(void);

/* The page, or NULL: no monitor, or an original one, whose segment is eight bytes. Async-signal-safe. */
struct gimli_page *heartbeat_page(void);

/* Whether our parent is an original monitor. Async-signal-safe. */
bool heartbeat_parent_is_original(void);

/* Say STOPPING if it is this process that beats, and not a worker of it. Async-signal-safe. */
void heartbeat_stopping(void);

/* bell.c: the monitor's socket. A ring is one datagram with the service's name: "look at my page". */

enum bell {
    BELL_RUNG,
    BELL_BUSY, /* the monitor lives but its queue is full: ring again later */
    BELL_GONE, /* nobody hears it */
};

/* Read the environment and open the socket; again after the program has closed it. */
void bell_init(void);

/* Async-signal-safe; errno stays. */
enum bell bell_ring(void);

/* Whether the monitor that was rung has died since. Async-signal-safe; errno stays. */
bool bell_is_gone(void);

/* altstack.c: a stack for signal handlers, because the thread's own may be the thing that overflowed. */

struct altstack {
    void *(*routine)(void *); /* what the new thread is to run, for preload.c */
    void *argument;
};

/* NULL when there is no memory. */
struct altstack *altstack_init(void);
void altstack_deinit(struct altstack *altstack);

/* Let the calling thread use it until it ends, and free it then. One that the thread has already stays. */
void altstack_use(struct altstack *altstack);

/* crash.c */

bool crash_handlers_established(void);

#endif
