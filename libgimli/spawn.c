/* How the monitor starts a program: fork, wiring and exec without a line of Python in between.
 *
 * Not a part of the library that programs link with: the monitor's own, called through ctypes. After the fork
 * of a Python process every line of Python costs page faults; this costs next to none. It is a fork and not
 * a vfork, so that a program on a file server that hangs does not stop the monitor with it.
 *
 * The child is a copy of a process with one thread: what it calls need not be async-signal-safe.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define EXEC_FAILED 127
#define GIMLI_SPAWN_PID_ROOM 12 /* bytes behind the "=" of an own_pid variable */

struct gimli_spawn {
    char *const *argv;
    char *const *envp;
    const char *cwd;    /* NULL: the monitor's own */
    const char *input;  /* opened as standard input; NULL: inherited */
    const char *output; /* a FIFO, opened as standard output and error; NULL: inherited */
    int page_fd;        /* left open in the program under the same number; -1: none */
    int status_fd;      /* told "NAME: REASON" when the program cannot be started; close on exec */
    unsigned long descriptors_soft, descriptors_hard;
    const int *placed_from, *placed_at; /* descriptors, and the numbers under which the program has them; */
    size_t placed_count;                /* none of the numbers is one of the descriptors, or page_fd, status_fd */
    char *const *own_pid;               /* "NAME=" with room behind, also in envp: filled in with the pid */
};

/* Python ignores the first two, and a monitor blocks most. */
static void reset_signals(void)
{
    const struct sigaction usual = {.sa_handler = SIG_DFL};
    sigset_t none;
    sigaction(SIGPIPE, &usual, NULL);
    sigaction(SIGXFSZ, &usual, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int open_as(const char *path, int flags, int first, int last)
{
    int fd = open(path, flags);
    if (fd < 0)
        return -1;
    for (int standard = first; standard <= last; standard++)
        if (dup2(fd, standard) < 0)
            return -1;
    if (fd > STDERR_FILENO)
        close(fd);
    return 0;
}

static int place_descriptors(const struct gimli_spawn *told)
{
    for (size_t i = 0; i < told->placed_count; i++)
        if (dup2(told->placed_from[i], told->placed_at[i]) < 0)
            return -1;
    return 0;
}

/* The texts are the child's copies of the monitor's. */
static void write_own_pid(char *const *texts)
{
    for (; *texts != NULL; texts++)
        snprintf(*texts + strlen(*texts), GIMLI_SPAWN_PID_ROOM, "%d", (int)getpid());
}

/* Returns only when it failed: with the name of what could not be used. */
static const char *become(const struct gimli_spawn *told)
{
    const struct rlimit descriptors = {told->descriptors_soft, told->descriptors_hard};
    setsid();
    reset_signals();
    setrlimit(RLIMIT_NOFILE, &descriptors);
    if (told->input != NULL && open_as(told->input, O_RDONLY, STDIN_FILENO, STDIN_FILENO) < 0)
        return "input";
    /* Read and write: the program holds its own pipe open, so it outlives a monitor without SIGPIPE. */
    if (told->output != NULL && open_as(told->output, O_RDWR, STDOUT_FILENO, STDERR_FILENO) < 0)
        return "output";
    if (told->page_fd >= 0 && fcntl(told->page_fd, F_SETFD, 0) < 0)
        return "heartbeat page";
    if (place_descriptors(told) < 0)
        return "descriptors";
    if (told->cwd != NULL && chdir(told->cwd) < 0)
        return told->cwd;
    write_own_pid(told->own_pid);
    environ = (char **)told->envp; /* execvp looks the program up in the PATH that it will have */
    execvp(told->argv[0], told->argv);
    return told->argv[0];
}

/* Start a program. Returns its pid, or -1 with errno. */
__attribute__((visibility("default"))) int gimli_spawn(const struct gimli_spawn *told);

int gimli_spawn(const struct gimli_spawn *told)
{
    pid_t pid = fork();
    if (pid == 0) {
        const char *step = become(told);
        int why = errno;
        dprintf(told->status_fd, "%s: %s", step, strerror(why));
        _exit(EXEC_FAILED);
    }
    return pid;
}
