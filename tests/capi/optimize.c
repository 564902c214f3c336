/* Optimisation: rewards and their lifetime, the host's own reward, and every way to end a job early.
 *
 * Arguments: model file. */
#include "check.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

enum { STEPS = 4, VALUES = 3 * PIXELS };

static softdimo_engine *engine;
static uint8_t target_pixels[PIXELS * 4];

static softdimo_reward *target_reward(void) {
  softdimo_image image = picture(target_pixels);
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_target(&image, NULL, 0, &reward));
  CHECK(reward);
  return reward;
}

static softdimo_reward *blue_reward(void) {
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_color(-1, -1, 1, NULL, 0, &reward));
  return reward;
}

/* A request that climbs `term`; the term must live until the request was taken. */
static softdimo_request climb(const softdimo_reward_term *term, uint32_t steps) {
  softdimo_request request = default_request(5);
  request.batch = 2;
  request.rewards = term;
  request.reward_count = 1;
  request.optimize_steps = steps;
  return request;
}

static softdimo_reward_term weigh(const softdimo_reward *reward, float weight) {
  softdimo_reward_term term;
  memset(&term, 0, sizeof term);
  term.reward = reward;
  term.weight = weight;
  return term;
}

static softdimo_job *start(const softdimo_reward *reward, uint32_t steps) {
  softdimo_reward_term term = weigh(reward, 1);
  softdimo_request request = climb(&term, steps);
  return submit(engine, &request);
}

static char report_text[1 << 16];

/* Totals of every iterate, [iterate][picture], out of the report; returns the number of iterates. */
static int totals_of(const softdimo_job *job, float totals[][2], int room) {
  uint64_t needed = 0;
  OK(softdimo_job_report(job, report_text, sizeof report_text, &needed));
  int n = 0;
  for (const char *at = report_text; (at = strstr(at, "\"total\":[")) != NULL; n++) {
    at += strlen("\"total\":[");
    CHECK(n < room && sscanf(at, "%f,%f", &totals[n][0], &totals[n][1]) == 2);
  }
  return n;
}

static int ended(const char *how) {
  char text[64];
  snprintf(text, sizeof text, "\"ended\":\"%s\"", how);
  return strstr(report_text, text) != NULL;
}

/* The picture of a cancelled job is there: the best so far. */
static void best_is_readable(const softdimo_job *job) {
  uint8_t pixels[PIXELS * 4];
  softdimo_image image = picture(pixels);
  uint32_t tokens[TOKENS];
  memset(pixels, 0, sizeof pixels);
  for (uint32_t i = 0; i < 2; i++) {
    OK(softdimo_job_image(job, i, &image));
    CHECK(pixels[3] == 255);
    tokens_of(job, i, tokens);
  }
}

/* What the host's reward is told and what it sees. */
typedef struct {
  pthread_t thread;
  atomic_int calls;
  int stop_at; /* the call that says STOP, from 1; 0 for none */
  int wait_ms; /* how long a call takes */
  int bad_at;  /* the call from which on answers are not finite, from 1; 0 for none */
  float bad_score, bad_gradient; /* what is added to them then */
} host;

/* The built-in target reward, by hand. */
static int32_t on_reward(void *user_data, const float *pixels, uint32_t batch, uint32_t width,
                         uint32_t height, float *scores, float *gradient) {
  host *h = user_data;
  CHECK(pthread_equal(h->thread, pthread_self()));
  CHECK(batch == 2 && width == SIDE && height == SIDE);
  int calls = atomic_fetch_add(&h->calls, 1) + 1;
  for (uint32_t b = 0; b < batch; b++) {
    double sum = 0;
    for (size_t c = 0; c < 3; c++)
      for (size_t i = 0; i < PIXELS; i++) {
        size_t at = (b * 3 + c) * PIXELS + i;
        float d = pixels[at] - (float)target_pixels[4 * i + c] / 255.0f;
        CHECK(gradient[at] == 0);
        sum += (double)d * d;
        gradient[at] = -2 * d / VALUES;
      }
    scores[b] = (float)(-sum / VALUES);
    if (h->bad_at && calls >= h->bad_at) {
      scores[b] += h->bad_score;
      gradient[b * VALUES] += h->bad_gradient;
    }
  }
  if (h->wait_ms) sleep_ms(h->wait_ms);
  return h->stop_at && calls >= h->stop_at ? SOFTDIMO_STOP : SOFTDIMO_CONTINUE;
}

