/* See berths.h. Where the monitor is alone these are ordinary calls. */
#define _GNU_SOURCE
#include "berths.h"

#include "kernel_call.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BERTHS_MAX 8
#define NUMBER_MAX 256 /* higher ones would have a child copy too much */

static struct berth berths[BERTHS_MAX];
static size_t berths_count;
static int null_fd = -1, end;

/* Take numbers for berths, before the services take them. Returns how many berths there are. */
__attribute__((visibility("default"))) int gimli_reserve_berths(void);

static int reserve(struct berth *berth)
{
    for (int i = 0; i < BERTH_DESCRIPTORS; i++) {
        berth->numbers[i] = fcntl(null_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        if (berth->numbers[i] >= 0 && berth->numbers[i] < NUMBER_MAX)
            continue;
        for (; i >= 0; i--)
            close(berth->numbers[i]);
        return -1;
    }
    return 0;
}

int gimli_reserve_berths(void)
{
    if (null_fd < 0)
        null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    while (null_fd >= 0 && berths_count < BERTHS_MAX && reserve(&berths[berths_count]) == 0) {
        for (int i = 0; i < BERTH_DESCRIPTORS; i++)
            if (berths[berths_count].numbers[i] >= end)
                end = berths[berths_count].numbers[i] + 1;
        berths_count++;
    }
    return (int)berths_count;
}

int gimli_berths_end(void)
{
    return end;
}

struct berth *gimli_berth_take(const int descriptors[BERTH_DESCRIPTORS])
{
    for (size_t i = 0; i < berths_count; i++) {
        if (berths[i].is_taken)
            continue;
        for (int j = 0; j < BERTH_DESCRIPTORS; j++)
            if (descriptors[j] >= 0)
                dup3(descriptors[j], berths[i].numbers[j], O_CLOEXEC);
        berths[i].is_taken = true;
        return &berths[i];
    }
    return NULL;
}

void gimli_berths_close_others(const struct berth *own)
{
    for (size_t i = 0; i < berths_count; i++)
        for (int j = 0; &berths[i] != own && j < BERTH_DESCRIPTORS; j++)
            kernel_call(SYS_close, berths[i].numbers[j], 0, 0, 0, 0);
}

void gimli_berth_clear(struct berth *berth)
{
    for (int i = 0; i < BERTH_DESCRIPTORS; i++)
        dup3(null_fd, berth->numbers[i], O_CLOEXEC);
    berth->is_taken = false;
}
