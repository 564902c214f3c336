/* What the host owns is as it was: before and after every phase of the library's use, everything a process
 * can look at is compared.
 *
 * Arguments: model file. */
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <fenv.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

extern char **environ;

/* What the kernel keeps of a signal's disposition; struct sigaction has bytes nobody sets. */
typedef struct {
  void *handler;
  uint64_t mask;
  int flags;
} action;

typedef struct {
  unsigned float_mode; /* control bits: rounding, traps, flush-to-zero, denormals-are-zero */
  unsigned float_flags;
  int rounding, traps;
  sigset_t mask;
  action actions[65];
  stack_t signal_stack;
  char locale[256], folder[4096], environment[65536];
  int files, threads, niceness;
  mode_t umask;
  struct rlimit limits[16];
} state;

static unsigned float_control(void) {
#ifdef __x86_64__
  return __builtin_ia32_stmxcsr();
#else
  return 0;
#endif
}

static int entries(const char *folder) {
  DIR *directory = opendir(folder);
  CHECK(directory);
  int count = 0;
  while (readdir(directory)) count++;
  closedir(directory);
  return count;
}

static action disposition(int signal) {
  struct sigaction found;
  action a;
  memset(&found, 0, sizeof found);
  memset(&a, 0, sizeof a);
  sigaction(signal, NULL, &found); /* two are libc's own and fail */
  memcpy(&a.handler, &found.sa_handler, sizeof a.handler);
  a.flags = found.sa_flags & ~0x04000000; /* SA_RESTORER, which libc adds to whatever goes through it */
  for (int i = 1; i <= 64; i++) a.mask |= (uint64_t)(sigismember(&found.sa_mask, i) == 1) << (i - 1);
  return a;
}

static state look(void) {
  static state s;
  memset(&s, 0, sizeof s);
  s.float_mode = float_control() & 0xffc0u;
  s.float_flags = float_control() & 0x3fu;
  s.rounding = fegetround();
  s.traps = fegetexcept();
  CHECK(pthread_sigmask(SIG_SETMASK, NULL, &s.mask) == 0);
  for (int i = 1; i <= 64; i++) s.actions[i] = disposition(i);
  CHECK(sigaltstack(NULL, &s.signal_stack) == 0);
  snprintf(s.locale, sizeof s.locale, "%s", setlocale(LC_ALL, NULL));
  CHECK(getcwd(s.folder, sizeof s.folder));
  size_t at = 0;
  for (char **e = environ; *e && at < sizeof s.environment; e++)
    at += (size_t)snprintf(s.environment + at, sizeof s.environment - at, "%s\n", *e);
  s.files = entries("/proc/self/fd");
  s.threads = entries("/proc/self/task") - 2;
  s.niceness = getpriority(PRIO_PROCESS, 0);
  s.umask = umask(0);
  umask(s.umask);
  for (int i = 0; i < 16; i++) getrlimit((__rlimit_resource_t)i, &s.limits[i]);
  return s;
}

static state first;

/* As at the start; but for what a live engine has: `files` open, which is the model unless it was read, and
 * its threads. */
