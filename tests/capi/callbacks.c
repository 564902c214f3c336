/* Reward callbacks that use the library themselves, and what they may write.
 *
 * Arguments: model file. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#ifdef SYSTEM_FORKS
#include <sys/wait.h>
#include <unistd.h>
#endif

enum { ENGINES = 4 };
static softdimo_engine *engines[ENGINES];

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

/* Waits until `job` asks the reward that this thread is inside, and is told so: before that it waits. */
static void asks_for_this(const softdimo_job *job) {
  FAILS(SOFTDIMO_ERR_UNSUPPORTED, "which this thread is inside", softdimo_job_wait(job, -1));
  uint32_t state = 99;
  OK(softdimo_job_poll(job, &state));
  CHECK(state == SOFTDIMO_JOB_RUNNING);
}

/* One reward in two jobs: inside its call for the one, nothing waits for its call for the other. */

static softdimo_job *other_job;
static int inside;

static int32_t looks_at_the_other(void *data, const float *pixels, uint32_t batch, uint32_t width, uint32_t height,
                                  float *scores, float *gradient) {
  if (other_job && !inside++) {
    asks_for_this(other_job);
    FAILS(SOFTDIMO_ERR_UNSUPPORTED, "which this thread is inside", softdimo_job_wait(other_job, 1000000));
  }
  return likes(data, pixels, batch, width, height, scores, gradient);
}

static void one_reward_in_two_jobs(void) {
  softdimo_reward *reward = callback(looks_at_the_other, NULL);
  softdimo_job *first = climb(engines[0], reward, 2);
  other_job = climb(engines[1], reward, 2);
  OK(softdimo_job_wait(first, -1));
  CHECK(inside > 0);
  OK(softdimo_job_wait(other_job, -1));
  softdimo_job_free(first);
  softdimo_job_free(other_job);
  softdimo_reward_free(reward);
}

/* One thread is inside the reward: another's waits keep their time, and go on once it is free. */

static softdimo_job *late_job;
static atomic_int held, let_go;

static int32_t holds(void *data, const float *pixels, uint32_t batch, uint32_t width, uint32_t height, float *scores,
                     float *gradient) {
  if (!held) {
    asks_for_this(late_job);
    held = 1;
    while (!let_go) sleep_ms(1);
  }
  return likes(data, pixels, batch, width, height, scores, gradient);
}

static void *waits(void *job) {
  OK(softdimo_job_wait(job, -1));
  return NULL;
}

static void one_reward_in_two_threads(void) {
  softdimo_reward *reward = callback(holds, NULL);
  softdimo_job *job = climb(engines[0], reward, 2);
  late_job = climb(engines[1], reward, 2);
  pthread_t thread;
  CHECK(!pthread_create(&thread, NULL, waits, job));
  while (!held) sleep_ms(1);
  uint32_t state = 99;
  OK(softdimo_job_poll(late_job, &state));
  CHECK(state == SOFTDIMO_JOB_RUNNING);
  STATUS(SOFTDIMO_ERR_TIMEOUT, softdimo_job_wait(late_job, 100));
  let_go = 1;
  OK(softdimo_job_wait(late_job, -1));
  CHECK(!pthread_join(thread, NULL));
  softdimo_job_free(job);
  softdimo_job_free(late_job);
  softdimo_reward_free(reward);
}

/* A thread inside the reward, for a job of the one engine, waits for the other engine, which waits for the reward: another
 * thread is inside the wait for that. */

static softdimo_reward *shared;
static softdimo_job *needs_shared;
static atomic_int submitted;
static int cancels;
static pthread_t needs_it;

static void *waits_for_shared(void *none) {
  needs_shared = climb(engines[1], shared, 2);
  submitted = 1;
  STATUS(cancels ? SOFTDIMO_ERR_CANCELLED : SOFTDIMO_OK, softdimo_job_wait(needs_shared, -1));
  return none;
}

