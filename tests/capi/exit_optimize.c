/* exit() at random moments of an optimisation, of slow jobs, and of opening and freeing engines: no crash, and
 * the end comes soon.
 *
 * Arguments: model file[, number of exits[, case, -1 for all[, seed of the moments]]]. Every exit is that of a
 * process of its own, which is this program again: the library refuses to work after a fork. */
#include "check.h"

#include <pthread.h>

/* Longest that exit() may take, seconds. */
#ifdef _WIN32
static const double LIMIT = 2; /* with the end of the process itself, which takes longer there */
#else
static const double LIMIT = 1;
#endif

static const char *model;

static softdimo_request optimisation(uint32_t batch, const softdimo_reward_term *term) {
  softdimo_request request = default_request(1);
  request.batch = batch;
  request.rewards = term;
  request.reward_count = 1;
  request.optimize_steps = 100000;
  return request;
}

static softdimo_reward_term color(void) {
  softdimo_reward_term term;
  memset(&term, 0, sizeof term);
  term.weight = 1;
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_color(1, 0, 0, NULL, 0, &reward));
  term.reward = reward;
  return term;
}

static softdimo_engine *engine;

static void optimises(uint32_t batch, uint32_t recompute) {
  static softdimo_reward_term term;
  term = color();
  softdimo_request request = optimisation(batch, &term);
  request.recompute = recompute;
  engine = open_engine(model, NULL);
  submit(engine, &request);
}

static void one(void) { optimises(1, 0); }
static void many(void) { optimises(64, 0); }
static void most(void) { optimises(256, 1); }

static void queued(void) {
  static softdimo_reward_term term;
  term = color();
  softdimo_request request = optimisation(8, &term);
  engine = open_engine(model, NULL);
  for (int i = 0; i < 4; i++) submit(engine, &request);
  request = default_request(2);
  request.batch = 256;
  softdimo_engine *other = open_engine(model, NULL);
  submit(other, &request);
}

static void teacher(void) {
  engine = open_engine(model, NULL);
  softdimo_request request = long_request();
  request.batch = 256;
  submit(engine, &request);
}

static int32_t slow(void *data, const float *image, uint32_t batch, uint32_t width, uint32_t height, float *scores,
                    float *gradient) {
  (void)data, (void)image;
  memset(gradient, 0, (size_t)batch * 3 * width * height * sizeof *gradient);
  memset(scores, 0, batch * sizeof *scores);
  sleep_ms(30);
  return SOFTDIMO_CONTINUE;
}

/* Another thread waits for the job and answers its callback. */
static void *answers(void *job) {
  softdimo_job_wait(job, -1);
  for (;;) sleep_ms(1000);
  return NULL;
}

static void asks(void) {
  static softdimo_reward_term term;
  memset(&term, 0, sizeof term);
  term.weight = 1;
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_from_callback(slow, NULL, &reward));
  term.reward = reward;
  softdimo_request request = optimisation(16, &term);
  engine = open_engine(model, NULL);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, answers, submit(engine, &request)) == 0);
}

/* Another thread opens and frees engines, one of which has just worked. */
static void *reopens(void *argument) {
  (void)argument;
  for (;;) {
    softdimo_engine *opened = NULL;
    if (softdimo_engine_open(model, NULL, &opened) != SOFTDIMO_OK) break;
    softdimo_request request = default_request(3);
    softdimo_job *job = NULL;
    if (softdimo_submit(opened, &request, &job) == SOFTDIMO_OK) softdimo_job_wait(job, -1);
    softdimo_job_free(job);
    softdimo_engine_free(opened);
  }
  for (;;) sleep_ms(1000);
  return NULL;
}

static void opens(void) {
  /* No handler of the library's comes first while the process opens its first engine. */
  engine = open_engine(model, NULL);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, reopens, NULL) == 0);
}

/* The first engine of the process opens on another thread. */
static void opens_first(void) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, reopens, NULL) == 0);
}

#ifndef _WIN32
static void trim_at_exit(void) {
  softdimo_memory memory = {sizeof memory, 0, 0, 0, 0, 0};
  STATUS(SOFTDIMO_ERR_CANCELLED, softdimo_engine_trim(engine));
  STATUS(SOFTDIMO_ERR_CANCELLED, softdimo_engine_memory(engine, &memory));
  softdimo_engine *other = NULL;
  FAILS(SOFTDIMO_ERR_UNSUPPORTED, "the process is exiting", softdimo_engine_open(model, NULL, &other));
  softdimo_engine_free(engine);
}

/* The host's own handler runs last, and still uses the engine. */
static void trims(void) {
  CHECK(atexit(trim_at_exit) == 0);
  many();
}
#endif

/* The last of what the program does: its parent hears when, and sees whether anything else is printed. */
static void leaves_now(void) {
  printf("%.6f\n", seconds());
  fflush(stdout);
  exit(0);
}

static int32_t exits_from_callback(void *data, const float *image, uint32_t batch, uint32_t width, uint32_t height,
                                   float *scores, float *gradient) {
  slow(data, image, batch, width, height, scores, gradient);
  leaves_now();
  return SOFTDIMO_CONTINUE;
}

