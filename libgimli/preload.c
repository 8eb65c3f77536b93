/* What makes the library work in a program that was never linked with it, by LD_PRELOAD.
 *
 * Crashes are caught from the start, and in all threads. Nothing is written to the page before a crash: a
 * program that does not beat must not look as if it did.
 */
#define _GNU_SOURCE
#include "libgimli.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "private.h"

typedef int (*pthread_create_t)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

__attribute__((constructor)) static void watch_from_the_start(void)
{
    int saved_errno = errno;
    if (secure_getenv("GIMLI_BELL") != NULL && heartbeat_map() && heartbeat_page() != NULL) {
        bell_init();
        gimli_establish_signal_handlers();
    }
    errno = saved_errno;
}

static void *start_with_altstack(void *argument)
{
    struct altstack start = *(struct altstack *)argument;
    altstack_use(argument);
    return start.routine(start.argument);
}

/* The C library's, with a stack for signal handlers. Threads that do not come through here (thrd_create,
 * clone) are watched too, but for an overflow of their stack. */
__attribute__((visibility("default"))) int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                                                          void *(*routine)(void *), void *argument)
{
    static _Atomic(pthread_create_t) real_create;
    pthread_create_t create = real_create;
    if (create == NULL) {
        *(void **)&create = dlsym(RTLD_NEXT, "pthread_create"); /* the default version */
        if (create == NULL)
            return ENOSYS;
        real_create = create;
    }

    struct altstack *altstack = crash_handlers_established() ? altstack_init() : NULL;
    if (altstack == NULL)
        return create(thread, attributes, routine, argument);
    *altstack = (struct altstack){.routine = routine, .argument = argument};
    int error = create(thread, attributes, start_with_altstack, altstack);
    if (error != 0)
        altstack_deinit(altstack);
    return error;
}
