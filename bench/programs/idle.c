/* A program that says when it began, and then does nothing: idle RECORD.
 *
 * RECORD gets 16 bytes per start, appended in one write: u64 pid, u64 CLOCK_MONOTONIC in nanoseconds. */
#include <fcntl.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char *argv[])
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (argc != 2)
        return 2;
    uint64_t record[2] = {(uint64_t)getpid(), (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec};
    int fd = open(argv[1], O_WRONLY | O_APPEND);
    if (fd < 0 || write(fd, record, sizeof record) != sizeof record)
        return 1;
    close(fd);
    for (;;)
        pause();
}