static void exits_inside(void) {
  static softdimo_reward_term term;
  memset(&term, 0, sizeof term);
  term.weight = 1;
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_from_callback(exits_from_callback, NULL, &reward));
  term.reward = reward;
  softdimo_request request = optimisation(2, &term);
  engine = open_engine(model, NULL);
  softdimo_job_wait(submit(engine, &request), -1);
}

static int32_t exits_from_progress(void *data, uint32_t step, uint32_t total) {
  (void)data, (void)total;
  if (step >= 2) leaves_now();
  return SOFTDIMO_CONTINUE;
}

static void exits_between_steps(void) {
  static softdimo_reward_term term;
  term = color();
  softdimo_request request = optimisation(16, &term);
  request.progress = exits_from_progress;
  engine = open_engine(model, NULL);
  softdimo_job_wait(submit(engine, &request), -1);
}

/* Sessions of many batch sizes lie prepared, another is being prepared or run. */
static void many_sessions(void) {
  engine = open_engine(model, NULL);
  for (uint32_t batch = 1; batch < 200; batch++) {
    softdimo_request request = default_request(batch);
    request.batch = batch;
    submit(engine, &request);
  }
}

/* Every job is late: what each has left is prepared beside, and of other shapes than the next. */
static void late(void) {
  static softdimo_reward_term term;
  term = color();
  engine = open_engine(model, NULL);
  softdimo_request request = optimisation(1, &term);
  request.deadline_ms = 1;
  for (uint32_t i = 0; i < 4; i++) {
    request.batch = 1 + i;
    softdimo_job *job = submit(engine, &request);
    OK(softdimo_job_wait(job, -1));
    softdimo_job_free(job);
  }
}

/* An engine that is opened, and prepared for an optimisation, by nobody who waits. */
static void opens_aside(void) {
  static softdimo_reward_term term;
  static softdimo_opening *opening;
  term = color();
  softdimo_request request = optimisation(64, &term);
  OK(softdimo_engine_open_async(model, NULL, &request, &opening));
}

static void paused(void) {
  static softdimo_reward_term term;
  term = color();
  engine = open_engine(model, NULL);
  softdimo_request request = optimisation(8, &term);
  submit(engine, &request);
  sleep_ms(20);
  OK(softdimo_engine_pause(engine));
  submit(engine, &request);
}

static const struct {
  const char *name;
  void (*start)(void);
} cases[] = {
    {"one picture optimised", one},
    {"64 pictures optimised", many},
    {"256 pictures optimised, recomputing", most},
    {"optimisations queued, and a second engine", queued},
    {"256 pictures by the teacher", teacher},
    {"a callback answered on another thread", asks},
    {"engines opened and freed on another thread", opens},
    {"the first engine opened on another thread", opens_first},
#ifndef _WIN32
    {"trim, open and free in a handler that runs last", trims},
#endif
    {"exit inside a reward callback", exits_inside},
    {"exit inside a progress callback", exits_between_steps},
    {"sessions of many batch sizes", many_sessions},
    {"steps left by late jobs", late},
    {"an engine opened and prepared aside", opens_aside},
    {"a paused engine", paused},
};
enum { CASES = sizeof cases / sizeof *cases };

/* The child: start a case, and leave after `ms`. */
static void leave(const char *which, const char *ms) {
  end_within(120);
  cases[atoi(which)].start();
  sleep_ms(atol(ms));
  leaves_now();
}

/* Seconds that the child took from exit() to its end. */
static double child(const char *program, int which, long ms) {
  char number[16], delay[32];
  snprintf(number, sizeof number, "%d", which);
  snprintf(delay, sizeof delay, "%ld", ms);
  const char *arguments[] = {model, "leave", number, delay, NULL};
  process_end end = run_program(program, arguments);
  char *rest = end.said;
  double took = end.at - strtod(end.said, &rest);
  if (end.status || rest == end.said || rest[strspn(rest, "\r\n")])
    fail(__FILE__, __LINE__, "%s, %ld ms: a child ended with %d, after %.2f s, and said '%s'", cases[which].name, ms,
         end.status, took, end.said);
  if (took > LIMIT) fail(__FILE__, __LINE__, "%s, %ld ms: exit took %.2f s", cases[which].name, ms, took);
  return took;
}

int main(int argc, char **argv) {
  CHECK(argc >= 2);
  model = argv[1];
  if (argc > 4 && !strcmp(argv[2], "leave")) leave(argv[3], argv[4]);
  end_within(1200);
#ifdef _WIN32
  left_out("a handler of the host's that runs after the library's");
#endif
  int exits = argc > 2 ? atoi(argv[2]) : 45;
  int only = argc > 3 ? atoi(argv[3]) : -1;
  double longest[CASES] = {0}, total = 0;
  int times[CASES] = {0};
  unsigned seed = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : 1;
  printf("# exit: seed %u\n", seed);
  srand(seed);
  for (int k = 0; k < exits; k++) {
    int which = only < 0 ? k % CASES : only;
    /* Early moments are those of preparing. */
    double took = child(argv[0], which, rand() % (k % 2 ? 300 : 2000));
    if (took > longest[which]) longest[which] = took;
    total += took;
    times[which]++;
  }
  for (int i = 0; i < CASES; i++)
    if (times[i]) printf("# exit: %-48s %3d times, at most %.2f s\n", cases[i].name, times[i], longest[i]);
  printf("# exit: %d times, %.2f s on average\n", exits, total / exits);
  return end();
}
