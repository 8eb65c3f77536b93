/* System calls as the kernel has them: the result, or a negative errno. Nothing else is written.
 *
 * For a process that shares its memory with another one, where the C library's errno is that one's as well
 * (spawn.c). Source: syscall(2), "Architecture calling conventions".
 */
#ifndef GIMLI_KERNEL_CALL_H
#define GIMLI_KERNEL_CALL_H

#include <sys/syscall.h>

#if defined(__x86_64__)

static inline long kernel_call(long number, long a, long b, long c, long d, long e)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

#elif defined(__aarch64__)

static inline long kernel_call(long number, long a, long b, long c, long d, long e)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}

#else
#error "the kernel's calling convention of this architecture is not known here: see syscall(2)"
#endif

/* clone3: the child calls run(argument) on the stack that `how` names, and run never returns.
 * The kernel keeps all registers but those of the result, in the child too. */
static inline long kernel_clone3(const void *how, long how_bytes, void (*run)(void *), void *argument)
{
#if defined(__x86_64__)
    long result;
    register void (*r12)(void *) __asm__("r12") = run;
    register void *r13 __asm__("r13") = argument;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t" /* the outermost frame */
                     "mov %[argument], %%rdi\n\t"
                     "call *%[run]\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(result)
                     : "0"(SYS_clone3), "D"(how), "S"(how_bytes), [run] "r"(r12), [argument] "r"(r13)
                     : "rcx", "r11", "memory", "cc");
    return result;
#else
    register long x8 __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)how;
    register long x1 __asm__("x1") = how_bytes;
    register void (*x20)(void *) __asm__("x20") = run;
    register void *x21 __asm__("x21") = argument;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, xzr\n\t" /* the outermost frame */
                     "mov x30, xzr\n\t"
                     "mov x0, %[argument]\n\t"
                     "blr %[run]\n\t"
                     "brk #0\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), [run] "r"(x20), [argument] "r"(x21)
                     : "memory", "cc");
    return x0;
#endif
}

#endif