static softdimo_reward *host_reward(host *h) {
  softdimo_reward *reward = NULL;
  memset(h, 0, sizeof *h);
  h->thread = pthread_self();
  OK(softdimo_reward_from_callback(on_reward, h, &reward));
  return reward;
}

/* The engine does its next job. */
static void usable(void) {
  softdimo_request request = default_request(6);
  softdimo_job *job = submit(engine, &request);
  uint8_t pixels[PIXELS * 4];
  softdimo_image image = picture(pixels);
  OK(softdimo_job_wait(job, -1));
  OK(softdimo_job_image(job, 0, &image));
  softdimo_job_free(job);
}

/* The worker has come to the callback, and nobody answers. */
static void wait_until_asked(const softdimo_job *job) {
  wait_until_running(job, 1);
  sleep_ms(200);
}

static void callback_equals_built_in(void) {
  host h;
  softdimo_reward *rewards[2] = {target_reward(), host_reward(&h)};
  float totals[2][STEPS + 1][2];
  for (int i = 0; i < 2; i++) {
    softdimo_job *job = start(rewards[i], STEPS);
    OK(softdimo_job_wait(job, -1));
    CHECK(totals_of(job, totals[i], STEPS + 1) == STEPS + 1 && ended("steps"));
    softdimo_job_free(job);
    softdimo_reward_free(rewards[i]);
  }
  CHECK(h.calls == STEPS + 1);
  float worst = 0;
  for (int k = 0; k <= STEPS; k++)
    for (int b = 0; b < 2; b++) worst = fmaxf(worst, fabsf(totals[0][k][b] - totals[1][k][b]));
  printf("# a callback in C and the built-in reward: %.1e apart, from %.4f to %.4f\n", worst, totals[0][0][0],
         totals[0][STEPS][0]);
  CHECK(worst <= 1e-5f);
  CHECK(totals[0][STEPS][0] > totals[0][0][0]);
}

/* Recomputation takes the same way. */
static void recompute(void) {
  float totals[2][STEPS + 1][2];
  softdimo_reward *reward = target_reward();
  softdimo_reward_term term = weigh(reward, 1);
  for (uint32_t i = 0; i < 2; i++) {
    softdimo_request request = climb(&term, STEPS);
    request.recompute = i;
    softdimo_job *job = submit(engine, &request);
    OK(softdimo_job_wait(job, -1));
    CHECK(totals_of(job, totals[i], STEPS + 1) == STEPS + 1 && ended("steps"));
    softdimo_job_free(job);
  }
  for (int k = 0; k <= STEPS; k++)
    for (int b = 0; b < 2; b++) CHECK(fabsf(totals[0][k][b] - totals[1][k][b]) <= 1e-6f);
  CHECK(totals[1][STEPS][0] > totals[1][0][0]);
  softdimo_reward_free(reward);
}

/* The job stands still until someone waits or polls. */
static void only_the_waiting_thread(void) {
  host h;
  softdimo_reward *reward = host_reward(&h);
  softdimo_job *job = start(reward, STEPS);
  wait_until_asked(job);
  CHECK(h.calls == 0);
  int32_t status;
  int waits = 0;
  while ((status = softdimo_job_wait(job, 1)) == SOFTDIMO_ERR_TIMEOUT) waits++;
  OK(status);
  CHECK(h.calls == STEPS + 1);
  printf("# %d waits of 1 ms timed out\n", waits);
  softdimo_job_free(job);
  softdimo_reward_free(reward);

  reward = host_reward(&h);
  job = start(reward, STEPS);
  uint32_t state;
  do OK(softdimo_job_poll(job, &state));
  while (state == SOFTDIMO_JOB_QUEUED || state == SOFTDIMO_JOB_RUNNING);
  CHECK(state == SOFTDIMO_JOB_DONE && h.calls == STEPS + 1);
  softdimo_job_free(job);
  softdimo_reward_free(reward);
}

