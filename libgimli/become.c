/* From clone to exec: session, record, descriptors, attributes, and the program in place of this process.
 *
 * The child runs while the monitor does, in the same memory (spawn.c): see spawn.h for what it may call. Of the
 * C library that is memcpy and what reads strings.
 */
#define _GNU_SOURCE
#include "berths.h"
#include "kernel_call.h"
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define EXEC_FAILED 127
#define RECORD_BYTES 128 /* as in monitor/records.py */
#define DECIMAL_BYTES 20 /* of the largest 64-bit number */
#define STAT_BYTES 1024
#define WORD_BYTES 200 /* of what a step that failed is about, in the message */
#define SIGNALS_COUNT 64
#define USUAL_PATH "/bin:/usr/bin" /* execvp(3), where PATH is not set */
static char SHELL[] = "/bin/sh";

/* Texts, without stdio. Each returns the end of what was written. */

static char *put_text(char *at, const char *text, size_t size_max)
{
    size_t size = strnlen(text, size_max);
    memcpy(at, text, size);
    return at + size;
}

static char *put_number(char *at, unsigned long long number)
{
    char digits[DECIMAL_BYTES];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    while (count > 0)
        *at++ = digits[--count];
    return at;
}

static long own_pid(void)
{
    return kernel_call(SYS_getpid, 0, 0, 0, 0, 0);
}

static long open_file(const char *path, int flags)
{
    return kernel_call(SYS_openat, AT_FDCWD, (long)path, flags, 0, 0);
}

/* Field 22 of /proc/self/stat: when this process started, in clock ticks since boot; 0 without /proc. */
static unsigned long long start_ticks(void)
{
    char stat[STAT_BYTES];
    long fd = open_file("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    long size = kernel_call(SYS_read, fd, (long)stat, STAT_BYTES - 1, 0, 0);
    kernel_call(SYS_close, fd, 0, 0, 0, 0);
    if (size <= 0)
        return 0;
    stat[size] = '\0';
    const char *field = strrchr(stat, ')'); /* the name before it may hold spaces and brackets */
    for (int number = 2; field != NULL && number < 22; number++)
        field = strchr(field + 1, ' ');
    unsigned long long ticks = 0;
    for (field = field ? field + 1 : ""; *field >= '0' && *field <= '9'; field++)
        ticks = ticks * 10 + (unsigned)(*field - '0');
    return ticks;
}

/* Who runs, written by the one who will: a monitor that is killed right after its clone has no time to. Until
 * this has returned the lock on the record tells the next monitor to wait. */
static long record(const struct gimli_spawn *told)
{
    if (told->record_fd < 0)
        return 0;
    char line[RECORD_BYTES];
    memset(line, ' ', sizeof line);
    line[RECORD_BYTES - 1] = '\n';
    char *at = put_text(line, "running ", RECORD_BYTES);
    at = put_number(at, (unsigned long long)own_pid());
    *at++ = ' ';
    at = put_number(at, start_ticks());
    *at++ = ' ';
    put_text(at, told->boot_id, (size_t)(line + RECORD_BYTES - 1 - at));
    long written = kernel_call(SYS_pwrite64, told->record_fd, (long)line, RECORD_BYTES, 0, 0);
    if (written != RECORD_BYTES)
        return written < 0 ? written : -ENOSPC;
    return kernel_call(SYS_close, told->record_fd, 0, 0, 0, 0);
}

/* The monitor blocks most signals, Python ignores some and handles others: here all are as usual. What is blocked
 * stays so until this is done, since a handler would run in the monitor's memory. */
static void reset_signals(void)
{
    /* Source: arch/x86/include/asm/signal.h, arch/arm64/include/uapi/asm/signal.h, struct sigaction. */
    struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        unsigned long mask;
    } before, usual = {.handler = SIG_DFL};
    for (int signo = 1; signo <= SIGNALS_COUNT; signo++) {
        long result = kernel_call(SYS_rt_sigaction, signo, 0, (long)&before, sizeof before.mask, 0);
        bool is_ours = signo == SIGPIPE || signo == SIGXFSZ; /* ignored by Python, not by who started us */
        if (result == 0 && (is_ours || (before.handler != SIG_DFL && before.handler != SIG_IGN)))
            kernel_call(SYS_rt_sigaction, signo, (long)&usual, 0, sizeof usual.mask, 0);
    }
    const unsigned long none = 0;
    kernel_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&none, 0, sizeof none, 0);
}

static long open_as(const char *path, int flags, int first, int last)
{
    long fd = open_file(path, flags);
    if (fd < 0)
        return fd;
    for (int standard = first; standard <= last; standard++) {
        long result = fd == standard ? 0 : kernel_call(SYS_dup3, fd, standard, 0, 0, 0);
        if (result < 0)
            return result;
    }
    return fd > STDERR_FILENO ? kernel_call(SYS_close, fd, 0, 0, 0, 0) : 0;
}

/* Of the monitor's descriptors the lowest are enough, among them all that the child needs (Linux 5.9; before that,
 * copies of all). */
