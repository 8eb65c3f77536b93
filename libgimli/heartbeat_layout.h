/* The heartbeat page: the one definition of the memory that a program and its monitor share.
 *
 * One 4096-byte page, a file in the monitor's runtime directory, inherited as the descriptor named by
 * GIMLI_HB_FD. The first eight bytes are the original library's whole segment, so a program linked with
 * that one beats on this page too. src/gimli/heartbeat.py is the Python side; tests/test_heartbeat_layout.py
 * compares every offset with the constants below.
 *
 * Who writes what: the program writes everything but `magic`, `version`, `size`, `wait_ms`, `flags` and
 * `crash.release`, which are the monitor's. Both sides treat the other's fields as hostile.
 */
#ifndef GIMLI_HEARTBEAT_LAYOUT_H
#define GIMLI_HEARTBEAT_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define GIMLI_PAGE_SIZE 4096
#define GIMLI_PAGE_MAGIC UINT64_C(0x42484d494c4d4947) /* the bytes "GIMLIMHB", little endian */
#define GIMLI_PAGE_VERSION 1

#define GIMLI_NOTE_SIZE 256      /* bytes with the final NUL */
#define GIMLI_PULSES_MAX 32
#define GIMLI_PULSE_NAME_SIZE 64 /* bytes with the final NUL */

/* gimli_page.flags, set by the monitor. */
#define GIMLI_PAGE_DIE_AT_ONCE 1u /* no snapshot is wanted: a crash handler must not wait */

/* gimli_page.library, set by the program when it attaches: which side of the ABI beats here. */
#define GIMLI_LIBRARY_NONE 0u     /* nobody, or the original library, which knows eight bytes only */
#define GIMLI_LIBRARY_C 1u
#define GIMLI_LIBRARY_PYTHON 2u

/* gimli_pulse.state */
#define GIMLI_PULSE_FREE 0u
#define GIMLI_PULSE_CLAIMED 1u /* being filled in: not watched yet */
#define GIMLI_PULSE_ACTIVE 2u  /* silent for longer than its interval means hung */
#define GIMLI_PULSE_PAUSED 3u  /* registered, not watched */

/* A crash asks for a snapshot by ticket. The handler takes `owner` (compare and swap 0 -> its tid), fills
 * the record, increments `request`, rings the bell and waits on `release` (a futex word) until it has
 * reached its ticket: (int32_t)(release - ticket) >= 0. Then it sets `owner` to 0 and dies. */
struct gimli_crash {
    int32_t signo;            /* offset  32 */
    int32_t code;             /*         36  si_code */
    uint64_t address;         /*         40  si_addr */
    int32_t pid;              /*         48  whose crash: a worker of the service has a pid of its own */
    int32_t tid;              /*         52 */
    _Atomic uint32_t request; /*         56  the last ticket asked for */
    _Atomic uint32_t release; /*         60  the last ticket answered; futex */
    uint64_t time_ns;         /*         64  CLOCK_MONOTONIC */
    uint64_t ucontext;        /*         72  address of the handler's ucontext_t in the program */
    uint64_t siginfo;         /*         80  address of its siginfo_t */
    _Atomic uint32_t owner;   /*         88  tid that fills the record, 0 when free */
    uint32_t reserved[9];     /*         92 */
};

struct gimli_pulse {
    _Atomic uint32_t state;            /* offset  0 */
    int32_t tid;                       /*         4  the thread that beats it */
    uint64_t interval_ns;              /*         8  silence allowed */
    _Atomic uint64_t beat_ns;          /*        16  CLOCK_MONOTONIC of its last beat */
    uint64_t reserved[3];              /*        24 */
    char name[GIMLI_PULSE_NAME_SIZE];  /*        48 */
};

struct gimli_page {
    _Atomic int32_t state;        /* offset   0  GIMLI_HB_* */
    _Atomic int32_t ticks;        /*          4 */
    uint64_t magic;               /*          8 */
    uint32_t version;             /*         16 */
    uint32_t size;                /*         20 */
    _Atomic uint64_t beat_ns;     /*         24  CLOCK_MONOTONIC of the last beat */
    struct gimli_crash crash;     /*         32 */
    char note[GIMLI_NOTE_SIZE];   /*        128 */
    uint32_t library;             /*        384  GIMLI_LIBRARY_* */
    int32_t attached_pid;         /*        388 */
    uint32_t wait_ms;             /*        392  how long a crash handler may wait for its snapshot */
    _Atomic uint32_t flags;       /*        396  GIMLI_PAGE_* */
    uint32_t reserved[28];        /*        400 */
    struct gimli_pulse pulses[GIMLI_PULSES_MAX]; /* 512, 112 bytes each */
};

static_assert(sizeof(struct gimli_page) == GIMLI_PAGE_SIZE, "the page is the ABI");
static_assert(sizeof(struct gimli_crash) == 96, "the crash record is the ABI");
static_assert(sizeof(struct gimli_pulse) == 112, "a pulse is the ABI");
static_assert(offsetof(struct gimli_page, magic) == 8, "ABI");
static_assert(offsetof(struct gimli_page, beat_ns) == 24, "ABI");
static_assert(offsetof(struct gimli_page, crash) == 32, "ABI");
static_assert(offsetof(struct gimli_page, crash.request) == 56, "ABI");
static_assert(offsetof(struct gimli_page, crash.release) == 60, "ABI");
static_assert(offsetof(struct gimli_page, crash.owner) == 88, "ABI");
static_assert(offsetof(struct gimli_page, note) == 128, "ABI");
static_assert(offsetof(struct gimli_page, library) == 384, "ABI");
static_assert(offsetof(struct gimli_page, wait_ms) == 392, "ABI");
static_assert(offsetof(struct gimli_page, flags) == 396, "ABI");
static_assert(offsetof(struct gimli_page, pulses) == 512, "ABI");
static_assert(offsetof(struct gimli_pulse, beat_ns) == 16, "ABI");
static_assert(offsetof(struct gimli_pulse, name) == 48, "ABI");

#endif
