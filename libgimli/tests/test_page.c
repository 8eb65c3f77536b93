/* The library against a page that the test makes itself, without a monitor.
 *
 * Each test runs in a process of its own, since a process attaches once. A failed CHECK names its line. */
#define _GNU_SOURCE
#include <libgimli.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heartbeat_layout.h"

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                    \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)

static void name_descriptor(int fd)
{
    char text[16];
    snprintf(text, sizeof text, "%d", fd);
    setenv("GIMLI_HB_FD", text, 1);
}

static int make_file(const void *content, size_t size)
{
    int fd = memfd_create("page", MFD_CLOEXEC); /* no name, as an original's segment */
    CHECK(fd >= 0 && write(fd, content, size) == (ssize_t)size);
    name_descriptor(fd);
    return fd;
}

/* As the monitor makes it. */
#define FRESH_PAGE {.magic = GIMLI_PAGE_MAGIC, .version = GIMLI_PAGE_VERSION, .size = GIMLI_PAGE_SIZE}

static struct gimli_page *make_page(void)
{
    struct gimli_page page = FRESH_PAGE;
    int fd = make_file(&page, sizeof page);
    struct gimli_page *shared = mmap(NULL, sizeof page, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(shared != MAP_FAILED);
    return shared;
}

static void check_refused_and_unchanged(int fd, const char *content, size_t size)
{
    char *now = malloc(size + 1);
    gimli_note("must not be written");
    CHECK(gimli_heartbeat_attach() == NULL);
    CHECK(pread(fd, now, size + 1, 0) == (ssize_t)size && memcmp(now, content, size) == 0);
    free(now);
}

static void test_without_a_monitor_everything_does_nothing(void)
{
    errno = 77;
    CHECK(gimli_heartbeat_attach() == NULL);
    gimli_heartbeat_set(NULL, GIMLI_HB_RUNNING);
    struct gimli_pulse *pulse = gimli_pulse_register("none", 1000);
    CHECK(pulse == NULL);
    gimli_pulse_beat(pulse);
    gimli_pulse_pause(pulse);
    gimli_pulse_resume(pulse);
    gimli_pulse_unregister(pulse);
    gimli_note("nothing");
    CHECK(errno == 77);
}

static void test_attach_marks_the_page_and_a_second_attach_changes_nothing(void)
{
    struct gimli_page *page = make_page();
    errno = 77;
    volatile struct gimli_heartbeat *hb = gimli_heartbeat_attach();
    CHECK(hb != NULL && errno == 77);
    CHECK(page->state == GIMLI_HB_STARTING && page->beat_ns != 0);
    CHECK(page->library == GIMLI_LIBRARY_C && page->attached_pid == getpid());
    gimli_heartbeat_set(hb, GIMLI_HB_RUNNING);
    CHECK(gimli_heartbeat_attach() == hb && page->state == GIMLI_HB_RUNNING);
    CHECK(errno == 77);
}

static void test_a_beat_counts_and_is_stamped_and_a_wrong_state_is_ignored(void)
{
    struct gimli_page *page = make_page();
    volatile struct gimli_heartbeat *hb = gimli_heartbeat_attach();
    gimli_heartbeat_set(hb, GIMLI_HB_RUNNING);
    int32_t ticks = page->ticks;
    uint64_t beat_ns = page->beat_ns;
    gimli_heartbeat_set(hb, GIMLI_HB_RUNNING);
    CHECK(page->ticks == ticks + 1 && page->beat_ns >= beat_ns);
    gimli_heartbeat_set(hb, 4);
    gimli_heartbeat_set(hb, -1);
    CHECK(page->state == GIMLI_HB_RUNNING && page->ticks == ticks + 1);
}

static void test_an_original_segment_gets_eight_bytes_and_no_more(void)
{
    const char zeros[8] = {0};
    int fd = make_file(zeros, sizeof zeros);
    struct gimli_page *page = mmap(NULL, sizeof *page, PROT_READ, MAP_SHARED, fd, 0);
    volatile struct gimli_heartbeat *hb = gimli_heartbeat_attach();
    CHECK(hb != NULL);
    gimli_heartbeat_set(hb, GIMLI_HB_RUNNING);
    gimli_note("must not be written");
    CHECK(gimli_pulse_register("none", 1000) == NULL);
    CHECK(page->state == GIMLI_HB_RUNNING && page->ticks == 2);
    for (size_t i = sizeof zeros; i < sizeof *page; i++)
        CHECK(((const char *)page)[i] == 0);
}

static void test_a_file_of_a_page_size_without_magic_is_foreign(void)
{
    char content[GIMLI_PAGE_SIZE];
    memset(content, 'x', sizeof content);
    check_refused_and_unchanged(make_file(content, sizeof content), content, sizeof content);
}

static void test_a_page_of_another_version_is_foreign(void)
{
    struct gimli_page page = FRESH_PAGE;
    page.version++;
    check_refused_and_unchanged(make_file(&page, sizeof page), (const char *)&page, sizeof page);
}

static void test_a_small_file_is_foreign(void)
{
    check_refused_and_unchanged(make_file("nine byte", 9), "nine byte", 9);
}

static void test_a_file_of_eight_bytes_with_a_name_is_foreign(void)
{
    char path[] = "/tmp/gimli-test-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && write(fd, "precious", 8) == 8);
    name_descriptor(fd);
    check_refused_and_unchanged(fd, "precious", 8);
    unlink(path);
}

static void test_a_page_open_for_reading_only_is_foreign(void)
{
    make_page();
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%s", getenv("GIMLI_HB_FD"));
    name_descriptor(open(path, O_RDONLY));
    CHECK(gimli_heartbeat_attach() == NULL);
}

static void test_what_is_no_number_of_an_open_file_is_refused(void)
{
    const char *texts[] = {"", "x", "3x", "-1", "999999", "99999999999999999999", "0x3"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        setenv("GIMLI_HB_FD", texts[i], 1);
        CHECK(gimli_heartbeat_attach() == NULL);
    }
}

static void test_a_pulse_goes_through_its_states(void)
{
    struct gimli_page *page = make_page();
    CHECK(gimli_pulse_register("too early", 1000) == NULL);
    gimli_heartbeat_attach();
    CHECK(gimli_pulse_register("never late", 0) == NULL);

    struct gimli_pulse *pulse = gimli_pulse_register("worker", 1500);
    const struct gimli_pulse *seen = &page->pulses[0];
    CHECK(pulse != NULL && seen->state == GIMLI_PULSE_ACTIVE && seen->tid == gettid());
    CHECK(strcmp(seen->name, "worker") == 0 && seen->interval_ns == UINT64_C(1500000000));
    uint64_t beat_ns = seen->beat_ns;
    CHECK(beat_ns != 0);
    gimli_pulse_pause(pulse);
    CHECK(seen->state == GIMLI_PULSE_PAUSED);
    gimli_pulse_resume(pulse);
    CHECK(seen->state == GIMLI_PULSE_ACTIVE && seen->beat_ns > beat_ns);
    gimli_pulse_unregister(pulse);
    CHECK(seen->state == GIMLI_PULSE_FREE);
}

static void test_a_long_pulse_name_is_cut_and_a_used_slot_keeps_nothing_of_it(void)
{
    struct gimli_page *page = make_page();
    char name[200];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    gimli_heartbeat_attach();
    struct gimli_pulse *pulse = gimli_pulse_register(name, 1000);
    CHECK(strlen(page->pulses[0].name) == GIMLI_PULSE_NAME_SIZE - 1);
    gimli_pulse_unregister(pulse);
    gimli_pulse_register("x", 1000);
    CHECK(memcmp(page->pulses[0].name, "x\0\0", 3) == 0);
}

static void test_pulse_33_is_refused_until_one_is_given_back(void)
{
    make_page();
    struct gimli_pulse *pulses[GIMLI_PULSES_MAX];
    gimli_heartbeat_attach();
    for (int i = 0; i < GIMLI_PULSES_MAX; i++)
        CHECK((pulses[i] = gimli_pulse_register("p", 1000)) != NULL);
    CHECK(gimli_pulse_register("one too many", 1000) == NULL);
    gimli_pulse_unregister(pulses[5]);
    CHECK(gimli_pulse_register("again", 1000) == pulses[5]);
}

static void test_a_new_image_of_the_same_process_drops_the_pulses_of_the_old_one(void)
{
    struct gimli_page page = FRESH_PAGE;
    page.attached_pid = getpid();
    page.pulses[3].state = GIMLI_PULSE_ACTIVE;
    int fd = make_file(&page, sizeof page);
    gimli_heartbeat_attach();
    CHECK(pread(fd, &page, sizeof page, 0) == (ssize_t)sizeof page);
    CHECK(page.pulses[3].state == GIMLI_PULSE_FREE);
}

static void test_a_note_is_replaced_whole_and_cut(void)
{
    struct gimli_page *page = make_page();
    char text[600];
    memset(text, 'n', sizeof text);
    text[sizeof text - 1] = '\0';
    gimli_heartbeat_attach();
    errno = 77;
    gimli_note("%s", text);
    CHECK(strlen(page->note) == GIMLI_NOTE_SIZE - 1 && errno == 77);
    gimli_note("order %d", 7);
    CHECK(strcmp(page->note, "order 7") == 0 && page->note[GIMLI_NOTE_SIZE - 2] == '\0');
}

static void test_a_forked_child_may_become_the_one_that_beats(void)
{
    struct gimli_page *page = make_page();
    volatile struct gimli_heartbeat *hb = gimli_heartbeat_attach();
    gimli_heartbeat_set(hb, GIMLI_HB_RUNNING);
    pid_t child = fork();
    if (child == 0)
        _exit(gimli_heartbeat_attach() == hb ? 0 : 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(page->attached_pid == child && page->state == GIMLI_HB_STARTING);
}

#define THREADS 8
#define BEATS 10000

static volatile struct gimli_heartbeat *common;

static void *beat_often(void *unused)
{
    struct gimli_pulse *pulse = gimli_pulse_register("thread", 1000);
    for (int i = 0; i < BEATS; i++) {
        gimli_heartbeat_set(common, GIMLI_HB_RUNNING);
        gimli_pulse_beat(pulse);
        if (i % 100 == 0)
            gimli_note("beat %d", i);
    }
    gimli_pulse_unregister(pulse);
    return unused;
}

static void test_no_beat_of_many_threads_is_lost(void)
{
    struct gimli_page *page = make_page();
    pthread_t threads[THREADS];
    common = gimli_heartbeat_attach();
    int32_t before = page->ticks;
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, beat_often, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(page->ticks == before + THREADS * BEATS);
    for (int i = 0; i < GIMLI_PULSES_MAX; i++)
        CHECK(page->pulses[i].state == GIMLI_PULSE_FREE);
}

static pthread_key_t last_key;
static pthread_barrier_t ended;

static void tell_end(void *unused)
{
    (void)unused;
    pthread_barrier_wait(&ended);
}

/* One thread that ends in the way of `how`, and tells so as late as it can. */
static void *end_somehow(void *how)
{
    stack_t stack;
    CHECK(sigaltstack(NULL, &stack) == 0 && !(stack.ss_flags & SS_DISABLE));
    pthread_setspecific(last_key, how);
    switch (*(const char *)how) {
    case 'e':
        pthread_exit(NULL);
    case 'c':
        for (;;)
            pause();
    default: /* 'r'eturns, 'd'etached */
        return NULL;
    }
}

/* Mappings of the size of an alternate stack without its guard, that is one for each thread alive. */
static int count_altstacks(void)
{
    unsigned long low, high;
    char permissions[5], line[512];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    bool after_guard = false;
    while (fgets(line, sizeof line, maps) != NULL) {
        CHECK(sscanf(line, "%lx-%lx %4s", &low, &high, permissions) == 3);
        if (after_guard && strcmp(permissions, "rw-p") == 0)
            count++;
        after_guard = high - low == 64 * 1024 && strcmp(permissions, "---p") == 0;
    }
    fclose(maps);
    return count;
}

static void test_alternate_stacks_are_freed_however_a_thread_ends(void)
{
    make_page();
    gimli_heartbeat_attach();
    pthread_key_create(&last_key, tell_end);
    int before = count_altstacks();
    for (int i = 0; i < 40; i++) {
        const char *how = &"recd"[i % 4];
        pthread_t thread;
        pthread_barrier_init(&ended, NULL, 2);
        CHECK(pthread_create(&thread, NULL, end_somehow, (void *)how) == 0);
        if (*how == 'd')
            pthread_detach(thread);
        if (*how == 'c')
            pthread_cancel(thread);
        pthread_barrier_wait(&ended);
        if (*how != 'd')
            CHECK(pthread_join(thread, NULL) == 0);
    }
    CHECK(before >= 1 && count_altstacks() - before <= 1); /* the last detached one may still be ending */
}

#define TEST(name) {#name, name}

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    TEST(test_without_a_monitor_everything_does_nothing),
    TEST(test_attach_marks_the_page_and_a_second_attach_changes_nothing),
    TEST(test_a_beat_counts_and_is_stamped_and_a_wrong_state_is_ignored),
    TEST(test_an_original_segment_gets_eight_bytes_and_no_more),
    TEST(test_a_file_of_a_page_size_without_magic_is_foreign),
    TEST(test_a_page_of_another_version_is_foreign),
    TEST(test_a_small_file_is_foreign),
    TEST(test_a_file_of_eight_bytes_with_a_name_is_foreign),
    TEST(test_a_page_open_for_reading_only_is_foreign),
    TEST(test_what_is_no_number_of_an_open_file_is_refused),
    TEST(test_a_pulse_goes_through_its_states),
    TEST(test_a_long_pulse_name_is_cut_and_a_used_slot_keeps_nothing_of_it),
    TEST(test_pulse_33_is_refused_until_one_is_given_back),
    TEST(test_a_new_image_of_the_same_process_drops_the_pulses_of_the_old_one),
    TEST(test_a_note_is_replaced_whole_and_cut),
    TEST(test_a_forked_child_may_become_the_one_that_beats),
    TEST(test_no_beat_of_many_threads_is_lost),
    TEST(test_alternate_stacks_are_freed_however_a_thread_ends),
};

/* All tests, or those with the argument in their name. */
int main(int argc, char *argv[])
{
    int failed = 0;
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (argc > 1 && strstr(tests[i].name, argv[1]) == NULL)
            continue;
        pid_t child = fork();
        if (child == 0) {
            tests[i].run();
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        failed += status != 0;
        printf("%s %s\n", status == 0 ? "ok" : "FAILED", tests[i].name);
        fflush(stdout);
    }
    return failed != 0;
}
