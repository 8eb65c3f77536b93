/* Between fork and exec: the process becomes who it shall be. */
#define _GNU_SOURCE
#include "attributes.h"

#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

/* Groups first and the user last: who has given up root can give up nothing more. */
static int become_user(const struct gimli_attributes *told)
{
    if (setgroups(told->groups_count, told->groups) < 0)
        return -1;
    if (setresgid(told->gid, told->gid, told->gid) < 0)
        return -1;
    return setresuid(told->uid, told->uid, told->uid);
}

const char *gimli_attributes_apply(const struct gimli_attributes *told)
{
    /* While still root, which may raise a limit. */
    for (size_t i = 0; i < told->limits_count; i++) {
        const struct gimli_limit *limit = &told->limits[i];
        const struct rlimit wanted = {limit->soft, limit->hard};
        if (setrlimit(limit->resource, &wanted) < 0)
            return limit->name;
    }
    if (told->umask >= 0)
        umask((mode_t)told->umask);
    if (told->user != NULL && become_user(told) < 0)
        return told->user;
    return NULL;
}
