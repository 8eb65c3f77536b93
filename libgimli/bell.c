/* The monitor's bell: an AF_UNIX datagram socket at GIMLI_BELL, rung with the name in GIMLI_SERVICE.
 *
 * The socket is opened early and kept, because a program that crashes may by then be in a chroot, under
 * another user or out of descriptors. But programs also close descriptors that they don't know, and the
 * number may be another file's by now: so the socket is recognised by its inode before each use.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "private.h"

/* Out of the way of programs that expect the descriptors they open to be 3, 4, 5. */
#define KEPT_FD_MIN 200

static struct sockaddr_un address;
static char service[256];

/* The kept socket. The number is published last. */
static dev_t kept_device;
static ino_t kept_inode;
static _Atomic int kept_fd = -1;

static bool copy_environment(const char *name, size_t size, char *ret)
{
    const char *value = secure_getenv(name);
    if (value == NULL || *value == '\0' || strlen(value) >= size)
        return false;
    strcpy(ret, value);
    return true;
}

static bool is_kept(int fd)
{
    struct stat file;
    return fd >= 0 && fstat(fd, &file) == 0 && S_ISSOCK(file.st_mode) && file.st_dev == kept_device &&
           file.st_ino == kept_inode;
}

/* A new socket to the monitor, or -1 with errno. */
static int open_bell(void)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

void bell_init(void)
{
    if (is_kept(kept_fd))
        return;
    if (!copy_environment("GIMLI_BELL", sizeof address.sun_path, address.sun_path) ||
        !copy_environment("GIMLI_SERVICE", sizeof service, service))
        return;
    address.sun_family = AF_UNIX;

    int fd = open_bell();
    if (fd < 0)
        return;
    int high_fd = fcntl(fd, F_DUPFD_CLOEXEC, KEPT_FD_MIN);
    if (high_fd >= 0) { /* not above the limit on descriptors */
        close(fd);
        fd = high_fd;
    }
    struct stat file;
    if (fstat(fd, &file) != 0) {
        close(fd);
        return;
    }
    kept_fd = -1;
    kept_device = file.st_dev;
    kept_inode = file.st_ino;
    kept_fd = fd;
}

static enum bell ring(int fd)
{
    if (send(fd, service, strlen(service), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return BELL_RUNG;
    return errno == EAGAIN || errno == ENOBUFS ? BELL_BUSY : BELL_GONE;
}

enum bell bell_ring(void)
{
    if (address.sun_family != AF_UNIX)
        return BELL_GONE;
    int saved_errno = errno;
    int fd = kept_fd;
    enum bell result = is_kept(fd) ? ring(fd) : BELL_GONE;
    /* Closed by the program, or its monitor was replaced by another at the same path. This socket is not
     * kept: two threads would have to agree on it, and rings are rare. */
    if (result == BELL_GONE && (fd = open_bell()) >= 0) {
        result = ring(fd);
        close(fd);
    }
    errno = saved_errno;
    return result;
}

bool bell_is_gone(void)
{
    int saved_errno = errno;
    int fd = open_bell();
    bool refused = fd < 0 && (errno == ECONNREFUSED || errno == ENOENT);
    if (fd >= 0)
        close(fd);
    errno = saved_errno;
    /* The path alone proves nothing, in a chroot it means another file. The kept socket knows. */
    return refused && bell_ring() == BELL_GONE;
}
