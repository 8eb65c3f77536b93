/* Between clone and exec: the process becomes who it shall be. */
#define _GNU_SOURCE
#include "kernel_call.h"
#include "spawn.h"

#include <sys/resource.h>

/* Groups first and the user last: who has given up root can give up nothing more. By the kernel's calls, which
 * are about one thread: the C library's would be about all threads of the monitor. */
static long become_user(const struct gimli_spawn *told)
{
    long result = kernel_call(SYS_setgroups, (long)told->groups_count, (long)told->groups, 0, 0, 0);
    if (result == 0)
        result = kernel_call(SYS_setresgid, told->gid, told->gid, told->gid, 0, 0);
    if (result == 0)
        result = kernel_call(SYS_setresuid, told->uid, told->uid, told->uid, 0, 0);
    return result;
}

long gimli_apply_attributes(const struct gimli_spawn *told, const char **ret_what)
{
    /* While still root, which may raise a limit. */
    for (size_t i = 0; i < told->limits_count; i++) {
        const struct gimli_limit *limit = &told->limits[i];
        const struct rlimit wanted = {limit->soft, limit->hard};
        long result = kernel_call(SYS_prlimit64, 0, limit->resource, (long)&wanted, 0, 0);
        if (result < 0) {
            *ret_what = limit->name;
            return result;
        }
    }
    if (told->umask >= 0)
        kernel_call(SYS_umask, told->umask, 0, 0, 0, 0);
    *ret_what = told->user;
    return told->has_user ? become_user(told) : 0;
}
