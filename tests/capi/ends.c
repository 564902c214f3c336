/* Ways to leave a program while the library is at work: the exit status is kept, the end comes soon, and nothing is printed.
 *
 * Arguments: model file. Every end is that of a process of its own, which is this program again. */
#include "check.h"

#include <pthread.h>

#ifdef _WIN32
#include <windows.h>
#endif

enum { KEPT = 42 };

/* Longest that an end may take, seconds. */
static const double LIMIT = 2;

static const char *model;
static softdimo_engine *engine;

/* What the library is at. */

static void idle(void) { engine = open_engine(model, NULL); }

static void a_job(void) {
  softdimo_request request = long_request();
  engine = open_engine(model, NULL);
  wait_until_running(submit(engine, &request), 2);
}

static void a_queue(void) {
  softdimo_request request = long_request();
  a_job();
  for (int i = 0; i < 5; i++) submit(engine, &request);
}

static void an_optimisation(void) {
  softdimo_reward_term term;
  memset(&term, 0, sizeof term);
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_color(-1, -1, 1, NULL, 0, &reward));
  term.reward = reward;
  term.weight = 1;
  softdimo_request request = default_request(1);
  request.batch = 8;
  request.rewards = &term;
  request.reward_count = 1;
  request.optimize_steps = MANY_STEPS;
  engine = open_engine(model, NULL);
  wait_until_running(submit(engine, &request), 2);
}

static void preparing(void) {
  softdimo_request request = long_request();
  request.batch = 64;
  engine = open_engine(model, NULL);
  submit(engine, &request);
  sleep_ms(30);
}

static void opening(void) {
  static softdimo_opening *begun;
  OK(softdimo_engine_open_async(model, NULL, NULL, &begun));
  sleep_ms(10);
}

/* The last of what a program does. */

static void says_when(void) {
  printf("%.6f\n", seconds());
  fflush(stdout);
}

static int by_return(void) {
  says_when();
  return KEPT;
}

static int by_exit(void) {
  says_when();
  exit(KEPT);
  return 1;
}

static int without_handlers(void) {
  says_when();
  _Exit(KEPT);
  return 1;
}

static void *leaves(void *none) {
  by_exit();
  return none;
}

static int by_exit_of_another_thread(void) {
  pthread_t thread;
  CHECK(!pthread_create(&thread, NULL, leaves, NULL));
  sleep_ms(50000);
  return 1;
}

static int by_exit_after_free(void) {
  double start = seconds();
  softdimo_engine_free(engine);
  CHECK(seconds() - start < LIMIT);
  return by_exit();
}

#ifdef _WIN32
static int by_exit_process(void) {
  says_when();
  ExitProcess(KEPT);
  return 1;
}

static int by_exit_process_of_another_thread(void) {
  says_when();
  CHECK(CreateThread(NULL, 0, (LPTHREAD_START_ROUTINE)(void (*)(void))ExitProcess, (LPVOID)KEPT, 0, NULL));
  sleep_ms(50000);
  return 1;
}

static int by_terminate_process(void) {
  says_when();
  TerminateProcess(GetCurrentProcess(), KEPT);
  return 1;
}
#endif

static const struct {
  const char *name;
  void (*start)(void);
} states[] = {
    {"an idle engine", idle},           {"a job", a_job},         {"a queue", a_queue},
    {"an optimisation", an_optimisation}, {"sessions prepared", preparing}, {"an engine opening", opening},
};

static const struct {
  const char *name;
  int (*leave)(void);
} ways[] = {
    {"return from main", by_return},
    {"exit()", by_exit},
    {"_Exit()", without_handlers},
    {"exit() of another thread", by_exit_of_another_thread},
    {"exit() after the engine was freed", by_exit_after_free},
#ifdef _WIN32
    {"ExitProcess()", by_exit_process},
    {"ExitProcess() of another thread", by_exit_process_of_another_thread},
    {"TerminateProcess()", by_terminate_process},
#endif
};

int main(int argc, char **argv) {
  CHECK(argc >= 2);
  model = argv[1];
  if (argc == 4) {
    end_within(60);
    states[atoi(argv[2])].start();
    return ways[atoi(argv[3])].leave();
  }
  end_within(600);
  int failed = 0;
  for (int way = 0; way < (int)(sizeof ways / sizeof *ways); way++) {
    double longest = 0;
    for (int state = 0; state < (int)(sizeof states / sizeof *states); state++) {
      char numbers[2][16];
      snprintf(numbers[0], sizeof numbers[0], "%d", state);
      snprintf(numbers[1], sizeof numbers[1], "%d", way);
      const char *arguments[] = {model, numbers[0], numbers[1], NULL};
      process_end end = run_program(argv[0], arguments);
      char *rest = end.said;
      double took = end.at - strtod(end.said, &rest);
      if (took > longest) longest = took;
      if (end.status == KEPT && took < LIMIT && rest != end.said && !rest[strspn(rest, "\r\n")]) continue;
      printf("# %s with %s: expected status %d within %.0f s, found %d after %.2f s, and '%s'\n", ways[way].name,
             states[state].name, KEPT, LIMIT, end.status, took, end.said);
      fflush(stdout);
      failed++;
    }
    printf("# %-36s at most %.2f s\n", ways[way].name, longest);
  }
  CHECK(!failed);
  return end();
}
