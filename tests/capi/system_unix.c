#define _GNU_SOURCE
#include "system.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What goes on nobody expects: the tests see the message, and the status. */
static void must(int holds, const char *what) {
  if (holds) return;
  printf("%s: %s\n", __FILE__, what);
  fflush(stdout);
  _exit(1);
}

static double clock_of(clockid_t id) {
  struct timespec t;
  must(clock_gettime(id, &t) == 0, "clock_gettime");
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double seconds(void) { return clock_of(CLOCK_MONOTONIC); }
double cpu_seconds(void) { return clock_of(CLOCK_PROCESS_CPUTIME_ID); }

void sleep_ms(long ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&t, NULL);
}

void end_within(unsigned seconds) { alarm(seconds); }
void end_now(int status) { _exit(status); }

uint64_t anonymous(void) {
  FILE *status = fopen("/proc/self/status", "r");
  must(status != NULL, "/proc/self/status");
  char line[256];
  unsigned long kib = 0;
  while (fgets(line, sizeof line, status) && sscanf(line, "RssAnon: %lu kB", &kib) != 1) continue;
  fclose(status);
  must(kib > 0, "RssAnon");
  return (uint64_t)kib * 1024;
}

uint64_t resident(void) {
  unsigned long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  must(file && fscanf(file, "%*u %lu", &pages) == 1, "/proc/self/statm");
  fclose(file);
  return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

unsigned threads_named(const char *start) {
  DIR *tasks = opendir("/proc/self/task");
  must(tasks != NULL, "/proc/self/task");
  unsigned found = 0;
  for (struct dirent *task; (task = readdir(tasks));) {
    char path[300], name[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
    FILE *comm = task->d_name[0] == '.' ? NULL : fopen(path, "r");
    if (!comm) continue;
    if (fgets(name, sizeof name, comm)) found += !strncmp(name, start, strlen(start));
    fclose(comm);
  }
  closedir(tasks);
  return found;
}

unsigned threads_now(void) { return threads_named(""); }

static void *runs(void *run) {
  (*(void (**)(void))run)();
  return NULL;
}

void on_a_stack_of(size_t bytes, void (*run)(void)) {
  pthread_attr_t attributes;
  pthread_t thread;
  must(!pthread_attr_init(&attributes) && !pthread_attr_setstacksize(&attributes, bytes), "the size of a stack");
  must(!pthread_create(&thread, &attributes, runs, &run) && !pthread_join(thread, NULL), "a thread");
  pthread_attr_destroy(&attributes);
}

void *before_the_unreadable(size_t size) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (size + page - 1) / page * page;
  char *memory = mmap(NULL, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  must(memory != MAP_FAILED && mprotect(memory + pages, page, PROT_NONE) == 0, "mmap");
  return memory + pages - size;
}

int cut_file(const char *path, uint64_t size) { return truncate(path, (off_t)size); }

process_end run_program(const char *program, const char *const *arguments) {
  process_end end;
  memset(&end, 0, sizeof end);
  char *argv[16] = {(char *)(uintptr_t)program};
  for (size_t i = 0; arguments[i]; i++) {
    must(i + 2 < sizeof argv / sizeof *argv, "arguments of a program");
    argv[i + 1] = (char *)(uintptr_t)arguments[i];
  }
  int ends[2];
  must(pipe(ends) == 0, "pipe");
  fflush(stdout);
  pid_t pid = fork();
  must(pid >= 0, "fork");
  if (pid == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    execv(program, argv);
    _exit(2);
  }
  close(ends[1]);
  size_t length = 0;
  for (ssize_t got; (got = read(ends[0], end.said + length, sizeof end.said - 1 - length)) > 0;) length += (size_t)got;
  int status = 0;
  must(waitpid(pid, &status, 0) == pid, "waitpid");
  end.at = seconds();
  close(ends[0]);
  end.status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return end;
}
