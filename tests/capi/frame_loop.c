/* A frame loop never waits: polls, progress and cancels beside an engine of the lowest priority on a machine without a
 * processor to spare, and jobs that wait for their host.
 *
 * Arguments: model file. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

static softdimo_reward_term weigh(const softdimo_reward *reward) {
  softdimo_reward_term term;
  memset(&term, 0, sizeof term);
  term.reward = reward;
  term.weight = 1;
  return term;
}

#ifndef _WIN32
#include <sys/resource.h>

enum { ROUNDS = 20, LOOKS = 5000, BUSY = 2 };

static atomic_int stop;

static void *busy(void *none) {
  while (!stop) {
  }
  return none;
}

static int32_t on_progress(void *steps, uint32_t step, uint32_t total) {
  CHECK(step <= total);
  ++*(uint32_t *)steps;
  return SOFTDIMO_CONTINUE;
}

static struct rusage usage(void) {
  struct rusage u;
  CHECK(!getrusage(RUSAGE_THREAD, &u));
  return u;
}

/* How long calls took: the longest, the longest of those during which this thread kept its processor, and how many of the
 * latter took a millisecond and more. */
static double worst, worst_undisturbed;
static long calls, slow, voluntary;

#define MEASURED(call)                                                                                       \
  do {                                                                                                       \
    struct rusage before_ = usage();                                                                         \
    double start_ = seconds();                                                                               \
    OK(call);                                                                                                \
    double took_ = seconds() - start_;                                                                       \
    struct rusage after_ = usage();                                                                          \
    calls++;                                                                                                 \
    voluntary += after_.ru_nvcsw - before_.ru_nvcsw;                                                         \
    if (took_ > worst) worst = took_;                                                                        \
    if (after_.ru_nivcsw == before_.ru_nivcsw) {                                                             \
      if (took_ > worst_undisturbed) worst_undisturbed = took_;                                              \
      slow += took_ >= 1e-3;                                                                                 \
    }                                                                                                        \
  } while (0)

static void looks_and_cancels_do_not_wait(const char *model) {
  softdimo_engine_options options = default_options();
  options.niceness = 19;
  softdimo_engine *engine = open_engine(model, &options);
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_color(-1, -1, 1, NULL, 0, &reward));
  softdimo_reward_term term = weigh(reward);
  uint32_t steps = 0;
  softdimo_request teacher = long_request(), request = default_request(1);
  request.rewards = &term;
  request.reward_count = 1;
  request.optimize_steps = 1000;
  request.progress = on_progress;
  request.progress_user_data = &steps;
  teacher.progress = on_progress;
  teacher.progress_user_data = &steps;

  /* Prepared without a load, so that there are steps under one. */
  softdimo_job *job = submit(engine, &teacher);
  wait_until_running(job, 2);
  softdimo_job_free(job);
  job = submit(engine, &request);
  uint32_t state;
  while (steps < 5) {
    OK(softdimo_job_poll(job, &state));
    sleep_ms(1);
  }
  pthread_t threads[BUSY];
  for (int i = 0; i < BUSY; i++) CHECK(!pthread_create(&threads[i], NULL, busy, NULL));
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < LOOKS; i++) {
      softdimo_progress progress;
      progress.struct_size = sizeof progress;
      MEASURED(softdimo_job_poll(job, &state));
      CHECK(state <= SOFTDIMO_JOB_RUNNING);
      MEASURED(softdimo_job_progress(job, &progress));
    }
    MEASURED(softdimo_job_cancel(job));
    softdimo_job_free(job);
    job = submit(engine, round % 4 ? &teacher : &request);
  }
  stop = 1;
  for (int i = 0; i < BUSY; i++) CHECK(!pthread_join(threads[i], NULL));
  printf("# %ld polls, looks and cancels, %u steps told: worst %.3f ms, of those that kept the processor %.3f ms\n", calls,
         (unsigned)steps, worst * 1e3, worst_undisturbed * 1e3);
  CHECK(calls > 200000);
  CHECK(voluntary == 0);
  /* A machine of others' may stand still as a whole. */
  CHECK(slow <= calls / 50000);
  softdimo_job_free(job);
  softdimo_reward_free(reward);
  softdimo_engine_free(engine);
}