static int32_t asks_its_engine(void *user_data, const float *image, uint32_t batch, uint32_t width, uint32_t height,
                               float *scores, float *gradient) {
  double begun = seconds();
  softdimo_memory memory = {sizeof memory, 0, 0, 0, 0, 0};
  const char *why = "this thread answers";
  FAILS(SOFTDIMO_ERR_UNSUPPORTED, why, softdimo_engine_memory(engine, &memory));
  FAILS(SOFTDIMO_ERR_UNSUPPORTED, why, softdimo_engine_warmup(engine, 1));
  FAILS(SOFTDIMO_ERR_UNSUPPORTED, why, softdimo_engine_trim(engine));
  softdimo_request request = default_request(1);
  softdimo_job *job = submit(engine, &request);
  FAILS(SOFTDIMO_ERR_UNSUPPORTED, why, softdimo_job_wait(job, -1));
  softdimo_job_free(job);
  CHECK(seconds() - begun < 1);
  (void)image, (void)user_data;
  memset(scores, 0, batch * sizeof *scores);
  memset(gradient, 0, (size_t)batch * 3 * width * height * sizeof *gradient);
  return SOFTDIMO_CONTINUE;
}

/* A call that would wait for a worker that waits for it fails, and nothing else does. */
static void no_wait_waits_for_itself(void) {
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_from_callback(asks_its_engine, NULL, &reward));
  softdimo_job *job = start(reward, STEPS);
  OK(softdimo_job_wait(job, -1));
  softdimo_job_free(job);
  softdimo_reward_free(reward);

  /* The thread that has submitted a job waits for another one behind it. */
  host h;
  reward = host_reward(&h);
  job = start(reward, STEPS);
  softdimo_request request = default_request(1);
  softdimo_job *behind = submit(engine, &request);
  FAILS(SOFTDIMO_ERR_UNSUPPORTED, "wait for that job", softdimo_job_wait(behind, -1));
  CHECK(h.calls == 0);
  OK(softdimo_job_wait(job, -1));
  OK(softdimo_job_wait(behind, -1));
  softdimo_job_free(job);
  softdimo_job_free(behind);
  softdimo_reward_free(reward);
}

static int32_t stop_at(void *user_data, uint32_t step, uint32_t total) {
  CHECK(step <= total);
  return step >= *(const uint32_t *)user_data ? SOFTDIMO_STOP : SOFTDIMO_CONTINUE;
}

static void stop(void) {
  float totals[STEPS + 1][2];
  host h;
  for (int k = 1; k <= STEPS + 1; k++) {
    softdimo_reward *reward = host_reward(&h);
    h.stop_at = k;
    softdimo_job *job = start(reward, STEPS);
    STATUS(SOFTDIMO_ERR_CANCELLED, softdimo_job_wait(job, -1));
    CHECK(h.calls == k);
    CHECK(totals_of(job, totals, STEPS + 1) == k - 1 && ended("stopped by the callback"));
    best_is_readable(job);
    softdimo_job_free(job);
    softdimo_reward_free(reward);
    usable();
  }
  /* By the progress callback, at every step: no reward is asked for after that. Step 0 is before the start
   * embedding, and nothing need be there to read; after the loop there are the student and the decoder. */
  for (uint32_t k = 0; k <= STEPS + 4; k++) {
    softdimo_reward *reward = host_reward(&h);
    softdimo_reward_term term = weigh(reward, 1);
    softdimo_request request = climb(&term, STEPS);
    request.progress = stop_at;
    request.progress_user_data = &k;
    softdimo_job *job = submit(engine, &request);
    int32_t status = softdimo_job_wait(job, -1);
    int iterates = k == 0 ? 0 : k <= STEPS + 1 ? (int)k - 1 : STEPS + 1;
    /* The last network calls may be over before the word is heard. */
    if (status != SOFTDIMO_OK || k < STEPS + 2) STATUS(SOFTDIMO_ERR_CANCELLED, status);
    CHECK(h.calls == iterates);
    uint64_t needed = 0;
    status = softdimo_job_report(job, report_text, sizeof report_text, &needed);
    if (status != SOFTDIMO_OK) {
      CHECK(k <= 1);
      STATUS(SOFTDIMO_ERR_CANCELLED, status);
    } else {
      CHECK(totals_of(job, totals, STEPS + 1) == iterates);
      best_is_readable(job);
    }
    softdimo_job_free(job);
    softdimo_reward_free(reward);
    usable();
  }
}