static void same(const char *when, int files, int alive) {
  state now = look();
#define SAME(what)                                                                                           \
  if (memcmp(&now.what, &first.what, sizeof now.what)) fail(__FILE__, __LINE__, "%s: another %s", when, #what)
  SAME(float_mode);
  SAME(rounding);
  SAME(traps);
  SAME(mask);
  SAME(actions);
  SAME(signal_stack);
  SAME(locale);
  SAME(folder);
  SAME(environment);
  SAME(niceness);
  SAME(umask);
  SAME(limits);
  if (now.files != first.files + files)
    fail(__FILE__, __LINE__, "%s: %d open files, %d before", when, now.files, first.files);
  if (!alive && now.threads != first.threads)
    fail(__FILE__, __LINE__, "%s: %d threads, %d before", when, now.threads, first.threads);
}

/* Threads of the library, by their names; no thread is there that is neither ours nor named so. */
static int engine_threads(void) {
  DIR *tasks = opendir("/proc/self/task");
  CHECK(tasks);
  int count = 0, others = 0;
  for (struct dirent *entry; (entry = readdir(tasks));) {
    if (entry->d_name[0] == '.') continue;
    char path[300], name[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
    FILE *file = fopen(path, "r");
    if (!file || !fgets(name, sizeof name, file)) name[0] = 0;
    if (file) fclose(file);
    if (!strncmp(name, "softdimo-", 9))
      count++;
    else
      others++;
  }
  closedir(tasks);
  CHECK(others == first.threads);
  return count;
}

/* The blocked signals of one of the engine's threads, by its entry in the folder of tasks; 0: not one of them. */
static int blocked_signals(const char *task, unsigned long long *blocked) {
  char path[300], line[128], name[32] = "";
  snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
  FILE *file = task[0] == '.' ? NULL : fopen(path, "r");
  if (!file) return 0;
  while (fgets(line, sizeof line, file)) {
    sscanf(line, "Name: %31s", name);
    sscanf(line, "SigBlk: %llx", blocked);
  }
  fclose(file);
  return !strncmp(name, "softdimo-", 9);
}

/* Every signal but the synchronous faults is blocked in the engine's threads. The C library blocks those too where
   a thread has not quite begun, or is about to end: they may take a moment to open. */
static void engine_threads_block_signals(void) {
  DIR *tasks = opendir("/proc/self/task");
  CHECK(tasks);
  for (struct dirent *entry; (entry = readdir(tasks));) {
    const int wanted[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGCHLD, SIGALRM, SIGPROF, SIGPIPE};
    const int open[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    unsigned long long blocked = 0, faults = 0;
    for (size_t i = 0; i < sizeof open / sizeof *open; i++) faults |= 1ull << (open[i] - 1);
    int ours = blocked_signals(entry->d_name, &blocked);
    for (int wait = 0; ours && (blocked & faults) && wait < 5000; wait++) {
      usleep(1000);
      ours = blocked_signals(entry->d_name, &blocked);
    }
    if (!ours) continue;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) CHECK(blocked >> (wanted[i] - 1) & 1);
    CHECK(!(blocked & faults));
  }
  closedir(tasks);
}

/* What the first engine of the process made: to the last bit the same in every state of the host. */
static uint32_t expected_tokens[TOKENS];
static float expected_pixels[3 * PIXELS];

static void results(const softdimo_job *job, uint32_t tokens[TOKENS], float pixels[3 * PIXELS]) {
  tokens_of(job, 0, tokens);
  OK(softdimo_job_image_f32(job, 0, pixels, 3 * PIXELS, NULL));
}

static void use(const char *model, uint32_t weights, uint32_t memory) {
  softdimo_engine_options options = default_options();
  options.threads = 2;
  options.weights_mode = weights;
  options.memory_mode = memory;
  int guarded = weights == SOFTDIMO_WEIGHTS_MAP_GUARDED, open_file = weights != SOFTDIMO_WEIGHTS_READ;
  softdimo_engine *engine = open_engine(model, &options);
  action host = first.actions[SIGBUS];
  if (guarded) { /* announced: its own handler, which goes with the engine */
    CHECK(disposition(SIGBUS).handler != host.handler);
    first.actions[SIGBUS] = disposition(SIGBUS);
  }
  same("after open", open_file, 1);

  softdimo_request request = default_request(5);
  uint8_t pixels[PIXELS * 4];
  softdimo_image image = picture(pixels);
  OK(softdimo_generate(engine, &request, &image, 1));
  same("after generate", open_file, 1);

  uint32_t tokens[TOKENS];
  static float floats[3 * PIXELS];
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  results(job, tokens, floats);
  CHECK(!memcmp(tokens, expected_tokens, sizeof tokens));
  if (memory == SOFTDIMO_MEMORY_LEAN) CHECK(!memcmp(floats, expected_pixels, sizeof floats));
  same("after wait", open_file, 1);
  softdimo_job_free(job);

  request = long_request();
  job = submit(engine, &request);
  wait_until_running(job, 3);
  same("while running", open_file, 1);
  engine_threads_block_signals();
  OK(softdimo_job_cancel(job));
  same("after cancel", open_file, 1);
  softdimo_job_free(job);
  same("after job_free", open_file, 1);

  int count = engine_threads();
  CHECK(count >= 1);
  printf("# threads of an engine (threads = 2, 4 sessions): %d\n", count);
  OK(softdimo_engine_trim(engine));
  CHECK(engine_threads() == 1);
  same("after trim", open_file, 1);
  softdimo_engine_free(engine);
  first.actions[SIGBUS] = host;
  same("after engine_free", 0, 0);
  CHECK(engine_threads() == 0);
}

static void float_modes(const char *model) {
#ifdef __x86_64__
  const unsigned before = float_control();
  const unsigned modes[] = {
      0x1f80,          /* the default */
      0x1f80 | 0x8040, /* flush to zero, denormals are zero, as games and audio hosts set it */
      0x3f80, 0x5f80, 0x7f80, /* round down, up, to zero */
      0x1f80 & ~0x0680u,      /* trap invalid, division by zero and overflow, as Delphi and Fortran do */
  };
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    __builtin_ia32_ldmxcsr(modes[i]);
    first = look();
    use(model, SOFTDIMO_WEIGHTS_MAP, SOFTDIMO_MEMORY_LEAN);
    CHECK((float_control() & 0xffc0u) == (modes[i] & 0xffc0u));
    __builtin_ia32_ldmxcsr(before);
  }
#else
  (void)model;
#endif
}

static long resident_kib(void) {
  long all, pages;
  FILE *file = fopen("/proc/self/statm", "r");
  CHECK(file && fscanf(file, "%ld %ld", &all, &pages) == 2);
  fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void cycles(const char *model) {
  enum { WARM = 15, CYCLES = 50, LAST = 10 };
  /* The least of several looks, before and after: what is resident for a moment only is no leak. */
  long before = 0, after = 0;
  for (int i = 0; i < WARM + CYCLES; i++) {
    softdimo_engine *engine = open_engine(model, NULL);
    softdimo_request request = default_request((uint64_t)i);
    uint8_t pixels[PIXELS * 4];
    softdimo_image image = picture(pixels);
    OK(softdimo_generate(engine, &request, &image, 1));
    softdimo_engine_free(engine);
    long now = resident_kib();
    if (i < WARM && i >= WARM - LAST) before = before && before < now ? before : now;
    if (i >= WARM + CYCLES - LAST) after = after && after < now ? after : now;
  }
  long grown = after - before;
  printf("# %d cycles of open, generate, free: %+ld KiB resident (%.1f KiB a cycle), %ld KiB in all\n", CYCLES,
         grown, (double)grown / CYCLES, after);
  CHECK(grown < 1024);
  same("after the cycles", 0, 0);
}

static void on_signal(int number) { (void)number; }

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 2);
  CHECK(setlocale(LC_ALL, "C.UTF-8") || setlocale(LC_ALL, "C"));
  signal(SIGUSR1, on_signal);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &set, NULL);

  /* The very first use of the library in the process, by a host that flushes denormals. */
#ifdef __x86_64__
  __builtin_ia32_ldmxcsr(0x9fc0);
#endif
  first = look();
  printf("# threads before: %d\n", first.threads);
  softdimo_engine *engine = open_engine(argv[1], NULL);
  softdimo_request request = default_request(5);
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  results(job, expected_tokens, expected_pixels);
  softdimo_job_free(job);
  same("after the first job", 1, 1);
  softdimo_engine_free(engine);
  same("after the first engine", 0, 0);
#ifdef __x86_64__
  __builtin_ia32_ldmxcsr(0x1f80);
#endif

  first = look();
  for (uint32_t memory = 0; memory < 2; memory++)
    for (uint32_t weights = 0; weights < 3; weights++) use(argv[1], weights, memory);
  float_modes(argv[1]);

  first = look();
  softdimo_engine *none = NULL;
  STATUS(SOFTDIMO_ERR_NOT_FOUND, softdimo_engine_open("/nowhere", NULL, &none));
  STATUS(SOFTDIMO_ERR_FORMAT, softdimo_engine_open("/proc/self/exe", NULL, &none));
  same("after a failed open", 0, 0);
  cycles(argv[1]);
  return end();
}