#endif

/* A job that waits for its host says so, to those who know the word. */

typedef struct {
  uint32_t struct_size, state, step, total;
} progress_of_1_1;

static softdimo_progress progress_of(const softdimo_job *job) {
  softdimo_progress progress;
  memset(&progress, 0xff, sizeof progress);
  progress.struct_size = sizeof progress;
  OK(softdimo_job_progress(job, &progress));
  CHECK(progress.reserved == 0);
  return progress;
}

static softdimo_job *asking;
static atomic_int inside, leave;

static int32_t on_reward(void *data, const float *pixels, uint32_t batch, uint32_t width, uint32_t height, float *scores,
                         float *gradient) {
  /* While it is served the job is not waiting. */
  softdimo_progress progress = progress_of(asking);
  CHECK(progress.state == SOFTDIMO_JOB_RUNNING && progress.waiting_ms == 0);
  inside = 1;
  while (!leave) sleep_ms(1);
  return likes(data, pixels, batch, width, height, scores, gradient);
}

static void *waits(void *job) {
  OK(softdimo_job_wait(job, -1));
  return NULL;
}

static void waiting_is_told(const char *model) {
  softdimo_engine *engine = open_engine(model, NULL);
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_from_callback(on_reward, NULL, &reward));
  softdimo_reward_term term = weigh(reward);
  softdimo_request request = default_request(2);
  request.rewards = &term;
  request.reward_count = 1;
  request.optimize_steps = 2;
  softdimo_job *job = submit(engine, &request);
  softdimo_job *other = submit(engine, &request);
  asking = job;
  while (progress_of(job).state != SOFTDIMO_JOB_WAITING) sleep_ms(1);
  CHECK(progress_of(other).state == SOFTDIMO_JOB_QUEUED && progress_of(other).waiting_ms == 0);
  double since = seconds();
  softdimo_progress progress = progress_of(job);
  while (progress.waiting_ms < 20) {
    CHECK(progress.state == SOFTDIMO_JOB_WAITING);
    sleep_ms(1);
    progress = progress_of(job);
  }
  CHECK(progress.waiting_ms <= (seconds() - since) * 1e3 + 200);

  /* A program of ABI 1.1 does not know the word. */
  progress_of_1_1 old;
  old.struct_size = sizeof old;
  OK(softdimo_job_progress(job, (softdimo_progress *)(void *)&old));
  CHECK(old.state == SOFTDIMO_JOB_RUNNING && old.struct_size == sizeof old);

  /* Another thread serves it: a poll does not wait for that, and says that the job runs. */
  pthread_t thread;
  CHECK(!pthread_create(&thread, NULL, waits, job));
  while (!inside) sleep_ms(1);
  uint32_t state = 99;
  OK(softdimo_job_poll(job, &state));
  CHECK(state == SOFTDIMO_JOB_RUNNING);
  leave = 1;
  CHECK(!pthread_join(thread, NULL));
  CHECK(progress_of(job).state == SOFTDIMO_JOB_DONE);

  /* A poll serves it itself. */
  asking = other;
  for (state = SOFTDIMO_JOB_QUEUED; state <= SOFTDIMO_JOB_RUNNING; sleep_ms(1)) OK(softdimo_job_poll(other, &state));
  CHECK(state == SOFTDIMO_JOB_DONE);
  softdimo_job_free(job);
  softdimo_job_free(other);

  /* Nobody does: the job is cancelled, and has ended. */
  job = asking = submit(engine, &request);
  while (progress_of(job).state != SOFTDIMO_JOB_WAITING) sleep_ms(1);
  OK(softdimo_job_cancel(job));
  CHECK(progress_of(job).state == SOFTDIMO_JOB_CANCELLED && progress_of(job).waiting_ms == 0);
  softdimo_job_free(job);
  softdimo_reward_free(reward);
  softdimo_engine_free(engine);
}

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 2);
  waiting_is_told(argv[1]);
#ifndef _WIN32
  looks_and_cancels_do_not_wait(argv[1]);
#else
  left_out("polls, looks and cancels that never wait");
#endif
  return end();
}
