/* A program that runs well until it is told to crash, or to hang.
 *
 *   victim crash|hang TRIGGER RECORD
 *
 * A byte in the FIFO TRIGGER is the word. RECORD gets a line for each thing that counts, stamped with
 * CLOCK_MONOTONIC in nanoseconds: "main" before anything else is done, "crash" as the last thing before the
 * fault, "hang" with the time of the last beat. */
#include <libgimli.h>

#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BEAT_EVERY_MS 20
#define SILENCE_ALLOWED_MS 200 /* bench/hangs.py knows it too */

static int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void record(int fd, const char *what, int64_t at_ns)
{
    char line[64];
    int length = snprintf(line, sizeof line, "%s %lld\n", what, (long long)at_ns);
    if (write(fd, line, (size_t)length) != length)
        _exit(1);
}

__attribute__((noinline)) static int divide_the_spoils(const int *share)
{
    return *share;
}

int main(int argc, char *argv[])
{
    int64_t main_ns = clock_ns();
    if (argc != 4)
        return 2;
    struct pollfd trigger = {.fd = open(argv[2], O_RDWR | O_CLOEXEC), .events = POLLIN};
    int fd = open(argv[3], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (trigger.fd < 0 || fd < 0)
        return 1;
    record(fd, "main", main_ns);

    volatile struct gimli_heartbeat *hb = gimli_heartbeat_attach();
    struct gimli_pulse *pulse = gimli_pulse_register("work", SILENCE_ALLOWED_MS);
    int64_t beat_ns;
    char word;
    do {
        gimli_heartbeat_set(hb, GIMLI_HB_RUNNING);
        beat_ns = clock_ns();
        gimli_pulse_beat(pulse);
    } while (poll(&trigger, 1, BEAT_EVERY_MS) == 0);
    if (read(trigger.fd, &word, 1) != 1)
        return 1;

    if (strcmp(argv[1], "hang") == 0) {
        record(fd, "hang", beat_ns);
        pause();
        return 0;
    }
    record(fd, "crash", clock_ns());
    return divide_the_spoils(NULL);
}
