/* An optimisation inside a frame: its deadline is the whole job's, what it needs is kept or prepared ahead, cancelling and
 * freeing come back at once in any phase, and engines share a budget of memory. Times are printed; what is checked of them
 * leaves room for a busy machine.
 *
 * Arguments: the bundled model. */
#include "check.h"

static const char *model;
static softdimo_reward *bluer;
static softdimo_reward_term term;

static softdimo_request climbing(uint64_t seed, uint32_t steps) {
  softdimo_request request = default_request(seed);
  static const int32_t classes[] = {3};
  request.class_labels = classes;
  request.class_label_count = 1;
  request.rewards = &term;
  request.reward_count = 1;
  request.optimize_steps = steps;
  return request;
}

static softdimo_engine *open_game(void) {
  softdimo_engine_options options = default_options();
  options.threads = 2;
  return open_engine(model, &options);
}

static int by_size(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Sorts, prints, and returns the median. */
static double distribution(const char *what, double *ms, int n) {
  qsort(ms, (size_t)n, sizeof *ms, by_size);
  printf("# %s: min %.1f, median %.1f, p95 %.1f, max %.1f ms (%d)\n", what, ms[0], ms[n / 2], ms[n * 95 / 100], ms[n - 1], n);
  return ms[n / 2];
}

/* Iterates of a finished job; each has one "total". */
static int iterates(const softdimo_job *job) {
  static char text[1 << 20];
  OK(softdimo_job_report(job, text, sizeof text, NULL));
  int n = 0;
  for (const char *at = text; (at = strstr(at, "\"total\"")); at++) n++;
  return n;
}

enum { RUNS = 60, ENDS = 30, DEADLINE = 100 };

static void deadlines(void) {
  softdimo_engine *engine = open_game();
  double cold[RUNS], warm[RUNS];
  int least = 1000, most = 0, fewer_than_5 = 0;
  for (int i = 0; i < 10; i++) {
    OK(softdimo_engine_trim(engine));
    softdimo_request request = climbing((uint64_t)i, 1000);
    request.deadline_ms = DEADLINE;
    double began = seconds();
    softdimo_job *job = submit(engine, &request);
    OK(softdimo_job_wait(job, -1));
    cold[i] = (seconds() - began) * 1e3;
    static uint8_t pixels[PIXELS * 4];
    softdimo_image image = picture(pixels);
    OK(softdimo_job_image(job, 0, &image));
    softdimo_job_free(job);
  }
  double median = distribution("cold, deadline of 100 ms", cold, 10);
  CHECK(median < DEADLINE + 200);

  softdimo_request request = climbing(1, 1000);
  OK(softdimo_engine_warmup_request(engine, &request));
  for (int i = 0; i < RUNS; i++) {
    request.seed = (uint64_t)i;
    request.deadline_ms = i == 0 ? -1 : DEADLINE;
    request.optimize_steps = i == 0 ? 2 : 1000; /* the first run of a session takes longer, and tells how long others take */
    double began = seconds();
    softdimo_job *job = submit(engine, &request);
    OK(softdimo_job_wait(job, -1));
    if (i > 0) warm[i - 1] = (seconds() - began) * 1e3;
    int n = iterates(job);
    if (i > 0 && n < least) least = n;
    if (i > 0 && n > most) most = n;
    if (i > 0 && n < 5) fewer_than_5++;
    softdimo_job_free(job);
  }
  median = distribution("warm, deadline of 100 ms", warm, RUNS - 1);
  printf("# %d to %d iterates, fewer than 5 in %d of %d\n", least, most, fewer_than_5, RUNS - 1);
  CHECK(most >= 1 && median < DEADLINE + 50);
  softdimo_engine_free(engine);
}

/* Cancelled, or freed, so long after the submit. */
static void ends(const char *what, int freed, int teacher) {
  softdimo_engine *engine = open_game();
  double ms[ENDS];
  for (int i = 0; i < ENDS; i++) {
    if (i % 3 == 0) OK(softdimo_engine_trim(engine)); /* inside preparing */
    softdimo_request request = climbing((uint64_t)i, 100000);
    if (teacher) request = long_request();
    softdimo_job *job = submit(engine, &request);
    sleep_ms(i * 8);
    double began = seconds();
    if (freed) {
      softdimo_job_free(job);
      ms[i] = (seconds() - began) * 1e3;
      continue;
    }
    OK(softdimo_job_cancel(job));
    CHECK(softdimo_job_wait(job, -1) == SOFTDIMO_ERR_CANCELLED);
    ms[i] = (seconds() - began) * 1e3;
    softdimo_job_free(job);
  }
  CHECK(distribution(what, ms, ENDS) < 60);
  softdimo_engine_free(engine);
}

static uint32_t told, last_step, last_total;
static int32_t on_progress(void *stop_at, uint32_t step, uint32_t total) {
  CHECK(step <= total);
  told++;
  last_step = step, last_total = total;
  return stop_at && step >= *(uint32_t *)stop_at ? SOFTDIMO_STOP : SOFTDIMO_CONTINUE;
}

static void warm_up(void) {
  softdimo_engine *engine = open_game();
  softdimo_request request = climbing(1, 3);
  request.progress = on_progress;
  OK(softdimo_engine_warmup_request(engine, &request));
  CHECK(told > 2 && last_step == last_total);
  softdimo_memory before, after;
  before.struct_size = after.struct_size = sizeof before;
  OK(softdimo_engine_memory(engine, &before));
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  softdimo_job_free(job);
  OK(softdimo_engine_memory(engine, &after));
  CHECK(before.sessions == after.sessions && before.sessions > 4);

  OK(softdimo_engine_trim(engine));
  uint32_t stop_at = 1;
  request.progress_user_data = &stop_at;
  FAILS(SOFTDIMO_ERR_CANCELLED, "cancelled", softdimo_engine_warmup_request(engine, &request));
  /* Behind a job that takes long it need not wait to be stopped. */
  request.progress_user_data = &stop_at, stop_at = 0;
  softdimo_request slow = long_request();
  job = submit(engine, &slow);
  double began = seconds();
  FAILS(SOFTDIMO_ERR_CANCELLED, "cancelled", softdimo_engine_warmup_request(engine, &request));
  printf("# a warm-up behind a long job stopped after %.0f ms\n", (seconds() - began) * 1e3);
  CHECK(seconds() - began < 1);
  softdimo_job_free(job);
  softdimo_engine_free(engine);
}

static uint64_t in_use(void) {
  uint64_t bytes = 0;
  OK(softdimo_memory_in_use(&bytes));
  return bytes;
}

static void budget(void) {
  CHECK(in_use() == 0);
  softdimo_engine *engines[2] = {open_game(), open_game()};
  softdimo_request request = climbing(1, 2);
  static uint8_t pixels[PIXELS * 4];
  softdimo_image image = picture(pixels);
  uint64_t each[2];
  for (int i = 0; i < 2; i++) {
    OK(softdimo_generate(engines[i], &request, &image, 1));
    softdimo_memory memory;
    memory.struct_size = sizeof memory;
    OK(softdimo_engine_memory(engines[i], &memory));
    each[i] = in_use() - (i ? each[0] : 0);
    CHECK(memory.weights + memory.activations + memory.transient <= each[i] && each[i] > 0);
  }
  printf("# two engines hold %llu and %llu bytes\n", (unsigned long long)each[0], (unsigned long long)each[1]);

  /* Room for one of them: the other gives back what it keeps, either way. */
  const uint64_t one = each[0] + each[0] / 4;
  OK(softdimo_set_memory_budget(one));
  for (int i = 0; i < 6; i++) {
    OK(softdimo_generate(engines[i % 2], &request, &image, 1));
    softdimo_memory memory;
    memory.struct_size = sizeof memory;
    OK(softdimo_engine_memory(engines[i % 2], &memory));
    CHECK(in_use() <= one);
  }
  /* Room for none. */
  OK(softdimo_set_memory_budget(100000));
  FAILS(SOFTDIMO_ERR_OUT_OF_MEMORY, "memory budget of 100000 bytes", softdimo_generate(engines[0], &request, &image, 1));
  OK(softdimo_set_memory_budget(0));
  OK(softdimo_generate(engines[0], &request, &image, 1));

  /* Both at once under a budget for a little more than one: each picture is made or refused, and the budget holds. */
  OK(softdimo_set_memory_budget(one));
  softdimo_job *jobs[2][8];
  for (int k = 0; k < 8; k++)
    for (int i = 0; i < 2; i++) jobs[i][k] = submit(engines[i], &request);
  int made = 0;
  for (int k = 0; k < 8; k++) {
    for (int i = 0; i < 2; i++) {
      int32_t status = softdimo_job_wait(jobs[i][k], -1);
      CHECK(status == SOFTDIMO_OK || status == SOFTDIMO_ERR_OUT_OF_MEMORY);
      made += status == SOFTDIMO_OK;
      CHECK(in_use() <= one);
      softdimo_job_free(jobs[i][k]);
    }
  }
  printf("# %d of 16 pictures under a budget for one of two engines\n", made);
  CHECK(made > 0);
  OK(softdimo_set_memory_budget(0));
  softdimo_engine_free(engines[0]);
  softdimo_engine_free(engines[1]);
  CHECK(in_use() == 0);
}

/* Under a budget, a job waits for what a late one has left under way, however long that takes. */
static void budget_beside_late_ones(void) {
  enum { TERMS = 64 };
  softdimo_engine_options options = default_options();
  options.threads = 1;
  softdimo_engine *engine = open_engine(model, &options);
  softdimo_reward *prior = NULL, *closeness = NULL;
  OK(softdimo_reward_prior(1, &prior));
  OK(softdimo_reward_closeness(&closeness));
  softdimo_reward_term terms[TERMS];
  memset(terms, 0, sizeof terms);
  for (int i = 0; i < TERMS; i++) terms[i].reward = i % 8 ? closeness : prior, terms[i].weight = 1;
  softdimo_request large = climbing(1, 1), small = climbing(1, 1);
  large.rewards = terms;
  large.reward_count = TERMS;
  double began = seconds();
  softdimo_job *job = submit(engine, &large);
  OK(softdimo_job_wait(job, -1));
  softdimo_job_free(job);
  const double took = seconds() - began;
  OK(softdimo_set_memory_budget(in_use() / 10 * 17));
  for (int i = 1; i < 6; i++) {
    OK(softdimo_engine_trim(engine));
    OK(softdimo_engine_warmup(engine, 1));
    large.deadline_ms = (int64_t)(took * 1e3 * i / 8);
    softdimo_job *late = submit(engine, &large), *next = submit(engine, &small);
    OK(softdimo_job_wait(late, -1));
    OK(softdimo_job_wait(next, -1));
    softdimo_job_free(late);
    softdimo_job_free(next);
  }
  /* What is larger than the budget is refused at once. */
  OK(softdimo_engine_trim(engine));
  OK(softdimo_set_memory_budget(100000));
  began = seconds();
  static uint8_t pixels[PIXELS * 4];
  softdimo_image image = picture(pixels);
  STATUS(SOFTDIMO_ERR_OUT_OF_MEMORY, softdimo_generate(engine, &small, &image, 1));
  printf("# a network of seconds (%.1f), late under a budget; a budget for none refuses after %.0f ms\n", took,
         (seconds() - began) * 1e3);
  OK(softdimo_set_memory_budget(0));
  softdimo_engine_free(engine);
  softdimo_reward_free(prior);
  softdimo_reward_free(closeness);
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  begin();
  end_within(900); /* on a busy machine */
  model = argv[1];
  OK(softdimo_reward_color(-1, -1, 1, NULL, 0, &bluer));
  term.reward = bluer, term.weight = 1, term.reserved = 0;
  budget();
  budget_beside_late_ones();
  warm_up();
  deadlines();
  ends("cancel of an optimisation, in any phase", 0, 0);
  ends("free of an optimisation, in any phase", 1, 0);
  ends("cancel of the teacher, in any phase", 0, 1);
  ends("free of the teacher, in any phase", 1, 1);
  softdimo_reward_free(bluer);
  return end();
}
