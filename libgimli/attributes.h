/* What a program is given besides its command: who it is, and what it may use. */
#ifndef GIMLI_ATTRIBUTES_H
#define GIMLI_ATTRIBUTES_H

#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

struct gimli_limit {
    const char *name; /* for the error: "limit nofile" */
    int resource;     /* RLIMIT_... */
    rlim_t soft, hard;
};

struct gimli_attributes {
    const char *user; /* for the error: "user www"; NULL: the monitor's own user, and the next four unused */
    const gid_t *groups;
    size_t groups_count;
    uid_t uid;
    gid_t gid;
    int umask; /* -1: the monitor's own */
    const struct gimli_limit *limits;
    size_t limits_count;
};

/* Give them to this process, for ever. Returns NULL, or the name of what could not be had, with errno. */
const char *gimli_attributes_apply(const struct gimli_attributes *told);

#endif