static int32_t waits_for_its_engine(void *data, const float *pixels, uint32_t batch, uint32_t width, uint32_t height,
                                    float *scores, float *gradient) {
  if (!inside++) {
    const char *why = "which this thread is inside";
    softdimo_memory memory = {sizeof memory, 0, 0, 0, 0, 0};
    softdimo_request request = default_request(1);
    static uint8_t pixels_of[PIXELS * 4];
    softdimo_image image = picture(pixels_of);
    softdimo_job *before = submit(engines[1], &request);
    OK(softdimo_job_wait(before, -1));
    CHECK(!pthread_create(&needs_it, NULL, waits_for_shared, NULL));
    while (!submitted) sleep_ms(1);
    softdimo_job *behind = submit(engines[1], &request);

    /* Refused as soon as the other job asks. */
    if (cancels) FAILS(SOFTDIMO_ERR_UNSUPPORTED, why, softdimo_engine_memory(engines[1], &memory));
    else FAILS(SOFTDIMO_ERR_UNSUPPORTED, why, softdimo_job_wait(behind, -1));

    FAILS(SOFTDIMO_ERR_UNSUPPORTED, why, softdimo_engine_memory(engines[1], &memory));
    FAILS(SOFTDIMO_ERR_UNSUPPORTED, why, softdimo_engine_warmup(engines[1], 1));
    FAILS(SOFTDIMO_ERR_UNSUPPORTED, why, softdimo_engine_trim(engines[1]));
    FAILS(SOFTDIMO_ERR_UNSUPPORTED, why, softdimo_generate(engines[1], &request, &image, 1));
    FAILS(SOFTDIMO_ERR_UNSUPPORTED, why, softdimo_job_wait(behind, -1));
    FAILS(SOFTDIMO_ERR_UNSUPPORTED, why, softdimo_job_wait(needs_shared, -1));
    OK(softdimo_job_wait(before, -1)); /* has ended: there is nothing to wait for */

    /* A job that is cancelled does not wait for the reward any more. */
    if (cancels) {
      OK(softdimo_job_cancel(needs_shared));
      OK(softdimo_engine_memory(engines[1], &memory));
      OK(softdimo_job_wait(behind, -1));
    }
    softdimo_job_free(behind);
    softdimo_job_free(before);
  }
  return likes(data, pixels, batch, width, height, scores, gradient);
}

static void one_reward_and_the_other_engine(int cancelled) {
  inside = 0;
  cancels = cancelled;
  submitted = 0;
  shared = callback(waits_for_its_engine, NULL);
  softdimo_job *job = climb(engines[0], shared, 2);
  OK(softdimo_job_wait(job, -1));
  CHECK(inside > 0);
  CHECK(!pthread_join(needs_it, NULL));
  softdimo_job_free(job);
  softdimo_job_free(needs_shared);
  softdimo_reward_free(shared);
}

/* Two callbacks wait for each other's engine, or each for a job of a third that needs the other callback: at least one is
 * told. */

enum { BY_MEMORY, BY_JOB, BY_REWARD };

typedef struct {
  int number, by;
  int32_t status;
  double took;
  softdimo_reward *reward;
} side;

static side sides[2];
static pthread_barrier_t both;

static int32_t waits_for_the_other(void *data, const float *pixels, uint32_t batch, uint32_t width, uint32_t height,
                                   float *scores, float *gradient) {
  side *me = data;
  if (me->status == 99) {
    const side *other = &sides[1 - me->number];
    const softdimo_engine *engine = engines[me->by == BY_REWARD ? 2 + me->number : other->number];
    softdimo_memory memory = {sizeof memory, 0, 0, 0, 0, 0};
    softdimo_request request = default_request(1);
    pthread_barrier_wait(&both);
    double start = seconds();
    if (me->by == BY_MEMORY) {
      me->status = softdimo_engine_memory(engine, &memory);
    } else {
      softdimo_job *job = me->by == BY_JOB ? submit(engine, &request) : climb(engine, other->reward, 2);
      me->status = softdimo_job_wait(job, -1);
      softdimo_job_free(job);
    }
    me->took = seconds() - start;
  }
  return likes(NULL, pixels, batch, width, height, scores, gradient);
}

static void *climbs(void *data) {
  side *me = data;
  softdimo_job *job = climb(engines[me->number], me->reward, 2);
  OK(softdimo_job_wait(job, -1));
  softdimo_job_free(job);
  return NULL;
}

/* Both sides at once: how many were refused, of which there is one at least. */
static int refused_of_two(void *(*thread)(void *)) {
  pthread_t threads[2];
  CHECK(!pthread_barrier_init(&both, NULL, 2));
  for (int i = 0; i < 2; i++) CHECK(!pthread_create(&threads[i], NULL, thread, &sides[i]));
  for (int i = 0; i < 2; i++) CHECK(!pthread_join(threads[i], NULL));
  int refused = 0;
  for (int i = 0; i < 2; i++) {
    CHECK(sides[i].status == SOFTDIMO_OK || sides[i].status == SOFTDIMO_ERR_UNSUPPORTED);
    refused += sides[i].status == SOFTDIMO_ERR_UNSUPPORTED;
    softdimo_reward_free(sides[i].reward);
  }
  CHECK(refused > 0);
  CHECK(!pthread_barrier_destroy(&both));
  return refused;
}