static long leave_table(const struct gimli_spawn *told)
{
    if (!atomic_load(told->shares_table))
        return 0;
    long result = kernel_call(SYS_close_range, told->table_end, ~0U, CLOSE_RANGE_UNSHARE, 0, 0);
    if (result < 0)
        result = kernel_call(SYS_unshare, CLONE_FILES, 0, 0, 0, 0);
    if (result == 0)
        atomic_store(told->shares_table, 0);
    return result;
}

static long place_descriptors(const struct gimli_spawn *told)
{
    for (size_t i = 0; i < told->placed_count; i++) {
        long result = kernel_call(SYS_dup3, told->placed[i].from, told->placed[i].at, 0, 0, 0);
        if (result < 0)
            return result;
    }
    return 0;
}

static void write_own_pid(const struct gimli_spawn *told)
{
    for (size_t i = 0; i < told->own_pid_count; i++)
        *put_number(strchr(told->envp[i], '=') + 1, (unsigned long long)own_pid()) = '\0';
}

/* As execvp(3): a text that is no program is a script for the shell. Returns only when it failed. */
static long execute(const struct gimli_spawn *told, char *path)
{
    long result = kernel_call(SYS_execve, (long)path, (long)told->argv, (long)told->envp, 0, 0);
    if (result != -ENOEXEC)
        return result;
    char **script = told->argv - 1;
    script[0] = SHELL;
    script[1] = path;
    return kernel_call(SYS_execve, (long)SHELL, (long)script, (long)told->envp, 0, 0);
}

static const char *search_path(char *const *envp)
{
    for (; *envp != NULL; envp++)
        if (strncmp(*envp, "PATH=", 5) == 0)
            return *envp + 5;
    return USUAL_PATH;
}

/* As execvp(3), by the PATH that the program will have. Returns only when it failed. */
static long search_and_execute(const struct gimli_spawn *told)
{
    char path[PATH_MAX];
    size_t name_bytes = strlen(told->program) + 1;
    if (strchr(told->program, '/') != NULL || name_bytes == 1)
        return name_bytes > 1 ? execute(told, (char *)told->program) : -ENOENT;
    bool is_forbidden = false;
    long result = -ENOENT;
    for (const char *directory = search_path(told->envp); directory != NULL;) {
        const char *end = strchrnul(directory, ':');
        size_t size = (size_t)(end - directory);
        if (size + 1 + name_bytes <= sizeof path) {
            char *at = put_text(path, directory, size);
            if (size > 0) /* an empty one is the present directory */
                *at++ = '/';
            memcpy(at, told->program, name_bytes);
            result = execute(told, path);
            is_forbidden |= result == -EACCES;
            if (result != -EACCES && result != -ENOENT && result != -ENOTDIR && result != -ESTALE &&
                result != -ENODEV && result != -ETIMEDOUT)
                return result;
        }
        directory = *end == ':' ? end + 1 : NULL;
    }
    return is_forbidden ? -EACCES : result;
}

/* Returns only when it failed: a negative errno, and what could not be used. */
static long become(const struct gimli_spawn *told, const char **ret_what)
{
    const struct rlimit descriptors = {told->descriptors_soft, told->descriptors_hard};
    long result;
    *ret_what = "descriptors";
    if ((result = leave_table(told)) < 0)
        return result;
    gimli_berths_close_others(told->berth);
    *ret_what = "run record";
    if ((result = record(told)) < 0)
        return result;
    if (told->has_session)
        kernel_call(SYS_setsid, 0, 0, 0, 0, 0);
    kernel_call(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&descriptors, 0, 0);
    *ret_what = "input";
    if (told->input != NULL && (result = open_as(told->input, O_RDONLY, STDIN_FILENO, STDIN_FILENO)) < 0)
        return result;
    /* Read and write: the program holds its own pipe open, so it outlives a monitor without SIGPIPE. */
    *ret_what = "output";
    if (told->output != NULL && (result = open_as(told->output, O_RDWR, STDOUT_FILENO, STDERR_FILENO)) < 0)
        return result;
    *ret_what = "heartbeat page";
    if (told->page_fd >= 0 && (result = kernel_call(SYS_fcntl, told->page_fd, F_SETFD, 0, 0, 0)) < 0)
        return result;
    *ret_what = "descriptors";
    if ((result = place_descriptors(told)) < 0)
        return result;
    /* After the monitor's own files, which another user could not open; before the directory, which is the
     * program's own. */
    if ((result = gimli_apply_attributes(told, ret_what)) < 0)
        return result;
    *ret_what = told->cwd;
    if (told->cwd != NULL && (result = kernel_call(SYS_chdir, (long)told->cwd, 0, 0, 0, 0)) < 0)
        return result;
    write_own_pid(told);
    reset_signals();
    *ret_what = told->program;
    return search_and_execute(told);
}

_Noreturn void gimli_become(const struct gimli_spawn *told)
{
    const char *what = "";
    long result = become(told, &what);
    char message[DECIMAL_BYTES + 1 + WORD_BYTES];
    char *end = put_number(message, (unsigned long long)-result);
    *end++ = ' ';
    end = put_text(end, what, WORD_BYTES);
    kernel_call(SYS_write, told->status_fd, (long)message, end - message, 0, 0);
    for (;;)
        kernel_call(SYS_exit_group, EXEC_FAILED, 0, 0, 0, 0);
}
