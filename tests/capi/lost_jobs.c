/* Script hosts: engines that are freed before their jobs, from several threads, and jobs whose handles are lost.
 *
 * Arguments: model file. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 4, JOBS = 12 };

static softdimo_engine *engine;

static uint32_t state_of(const softdimo_job *job) {
  uint32_t state = 99;
  OK(softdimo_job_poll(job, &state));
  return state;
}

/* Jobs of an engine that is gone, each thread its own: looked at, read, cancelled and freed. */
static softdimo_job *jobs[THREADS][JOBS];
static uint32_t expected[TOKENS];

static void *uses_jobs(void *thread) {
  softdimo_job **mine = jobs[(size_t)thread];
  for (int i = 0; i < JOBS; i++) {
    uint32_t tokens[TOKENS];
    state_of(mine[i]);
    if (i % 3 == 0) OK(softdimo_job_cancel(mine[i]));
    if (i % 3 == 1) {
      OK(softdimo_job_wait(mine[i], -1));
      tokens_of(mine[i], 0, tokens);
      CHECK(!memcmp(tokens, expected, sizeof tokens));
    }
    softdimo_job_free(mine[i]);
  }
  return NULL;
}

static void *frees_engine(void *other) {
  softdimo_engine_free(other);
  return NULL;
}

static void the_engine_goes_first(const char *model) {
  softdimo_request request = default_request(2);
  run_tokens(engine, &request, expected);
  for (int at_once = 0; at_once < 2; at_once++) {
    softdimo_engine *other = open_engine(model, NULL);
    for (int t = 0; t < THREADS; t++)
      for (int i = 0; i < JOBS; i++) jobs[t][i] = submit(other, &request);
    pthread_t threads[THREADS], frees;
    if (at_once) CHECK(!pthread_create(&frees, NULL, frees_engine, other));
    else softdimo_engine_free(other);
    for (size_t t = 0; t < THREADS; t++) CHECK(!pthread_create(&threads[t], NULL, uses_jobs, (void *)t));
    for (int t = 0; t < THREADS; t++) CHECK(!pthread_join(threads[t], NULL));
    if (at_once) CHECK(!pthread_join(frees, NULL));
  }
}

/* A script is reloaded: done, running, waiting for a callback that is no more, queued. */

static int32_t is_gone(void *data, const float *pixels, uint32_t batch, uint32_t width, uint32_t height, float *scores,
                       float *gradient) {
  (void)data, (void)pixels, (void)batch, (void)width, (void)height, (void)scores, (void)gradient;
  CHECK(!"called");
  return SOFTDIMO_STOP;
}

static void reloads(void) {
  OK(softdimo_job_free_all(engine)); /* none */
  softdimo_request request = default_request(1), slow = long_request();
  softdimo_job *kept = submit(engine, &request);
  OK(softdimo_job_wait(kept, -1));
  softdimo_job_free(kept);
  for (int i = 0; i < 20; i++) OK(softdimo_job_wait(submit(engine, &request), -1));
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_from_callback(is_gone, NULL, &reward));
  softdimo_reward_term term;
  memset(&term, 0, sizeof term);
  term.reward = reward;
  term.weight = 1;
  softdimo_request climbs = default_request(1);
  climbs.rewards = &term;
  climbs.reward_count = 1;
  climbs.optimize_steps = 5;
  wait_until_running(submit(engine, &climbs), 1);
  for (int i = 0; i < 20; i++) submit(engine, &slow);
  double start = seconds();
  OK(softdimo_job_free_all(engine));
  printf("# 41 jobs freed in %.0f ms\n", (seconds() - start) * 1e3);
  CHECK(seconds() - start < 5);
  softdimo_reward_free(reward);

  wait_until_running(submit(engine, &slow), 1);
  OK(softdimo_job_free_all(engine));
  /* The engine goes on. */
  uint32_t tokens[TOKENS];
  request.seed = 2;
  run_tokens(engine, &request, tokens);
  CHECK(!memcmp(tokens, expected, sizeof tokens));
}

/* Beside threads that submit and lose what they get. */

static atomic_int stop;

static void *submits(void *count) {
  softdimo_request request = default_request(1);
  while (!stop) {
    submit(engine, &request);
    ++*(long *)count;
  }
  return NULL;
}

static void reloads_beside_submits(void) {
  pthread_t threads[THREADS];
  long counts[THREADS] = {0}, all = 0;
  for (int t = 0; t < THREADS; t++) CHECK(!pthread_create(&threads[t], NULL, submits, &counts[t]));
  double start = seconds();
  while (seconds() - start < 1) OK(softdimo_job_free_all(engine));
  stop = 1;
  for (int t = 0; t < THREADS; t++) {
    CHECK(!pthread_join(threads[t], NULL));
    all += counts[t];
  }
  OK(softdimo_job_free_all(engine));
  printf("# %ld jobs submitted beside it\n", all);
  CHECK(all > 0);
}

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 2);
  engine = open_engine(argv[1], NULL);
  the_engine_goes_first(argv[1]);
  reloads();
  reloads_beside_submits();
  softdimo_engine_free(engine);
  return end();
}
