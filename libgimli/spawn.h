/* One start of a program: what was ordered, and where the child does it. The monitor's own, not for programs. */
#ifndef GIMLI_SPAWN_H
#define GIMLI_SPAWN_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct gimli_limit {
    uint64_t soft, hard;
    const char *name; /* for the error: "limit nofile" */
    int resource;     /* RLIMIT_... */
};

struct gimli_placed {
    int32_t from, at; /* a descriptor, and the number under which the program has it */
};

struct gimli_spawn {
    atomic_int *shares_table; /* while not 0, the table of descriptors is the monitor's (berths.h) */
    const struct berth *berth; /* where its descriptors are; NULL: elsewhere */
    int table_end;            /* of the child's own copy of it */
    int page_fd;   /* left open in the program under the same number; -1: none */
    int status_fd; /* told "ERRNO WHAT" when the program cannot be started; close on exec */
    int record_fd; /* the run record, locked; close on exec; -1: a command that nobody needs to find again */
    uint64_t descriptors_soft, descriptors_hard;
    int has_session; /* 0: it stays in the monitor's, as the original's setsid = 0 */
    int umask;       /* -1: the monitor's own */
    int has_user;    /* 0: the monitor's own, and the next four unused */
    uint32_t uid, gid;
    const uint32_t *groups;
    size_t groups_count;
    const char *user; /* for the error: "user www" */
    struct gimli_limit *limits;
    size_t limits_count;
    const struct gimli_placed *placed; /* no `at` is a `from`, or page_fd, status_fd, record_fd */
    size_t placed_count;
    const char *boot_id;
    const char *cwd;     /* NULL: the monitor's own */
    const char *input;   /* opened as standard input; NULL: inherited */
    const char *output;  /* a FIFO, opened as standard output and error; NULL: inherited */
    const char *program; /* what is executed; argv[0] is only its name */
    char **argv;         /* argv[-1] is room for the name of a shell */
    char **envp;
    size_t own_pid_count; /* so many of envp are "NAME=" with room for a pid: filled in by the child */
};

/* The child: become the program. It shares the monitor's memory until then, so that it calls nothing that
 * writes outside of its stack and of what it was given: no errno, no allocation, no locale. */
_Noreturn void gimli_become(const struct gimli_spawn *told);

/* Give a program its user, umask and limits, for ever. Returns 0, or a negative errno and what it was about. */
long gimli_apply_attributes(const struct gimli_spawn *told, const char **ret_what);

#endif
