/* One program with every way to go down that the analysis explains: faults MODE. */

#define _GNU_SOURCE
#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum priority { LOW = 1, NORMAL = 5, URGENT = 9 };

struct flags {
  unsigned urgent : 1;
  unsigned retries : 5;
  int balance : 6;
};

union amount {
  int64_t cents;
  unsigned char bytes[8];
};

struct route {
  int hops;
  char host[16];
  struct route *next;
};

struct letter {
  struct flags flags;
  union amount amount;
  enum priority priority;
  struct route via;
  const char *subject;
  int (*handler)(struct route *);
  struct {
    int inner;
  };
};

struct account {
  char owner[8];
  pthread_mutex_t lock;
};

static struct route local_route = {3, "mx.example.org", NULL};
static pthread_mutex_t ledger = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t index_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t both;
static const char constant[] = "never changes";
static volatile int sink;

/* Told on standard output once the program stands where the test wants it. */
static void ready(void) {
  puts("ready");
  fflush(stdout);
}

static int first_hop(struct route *route) { return route->hops; }

__attribute__((noinline)) static int deliver(struct route *route, struct letter *letter, double weight) {
  char buffer[32];
  int table[4] = {1, 2, 3, 4};
  const char *unreadable = (const char *)0x10;
  snprintf(buffer, sizeof buffer, "to %s", letter->subject);
  sink = table[2] + (int)weight + (unreadable != NULL);
  return route->hops + letter->priority;
}

static void crash_null(void) {
  struct letter letter = {{1, 17, -3}, {1299}, URGENT, local_route, "an \"urgent\"\nletter", first_hop, {77}};
  struct route *route = NULL;
  sink = deliver(route, &letter, 2.5);
}

static void crash_member(void) {
  struct route *route = &local_route;
  sink = route->next->hops;
}

static void crash_strlen(void) {
  char *name = sink ? "x" : NULL;
  sink = (int)strlen(name);
}

static void crash_wild(void) {
  struct route *stale = (struct route *)0x4141414141;
  sink = stale->hops;
}

static void crash_readonly(void) {
  char *text = (char *)constant;
  text[0] = 'N';
}

__attribute__((noinline)) static int walk(int depth) {
  volatile char room[512];
  room[0] = (char)depth;
  return walk(depth + 1) + room[0];
}

static int odd(int n);
__attribute__((noinline)) static int even(int n) {
  volatile char room[256] = {0};
  return odd(n + 1) + room[0];
}
__attribute__((noinline)) static int odd(int n) {
  volatile char room[256] = {0};
  return even(n + 1) + room[0];
}

static void crash_divide(void) {
  int total = 10, parts = sink;
  sink = total / parts;
}

static void crash_assert(void) {
  int balance = -5;
  assert(balance >= 0);
}

static void crash_heap(void) {
  char *block = malloc(24);
  free(block);
  free(block);
}

static void crash_bus(void) {
  FILE *file = tmpfile();
  char *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fileno(file), 0);
  sink = page[0];
}

static void *take_two(pthread_mutex_t *first, pthread_mutex_t *second) {
  pthread_mutex_lock(first);
  pthread_barrier_wait(&both);
  pthread_mutex_lock(second);
  return NULL;
}

static void *writer(void *unused) { return take_two(&ledger, &index_lock), unused; }

static void *reader(void *account) {
  struct account *from = account;
  pthread_mutex_lock(&index_lock);
  pthread_barrier_wait(&both);
  pthread_mutex_lock(&ledger);
  return from;
}

static void hang_deadlock(void) {
  pthread_t one, two;
  pthread_barrier_init(&both, NULL, 3);
  pthread_create(&one, NULL, writer, NULL);
  pthread_setname_np(one, "writer");
  pthread_create(&two, NULL, reader, NULL);
  pthread_setname_np(two, "reader");
  pthread_barrier_wait(&both);
  usleep(100000);
  ready();
  pthread_join(one, NULL);
}

static void hang_pipe(void) {
  int ends[2];
  char byte;
  if (pipe(ends) != 0) abort();
  ready();
  sink = (int)read(ends[0], &byte, 1);
}

static void hang_loop(void) {
  ready();
  for (;;) sink++;
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(void);
  } modes[] = {
      {"null", crash_null},         {"member", crash_member}, {"strlen", crash_strlen},     {"wild", crash_wild},
      {"readonly", crash_readonly}, {"divide", crash_divide}, {"assert", crash_assert},     {"abort", abort},
      {"heap", crash_heap},         {"bus", crash_bus},       {"deadlock", hang_deadlock},  {"pipe", hang_pipe},
      {"loop", hang_loop},
  };
  const char *mode = argc > 1 ? argv[1] : "";
  if (strcmp(mode, "overflow") == 0) return walk(0);
  if (strcmp(mode, "mutual") == 0) return even(0);
  if (strcmp(mode, "trap") == 0) __builtin_trap();
  for (size_t at = 0; at < sizeof modes / sizeof *modes; at++)
    if (strcmp(mode, modes[at].name) == 0) modes[at].run();
  return 2;
}
