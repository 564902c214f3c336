/* Reward callbacks that use the library themselves, and what they may write.
 *
 * Arguments: model file. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>

static softdimo_engine *engines[2];

static softdimo_job *climb(const softdimo_engine *engine, const softdimo_reward *reward, uint32_t steps) {
  softdimo_reward_term term;
  memset(&term, 0, sizeof term);
  term.reward = reward;
  term.weight = 1;
  softdimo_request request = default_request(3);
  request.rewards = &term;
  request.reward_count = 1;
  request.optimize_steps = steps;
  return submit(engine, &request);
}

static softdimo_reward *callback(softdimo_reward_fn function, void *data) {
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_from_callback(function, data, &reward));
  return reward;
}

static void wait_until_asked(const softdimo_job *job) {
  wait_until_running(job, 0);
  uint32_t state;
  softdimo_progress progress = {sizeof progress, 0, 0, 0};
  do {
    OK(softdimo_job_progress(job, &progress));
    state = progress.state;
    sleep_ms(10);
  } while (state == SOFTDIMO_JOB_QUEUED);
  sleep_ms(700);
}

/* One reward in two jobs: inside its call for the one, nothing waits for its call for the other. */

static softdimo_job *other_job;
static int inside;

static int32_t looks_at_the_other(void *data, const float *pixels, uint32_t batch, uint32_t width, uint32_t height,
                                  float *scores, float *gradient) {
  if (other_job && !inside++) {
    double start = seconds();
    uint32_t state = 99;
    OK(softdimo_job_poll(other_job, &state));
    CHECK(state == SOFTDIMO_JOB_RUNNING);
    FAILS(SOFTDIMO_ERR_UNSUPPORTED, "which this thread is inside", softdimo_job_wait(other_job, -1));
    FAILS(SOFTDIMO_ERR_UNSUPPORTED, "which this thread is inside", softdimo_job_wait(other_job, 5000));
    CHECK(seconds() - start < 1);
  }
  return likes(data, pixels, batch, width, height, scores, gradient);
}

static void one_reward_in_two_jobs(void) {
  softdimo_reward *reward = callback(looks_at_the_other, NULL);
  softdimo_job *first = climb(engines[0], reward, 2);
  other_job = climb(engines[1], reward, 2);
  wait_until_asked(other_job);
  OK(softdimo_job_wait(first, -1));
  CHECK(inside > 0);
  OK(softdimo_job_wait(other_job, -1));
  softdimo_job_free(first);
  softdimo_job_free(other_job);
  softdimo_reward_free(reward);
}

/* One thread is inside the reward: another's waits keep their time, and go on once it is free. */

static atomic_int slow;

static int32_t slowly(void *data, const float *pixels, uint32_t batch, uint32_t width, uint32_t height, float *scores,
                      float *gradient) {
  if (atomic_exchange(&slow, 0)) sleep_ms(1500);
  return likes(data, pixels, batch, width, height, scores, gradient);
}

static void *waits(void *job) {
  OK(softdimo_job_wait(job, -1));
  return NULL;
}

static void one_reward_in_two_threads(void) {
  softdimo_reward *reward = callback(slowly, NULL);
  softdimo_job *jobs[2] = {climb(engines[0], reward, 2), climb(engines[1], reward, 2)};
  wait_until_asked(jobs[0]);
  wait_until_asked(jobs[1]);
  slow = 1;
  pthread_t thread;
  CHECK(!pthread_create(&thread, NULL, waits, jobs[0]));
  while (slow) sleep_ms(1);
  double start = seconds();
  uint32_t state = 99;
  OK(softdimo_job_poll(jobs[1], &state));
  CHECK(state == SOFTDIMO_JOB_RUNNING);
  STATUS(SOFTDIMO_ERR_TIMEOUT, softdimo_job_wait(jobs[1], 100));
  CHECK(seconds() - start < 1);
  OK(softdimo_job_wait(jobs[1], -1));
  CHECK(!pthread_join(thread, NULL));
  for (int i = 0; i < 2; i++) softdimo_job_free(jobs[i]);
  softdimo_reward_free(reward);
}