/* A callback that writes nothing finds zeros, and is an error. */
static int32_t idle(void *user_data, const float *pixels, uint32_t batch, uint32_t width, uint32_t height, float *scores,
                    float *gradient) {
  (void)user_data, (void)pixels;
  for (uint32_t b = 0; b < batch; b++) CHECK(scores[b] == 0);
  for (size_t i = 0; i < (size_t)batch * 3 * width * height; i++) CHECK(gradient[i] == 0);
  return SOFTDIMO_CONTINUE;
}

static void untouched(void) {
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_from_callback(idle, NULL, &reward));
  softdimo_job *job = start(reward, STEPS);
  FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "reward callback: expected a score for each picture, found none written",
        softdimo_job_wait(job, -1));
  softdimo_job_free(job);
  softdimo_reward_free(reward);
  usable();
}

/* A score or a gradient that is not finite, from any call on: the climb is over, the best before it is kept; an error
 * where there is none. */
static void not_finite(void) {
  static const float bad[3][2] = {{NAN, 0}, {0, NAN}, {INFINITY, 0}};
  host h;
  for (int which = 0; which < 3; which++)
    for (int k = 1; k <= STEPS + 1; k++) {
      softdimo_reward *reward = host_reward(&h);
      h.bad_at = k;
      h.bad_score = bad[which][0];
      h.bad_gradient = bad[which][1];
      softdimo_job *job = start(reward, STEPS);
      uint64_t needed = 0;
      if (k == 1) {
        FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "reward callback: expected finite numbers, found ", softdimo_job_wait(job, -1));
      } else {
        OK(softdimo_job_wait(job, -1));
        OK(softdimo_job_report(job, report_text, sizeof report_text, &needed));
        CHECK(ended("not finite") && h.calls == k);
        best_is_readable(job);
      }
      softdimo_job_free(job);
      softdimo_reward_free(reward);
      usable();
    }
}

static void lifetimes(void) {
  host h;
  /* A reward may go before the job that uses it, and serve several jobs. */
  softdimo_reward *reward = host_reward(&h);
  softdimo_job *first = start(reward, 1), *second = start(reward, 2);
  softdimo_reward_free(reward);
  OK(softdimo_job_wait(first, -1));
  OK(softdimo_job_wait(second, -1));
  CHECK(h.calls == 5);
  softdimo_job_free(first);
  softdimo_job_free(second);
  softdimo_reward_free(NULL);

  /* A job whose callback waits for an answer that nobody gives: free does not wait for it, or would for ever. */
  reward = host_reward(&h);
  softdimo_job *job = start(reward, 100000);
  wait_until_asked(job);
  double began = seconds();
  softdimo_job_free(job);
  printf("# freed while a callback was pending: %.1f ms\n", (seconds() - began) * 1e3);
  CHECK(h.calls == 0);
  softdimo_reward_free(reward);
}

typedef struct {
  host *h;
  softdimo_job *job;
} pair;

static void *cancel_during_a_call(void *user_data) {
  pair *p = user_data;
  while (atomic_load(&p->h->calls) < 2) sleep_ms(1); /* after the first there is something to hand over */
  OK(softdimo_job_cancel(p->job));
  return NULL;
}

