/* What does one beat cost? In nanoseconds, best of many rounds; the clock alone to compare.
 *
 * Needs a page: bench/beat_c.py makes one, compiles and runs this. */
#include <libgimli.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define ROUNDS 50
#define BEATS 200000

static volatile struct gimli_heartbeat *hb;
static struct gimli_pulse *pulse;

static void beat_state(void)
{
    gimli_heartbeat_set(hb, GIMLI_HB_RUNNING);
}

static void beat_pulse(void)
{
    gimli_pulse_beat(pulse);
}

static void beat_nothing(void)
{
    gimli_heartbeat_set(NULL, GIMLI_HB_RUNNING);
}

static void read_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
}

static int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static double best_ns(void (*beat)(void))
{
    int64_t best = INT64_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t start = clock_ns();
        for (int i = 0; i < BEATS; i++)
            beat();
        int64_t took = clock_ns() - start;
        if (took < best)
            best = took;
    }
    return (double)best / BEATS;
}

int main(void)
{
    hb = gimli_heartbeat_attach();
    if (hb == NULL)
        return 1;
    gimli_heartbeat_set(hb, GIMLI_HB_RUNNING);
    pulse = gimli_pulse_register("bench", 60000);
    printf("{\"beat_ns\": %.1f, \"pulse_ns\": %.1f, \"without_monitor_ns\": %.1f, \"clock_ns\": %.1f}\n",
           best_ns(beat_state), best_ns(beat_pulse), best_ns(beat_nothing), best_ns(read_clock));
    return 0;
}