/* Two callbacks wait for each other's engine: at least one is told. */

typedef struct {
  int number, by_job;
  int32_t status;
  double took;
} side;

static pthread_barrier_t both;

static int32_t waits_for_the_other(void *data, const float *pixels, uint32_t batch, uint32_t width, uint32_t height,
                                   float *scores, float *gradient) {
  side *me = data;
  if (me->status == 99) {
    const softdimo_engine *other = engines[1 - me->number];
    softdimo_memory memory = {sizeof memory, 0, 0, 0, 0};
    softdimo_request request = default_request(1);
    pthread_barrier_wait(&both);
    double start = seconds();
    if (me->by_job) {
      softdimo_job *job = submit(other, &request);
      me->status = softdimo_job_wait(job, -1);
      softdimo_job_free(job);
    } else {
      me->status = softdimo_engine_memory(other, &memory);
    }
    me->took = seconds() - start;
  }
  return likes(NULL, pixels, batch, width, height, scores, gradient);
}

static void *climbs(void *data) {
  side *me = data;
  softdimo_reward *reward = callback(waits_for_the_other, me);
  softdimo_job *job = climb(engines[me->number], reward, 2);
  OK(softdimo_job_wait(job, -1));
  softdimo_job_free(job);
  softdimo_reward_free(reward);
  return NULL;
}

static void two_callbacks_wait_for_each_other(int by_job) {
  side sides[2] = {{0, by_job, 99, 0}, {1, by_job, 99, 0}};
  pthread_t threads[2];
  CHECK(!pthread_barrier_init(&both, NULL, 2));
  for (int i = 0; i < 2; i++) CHECK(!pthread_create(&threads[i], NULL, climbs, &sides[i]));
  for (int i = 0; i < 2; i++) CHECK(!pthread_join(threads[i], NULL));
  int refused = 0;
  for (int i = 0; i < 2; i++) {
    CHECK(sides[i].status == SOFTDIMO_OK || sides[i].status == SOFTDIMO_ERR_UNSUPPORTED);
    refused += sides[i].status == SOFTDIMO_ERR_UNSUPPORTED;
  }
  CHECK(refused > 0);
  printf("# two callbacks wait for each other: %d refused, after %.2f and %.2f s\n", refused, sides[0].took, sides[1].took);
}

/* A negative zero is a number like any other; nothing is not. */

static int32_t writes(void *data, const float *pixels, uint32_t batch, uint32_t width, uint32_t height, float *scores,
                      float *gradient) {
  (void)pixels;
  const float *value = data;
  for (uint32_t b = 0; b < batch && value; b++) {
    CHECK(scores[b] == 0);
    scores[b] = *value;
  }
  for (size_t i = 0; i < (size_t)batch * 3 * width * height && value; i++) {
    CHECK(gradient[i] == 0);
    gradient[i] = *value;
  }
  return SOFTDIMO_CONTINUE;
}

static void zeros_are_numbers(void) {
  float zeros[2] = {0.0f, -0.0f};
  for (int i = 0; i < 3; i++) {
    softdimo_reward *reward = callback(writes, i < 2 ? &zeros[i] : NULL);
    softdimo_job *job = climb(engines[0], reward, 2);
    if (i < 2) OK(softdimo_job_wait(job, -1));
    else FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "none written", softdimo_job_wait(job, -1));
    softdimo_job_free(job);
    softdimo_reward_free(reward);
  }
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  begin();
  softdimo_engine_options options = default_options();
  options.threads = 1;
  for (int i = 0; i < 2; i++) engines[i] = open_engine(argv[1], &options);
  one_reward_in_two_jobs();
  one_reward_in_two_threads();
  two_callbacks_wait_for_each_other(0);
  two_callbacks_wait_for_each_other(1);
  zeros_are_numbers();
  for (int i = 0; i < 2; i++) softdimo_engine_free(engines[i]);
  return end();
}