static void cancel_while_the_callback_runs(void) {
  host h;
  softdimo_reward *reward = host_reward(&h);
  h.wait_ms = 400;
  softdimo_job *job = start(reward, 100000);
  pair p = {&h, job};
  pthread_t other;
  CHECK(!pthread_create(&other, NULL, cancel_during_a_call, &p));
  double began = seconds();
  STATUS(SOFTDIMO_ERR_CANCELLED, softdimo_job_wait(job, -1));
  printf("# cancelled while a callback of 400 ms ran: %.0f ms\n", (seconds() - began) * 1e3);
  CHECK(!pthread_join(other, NULL));
  CHECK(h.calls == 2);
  best_is_readable(job);
  softdimo_job_free(job);
  softdimo_reward_free(reward);
}

static void deadline(void) {
  softdimo_reward *reward = blue_reward();
  softdimo_reward_term term = weigh(reward, 1);
  softdimo_request request = climb(&term, 100000);
  float totals[1][2];
  request.deadline_ms = 0;
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  CHECK(totals_of(job, totals, 1) == 0 && ended("deadline"));
  softdimo_job_free(job);

  request = climb(&term, 1);
  request.deadline_ms = INT64_MAX;
  job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  softdimo_job_free(job);
  softdimo_reward_free(reward);
}

static void bad(void) {
  softdimo_reward *reward = blue_reward();
  softdimo_reward_term term = weigh(reward, 1), null = weigh(NULL, 1), reserved = term;
  reserved.reserved = 7;
  softdimo_job *job = NULL;
#define REFUSED(status, words, change)                                                                       \
  do {                                                                                                       \
    softdimo_request r = climb(&term, 1);                                                                    \
    change;                                                                                                  \
    FAILS(status, words, softdimo_submit(engine, &r, &job));                                                 \
    CHECK(!job);                                                                                             \
  } while (0)
#define INVALID(words, change) REFUSED(SOFTDIMO_ERR_INVALID_ARGUMENT, words, change)
  REFUSED(SOFTDIMO_ERR_NULL_ARGUMENT, "reward", r.rewards = &null);
  INVALID("request.rewards[..].reserved", r.rewards = &reserved);
  INVALID("request.rewards", r.rewards = NULL);
  INVALID("request.rewards", r.reward_count = 0);
  INVALID("request.rewards", (r.rewards = NULL, r.reward_count = 0));
  INVALID("request.deadline_ms: expected -1 without rewards, which alone read it, found 5000",
          (softdimo_request_init(&r, sizeof r), r.deadline_ms = 5000));
  INVALID("request.lr: expected -1 without rewards", (softdimo_request_init(&r, sizeof r), r.lr = 0.5f));
  INVALID("request.optimizer", r.optimizer = 2);
  INVALID("request.variables", r.variables = 8);
  INVALID("optimize.variables", r.variables = SOFTDIMO_VARIABLE_EMBEDDING | SOFTDIMO_VARIABLE_NOISE);
  INVALID("request.momentum", (r.optimizer = SOFTDIMO_OPTIMIZER_ADAM, r.momentum = 0.9f));
  INVALID("optimize.momentum", r.momentum = 1);
  INVALID("optimize.lr", r.lr = -2);
  INVALID("optimize.lr", r.lr = NAN);
  INVALID("optimize.clip", r.clip = -1);
  INVALID("optimize.norm_regularizer", r.norm_regularizer = 1);
  INVALID("optimize.steps", r.optimize_steps = 100001);
  INVALID("request.deadline_ms", r.deadline_ms = -2);
  INVALID("request.recompute: expected 0 or 1, found 2", r.recompute = 2);
  REFUSED(SOFTDIMO_ERR_UNSUPPORTED, "steps > 1", r.steps = 8);
  term.weight = NAN;
  INVALID("reward weight", (void)r);
  term.weight = 1;

  /* A request smaller than that of the first version is not known; what a later version adds must be zero. */
  REFUSED(SOFTDIMO_ERR_STRUCT_SIZE, "softdimo_request", r.struct_size = 176);
  softdimo_request small;
  STATUS(SOFTDIMO_ERR_STRUCT_SIZE, softdimo_request_init(&small, 176));
  struct {
    softdimo_request request;
    uint32_t more[4];
  } large;
  OK(softdimo_request_init(&large.request, sizeof large));
  large.request.rewards = &term;
  large.request.reward_count = 1;
  OK(softdimo_submit(engine, &large.request, &job));
  softdimo_job_free(job);
  job = NULL;
  large.more[3] = 1;
  FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "softdimo_request", softdimo_submit(engine, &large.request, &job));

  /* Rewards that cannot be made, or do not fit the model. */
  softdimo_reward *none = NULL;
  softdimo_image image = picture(target_pixels);
  float mask[4] = {1, 1, 1, 1};
  STATUS(SOFTDIMO_ERR_NULL_ARGUMENT, softdimo_reward_from_callback(NULL, NULL, &none));
  STATUS(SOFTDIMO_ERR_NULL_ARGUMENT, softdimo_reward_target(NULL, NULL, 0, &none));
  STATUS(SOFTDIMO_ERR_NULL_ARGUMENT, softdimo_reward_color(1, 1, 1, NULL, 0, NULL));
  STATUS(SOFTDIMO_ERR_INVALID_ARGUMENT, softdimo_reward_target(&image, NULL, 4, &none));
  STATUS(SOFTDIMO_ERR_INVALID_ARGUMENT, softdimo_reward_target(&image, mask, 0, &none));
  CHECK(!none);
  OK(softdimo_reward_target(&image, mask, 4, &none));
  term.reward = none;
  INVALID("reward mask", (void)r);
  softdimo_reward_free(none);
  image.width = image.height = 16;
  OK(softdimo_reward_target(&image, NULL, 0, &none));
  term.reward = none;
  INVALID("reward target", (void)r);
  softdimo_reward_free(none);
  /* As many pixels in another shape. */
  image.width = 64;
  image.stride = 64 * 4;
  OK(softdimo_reward_target(&image, NULL, 0, &none));
  term.reward = none;
  INVALID("reward target", (void)r);
  softdimo_reward_free(none);
  softdimo_reward_free(reward);
}