static void two_callbacks_wait_for_each_other(int by) {
  for (int i = 0; i < 2; i++) sides[i] = (side){i, by, 99, 0, callback(waits_for_the_other, &sides[i])};
  int refused = refused_of_two(climbs);
  printf("# two callbacks wait for each other: %d refused, after %.2f and %.2f s\n", refused, sides[0].took, sides[1].took);
}

/* The same of two progress callbacks, outside which nobody answers what the jobs ask. */

static int32_t asks_the_other(void *data, uint32_t step, uint32_t total) {
  side *me = data;
  if (me->status == 99) {
    softdimo_memory memory = {sizeof memory, 0, 0, 0, 0, 0};
    CHECK(step <= total);
    pthread_barrier_wait(&both);
    me->status = softdimo_engine_memory(engines[1 - me->number], &memory);
  }
  return SOFTDIMO_CONTINUE;
}

static void *climbs_and_hears(void *data) {
  side *me = data;
  softdimo_reward_term term = {me->reward, 1, 0};
  softdimo_request request = default_request(3);
  request.rewards = &term;
  request.reward_count = 1;
  request.optimize_steps = 2;
  request.progress = asks_the_other;
  request.progress_user_data = me;
  softdimo_job *job = submit(engines[me->number], &request);
  OK(softdimo_job_wait(job, -1));
  softdimo_job_free(job);
  return NULL;
}

static void two_progress_callbacks_wait_for_each_other(void) {
  for (int i = 0; i < 2; i++) sides[i] = (side){i, BY_MEMORY, 99, 0, callback(likes, NULL)};
  refused_of_two(climbs_and_hears);
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

/* A job that is cancelled inside its callback has ended so, whatever the callback leaves. */

static softdimo_job *own_job;

static int32_t cancels_its_job(void *data, const float *pixels, uint32_t batch, uint32_t width, uint32_t height,
                               float *scores, float *gradient) {
  (void)data, (void)pixels, (void)batch, (void)width, (void)height, (void)scores, (void)gradient;
  OK(softdimo_job_cancel(own_job));
  return SOFTDIMO_CONTINUE;
}

static void cancelled_and_nothing_written(void) {
  softdimo_reward *reward = callback(cancels_its_job, NULL);
  own_job = climb(engines[0], reward, 2);
  FAILS(SOFTDIMO_ERR_CANCELLED, "cancel", softdimo_job_wait(own_job, -1));
  softdimo_job_free(own_job);
  softdimo_reward_free(reward);
}

#ifdef SYSTEM_FORKS
/* In a child that a callback made, the call that is under way comes back. */

static pid_t parent;

static int32_t forks(void *data, uint32_t step, uint32_t total) {
  (void)data, (void)step, (void)total;
  if (getpid() == parent) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child > 0) {
      int status = -1;
      CHECK(waitpid(child, &status, 0) == child);
      CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
      return SOFTDIMO_STOP;
    }
    end_within(20);
  }
  return SOFTDIMO_CONTINUE;
}

static void a_child_comes_back(void) {
  parent = getpid();
  softdimo_request request = default_request(3);
  request.steps = 1000; /* that it has not ended when the child has */
  request.progress = forks;
  static uint8_t pixels[PIXELS * 4];
  softdimo_image image = picture(pixels);
  int32_t status = softdimo_generate(engines[0], &request, &image, 1);
  if (getpid() != parent) end_now(status == SOFTDIMO_ERR_FORKED ? 0 : 1);
  CHECK(status == SOFTDIMO_ERR_CANCELLED);
}
#endif

int main(int argc, char **argv) {
  CHECK(argc == 2);
  begin();
  softdimo_engine_options options = default_options();
  options.threads = 1;
  for (int i = 0; i < ENGINES; i++) engines[i] = open_engine(argv[1], &options);
  one_reward_in_two_jobs();
  one_reward_in_two_threads();
  for (int cancelled = 0; cancelled < 2; cancelled++) one_reward_and_the_other_engine(cancelled);
  for (int by = BY_MEMORY; by <= BY_REWARD; by++) two_callbacks_wait_for_each_other(by);
  two_progress_callbacks_wait_for_each_other();
  zeros_are_numbers();
  cancelled_and_nothing_written();
#ifdef SYSTEM_FORKS
  a_child_comes_back();
#else
  left_out("a child that a callback made");
#endif
  for (int i = 0; i < ENGINES; i++) softdimo_engine_free(engines[i]);
  return end();
}
