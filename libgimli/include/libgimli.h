/* libgimli: how a program tells its monitor that it is alive, and what it is doing when it is not.
 *
 * Link with it (cc prog.c $(gimli --cflags --libs)) or let `gimli run` preload it. Without a monitor
 * everything here does nothing and costs next to nothing, so a program need not ask whether there is one.
 *
 * The first part is the original libgimli's interface, name by name and value by value. Unless it says
 * otherwise, a function may be called from any thread, and leaves errno alone.
 */
#ifndef LIBGIMLI_H
#define LIBGIMLI_H

#include <signal.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* ---- The original's interface ---- */

struct gimli_heartbeat;

#define GIMLI_HB_NOT_SUPP 0 /* no beats are to be expected (yet) */
#define GIMLI_HB_STARTING 1 /* the start interval holds */
#define GIMLI_HB_RUNNING 2  /* the watchdog's interval holds */
#define GIMLI_HB_STOPPING 3 /* the stop interval holds */

/* The heartbeat of this program, in the state STARTING, or NULL when no monitor watches it. Also calls
 * gimli_establish_signal_handlers(). A second call returns the same and changes nothing; in a child made by
 * fork, it makes the child the program that beats. */
volatile struct gimli_heartbeat *gimli_heartbeat_attach(void);

/* Catch SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE and SIGSYS: let the monitor take a snapshot, call the
 * shutdown function, and die by that same signal. attach does this; call it again after a library has
 * installed handlers of its own. A signal that the program ignores stays ignored. */
void gimli_establish_signal_handlers(void);

/* Beat, in this state. A null hb is allowed. */
void gimli_heartbeat_set(volatile struct gimli_heartbeat *hb, int state);

typedef void (*gimli_shutdown_func_t)(int signo, siginfo_t *si);

/* Have func called between the snapshot and the end of a program that crashed; NULL for none. It runs in
 * the signal handler, on a small stack and with all signals blocked: call only what signal-safety(7) lists.
 * A crash inside it ends the program at once. */
void gimli_set_shutdown_func(gimli_shutdown_func_t func);

/* ---- Pulses: one beat for each thread or loop that can get stuck by itself ---- */

struct gimli_pulse;

/* A pulse of the calling thread, which from now on beats it at least every interval_ms; a longer silence is
 * a hang of this thread, also when the program beats. A thread that ends must unregister its pulse first.
 * The name is cut after 63 bytes. NULL, which all functions below allow, when there is no monitor, when
 * interval_ms is 0, or when 32 pulses are in use. Needs gimli_heartbeat_attach() first. */
struct gimli_pulse *gimli_pulse_register(const char *name, unsigned int interval_ms);

/* The thread is alive. */
void gimli_pulse_beat(struct gimli_pulse *pulse);

/* The thread is about to wait for as long as it takes: don't watch this pulse until it is resumed. */
void gimli_pulse_pause(struct gimli_pulse *pulse);

/* Watch it again, as a pulse of the calling thread. */
void gimli_pulse_resume(struct gimli_pulse *pulse);

/* Give it up. The handle is invalid from here on. */
void gimli_pulse_unregister(struct gimli_pulse *pulse);

/* ---- Note: what the program is doing, for its status and its reports ---- */

/* Replace the note; arguments as for printf, 255 bytes are kept. Not for signal handlers. Of two notes
 * written at the same time one stays. */
void gimli_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
