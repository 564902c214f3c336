/* Jobs from eight threads, on an engine that all share and on engines that are freed while their jobs are under way: every
 * job ends, those that nobody cancelled with the picture of their seed, and nothing is left.
 *
 * Arguments: model file[, jobs[, seed]]. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 8 };

static const char *model;
static softdimo_engine *shared;
static int jobs_of_a_thread = 25;
static atomic_int done, cancelled, climbed;
static unsigned first_seed = 1;

/* What picture of which seed is right. */
enum { SEEDS = 4 };
static uint32_t expected[SEEDS][TOKENS];

static unsigned next(unsigned *state) {
  *state = *state * 1664525U + 1013904223U;
  return *state >> 10;
}

static softdimo_job *some_job(const softdimo_engine *engine, unsigned *random, unsigned *seed, int *climbs) {
  *seed = next(random) % SEEDS;
  *climbs = next(random) % 4 == 0;
  softdimo_request request = default_request(*seed);
  softdimo_reward *reward = NULL;
  softdimo_reward_term term;
  memset(&term, 0, sizeof term);
  if (*climbs) {
    if (next(random) % 2) OK(softdimo_reward_color(1, 0, 0, NULL, 0, &reward));
    else OK(softdimo_reward_from_callback(likes, NULL, &reward));
    term.reward = reward;
    term.weight = 1;
    request.rewards = &term;
    request.reward_count = 1;
    request.optimize_steps = 1 + next(random) % 3;
    if (next(random) % 4 == 0) request.deadline_ms = next(random) % 20;
  }
  if (next(random) % 4 == 0) request.batch = 1 + next(random) % 3;
  softdimo_job *job = submit(engine, &request);
  softdimo_reward_free(reward);
  return job;
}

static void ends(softdimo_job *job, unsigned *random, unsigned seed, int climbs) {
  int stop = next(random) % 4 == 0;
  if (next(random) % 4 == 0) sleep_ms(next(random) % 8);
  if (stop) OK(softdimo_job_cancel(job));
  int32_t status = SOFTDIMO_ERR_TIMEOUT;
  switch (next(random) % 3) {
    case 0:
      for (uint32_t state = 0; state <= SOFTDIMO_JOB_RUNNING;) {
        OK(softdimo_job_poll(job, &state));
        sleep_ms(1);
      }
      break;
    case 1:
      while (status == SOFTDIMO_ERR_TIMEOUT) status = softdimo_job_wait(job, 3);
      break;
    default:
      break;
  }
  if (next(random) % 8 == 0) {
    softdimo_job_free(job);
    return;
  }
  status = softdimo_job_wait(job, -1);
  if (status == SOFTDIMO_OK) {
    uint32_t tokens[TOKENS];
    tokens_of(job, 0, tokens);
    if (!climbs) CHECK(!memcmp(tokens, expected[seed], sizeof tokens));
    (void)(climbs ? climbed++ : done++);
  } else {
    STATUS(SOFTDIMO_ERR_CANCELLED, status);
    CHECK(stop);
    cancelled++;
  }
  softdimo_job_free(job);
}

static void *works(void *argument) {
  unsigned random = first_seed * 1000U + (unsigned)(size_t)argument;
  enum { AT_ONCE = 5 };
  for (int made = 0; made < jobs_of_a_thread; made += AT_ONCE) {
    if (next(&random) % 16 == 0) OK(softdimo_engine_trim(shared));
    if (next(&random) % 8 == 0) {
      softdimo_memory memory = {sizeof memory, 0, 0, 0, 0, 0};
      OK(softdimo_engine_memory(shared, &memory));
    }
    softdimo_engine *own = next(&random) % 3 == 0 ? open_engine(model, NULL) : NULL;
    softdimo_job *jobs[AT_ONCE];
    unsigned seeds[AT_ONCE];
    int climbs[AT_ONCE];
    for (int i = 0; i < AT_ONCE; i++) jobs[i] = some_job(own ? own : shared, &random, &seeds[i], &climbs[i]);
    softdimo_engine_free(own);
    /* In the order of their submission: those behind a job wait for its callback. */
    for (int i = 0; i < AT_ONCE; i++) ends(jobs[i], &random, seeds[i], climbs[i]);
  }
  return NULL;
}

int main(int argc, char **argv) {
  CHECK(argc >= 2);
  model = argv[1];
  if (argc > 2) jobs_of_a_thread = atoi(argv[2]) / THREADS;
  if (argc > 3) first_seed = (unsigned)strtoul(argv[3], NULL, 10);
  end_within(600);
  softdimo_engine_options options = default_options();
  options.threads = 1;
  shared = open_engine(model, &options);
  for (unsigned seed = 0; seed < SEEDS; seed++) {
    softdimo_request request = default_request(seed);
    run_tokens(shared, &request, expected[seed]);
  }
  double began = seconds();
  pthread_t threads[THREADS];
  for (size_t i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, works, (void *)i));
  for (size_t i = 0; i < THREADS; i++) CHECK(!pthread_join(threads[i], NULL));
  printf("# %d jobs of %d threads, seed %u: %d pictures, %d optimised, %d cancelled, the others freed; %.1f s\n",
         jobs_of_a_thread * THREADS, THREADS, first_seed, atomic_load(&done), atomic_load(&climbed),
         atomic_load(&cancelled), seconds() - began);
  CHECK(done > 0 && climbed > 0 && cancelled > 0);
  softdimo_engine_free(shared);
  return end();
}