/* Sessions of an optimisation live as long as its job. */
static void no_leak(void) {
  enum { JOBS = 50, WARM = 10 };
  uint64_t before = 0;
  host h;
  for (int i = 0; i < JOBS + WARM; i++) {
    softdimo_reward *rewards[2] = {host_reward(&h), NULL};
    OK(softdimo_reward_prior((uint64_t)i, &rewards[1]));
    softdimo_reward_term terms[2] = {weigh(rewards[0], 1), weigh(rewards[1], 0.1f)};
    softdimo_request request = climb(terms, 1);
    request.reward_count = 2;
    request.optimizer = SOFTDIMO_OPTIMIZER_ADAM;
    if (i % 5 == 0) h.stop_at = 2;
    if (i % 5 == 1) (h.bad_at = 2, h.bad_gradient = NAN);
    softdimo_job *job = submit(engine, &request);
    STATUS(h.stop_at ? SOFTDIMO_ERR_CANCELLED : SOFTDIMO_OK, softdimo_job_wait(job, -1));
    softdimo_job_free(job);
    for (int k = 0; k < 2; k++) softdimo_reward_free(rewards[k]);
    if (i == WARM - 1) before = resident();
  }
  double grown = (double)resident() - (double)before;
  printf("# %d optimisations: %.0f KiB more, of %.0f\n", JOBS, grown / 1024, (double)before / 1024);
  CHECK(grown < 24 * 1048576.0);
}

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 2);
  for (size_t i = 0; i < sizeof target_pixels; i++)
    target_pixels[i] = i % 4 == 3 ? 255 : (uint8_t)(i * 37 % 251);
  engine = open_engine(argv[1], NULL);
  callback_equals_built_in();
  recompute();
  only_the_waiting_thread();
  no_wait_waits_for_itself();
  stop();
  untouched();
  not_finite();
  lifetimes();
  cancel_while_the_callback_runs();
  deadline();
  bad();
  no_leak();
  softdimo_engine_free(engine);
  return end();
}
