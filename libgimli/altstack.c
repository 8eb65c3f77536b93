/* Stacks for signal handlers: one mapping each, with a guard page below and the start record at the top. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "private.h"

/* Room for the largest frame that a kernel pushes (11 KB with AMX) and for a shutdown function. */
#define STACK_SIZE (64 * 1024)
#define GUARD_SIZE (64 * 1024) /* a page, whatever its size */

/* What the mapping holds, from its lowest address. */
struct mapping {
    char guard[GUARD_SIZE];
    char stack[STACK_SIZE - sizeof(struct altstack)];
    struct altstack altstack;
};

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key; /* its destructor runs however a thread ends: return, exit or cancellation */

static struct mapping *mapping_of(struct altstack *altstack)
{
    return (struct mapping *)((char *)altstack - offsetof(struct mapping, altstack));
}

struct altstack *altstack_init(void)
{
    struct mapping *mapping = mmap(NULL, sizeof *mapping, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (mapping == MAP_FAILED)
        return NULL;
    mprotect(mapping->guard, sizeof mapping->guard, PROT_NONE);
    return &mapping->altstack;
}

void altstack_deinit(struct altstack *altstack)
{
    munmap(mapping_of(altstack), sizeof(struct mapping));
}

static void thread_ends(void *value)
{
    struct altstack *altstack = value;
    stack_t stack;
    if (sigaltstack(NULL, &stack) == 0 && stack.ss_sp == mapping_of(altstack)->stack) {
        stack = (stack_t){.ss_flags = SS_DISABLE};
        sigaltstack(&stack, NULL);
    }
    altstack_deinit(altstack);
}

static void create_key(void)
{
    pthread_key_create(&key, thread_ends);
}

void altstack_use(struct altstack *altstack)
{
    stack_t stack;
    if (sigaltstack(NULL, &stack) == 0 && !(stack.ss_flags & SS_DISABLE)) {
        altstack_deinit(altstack);
        return;
    }
    struct mapping *mapping = mapping_of(altstack);
    stack = (stack_t){.ss_sp = mapping->stack, .ss_size = sizeof mapping->stack};
    sigaltstack(&stack, NULL);
    pthread_once(&key_once, create_key);
    pthread_setspecific(key, altstack);
}
