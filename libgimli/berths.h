/* Descriptors that a child finds in the monitor's own table. The monitor's own, not for programs.
 *
 * A monitor of a thousand services has four thousand descriptors. A child with a copy of that table would close
 * them one after the other at its exec, which takes a millisecond. So it shares the table, and takes a copy of the
 * lowest numbers as the first that it does: what it needs has been put there.
 */
#ifndef GIMLI_BERTHS_H
#define GIMLI_BERTHS_H

#include <stdbool.h>

#define BERTH_DESCRIPTORS 3

struct berth {
    int numbers[BERTH_DESCRIPTORS];
    bool is_taken; /* by a child that has yet to take its copy */
};

/* One that is free, with copies of these descriptors (-1: none); NULL when there is none. */
struct berth *gimli_berth_take(const int descriptors[BERTH_DESCRIPTORS]);

/* Let go of its descriptors. */
void gimli_berth_clear(struct berth *berth);

/* The number above all of those of berths. */
int gimli_berths_end(void);

/* For a child in a table of its own: close what other children found there. A copy of another's status pipe would
 * hide the end of that pipe, and so that the other one has begun. By the kernel's calls. */
void gimli_berths_close_others(const struct berth *own);

#endif
