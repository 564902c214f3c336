/* Jobs: progress, waiting, cancelling and freeing, from one thread and from many.
 *
 * Arguments: model file. */
#include "check.h"

#include <pthread.h>

static softdimo_engine *engine;

typedef struct {
  pthread_t thread;
  uint32_t calls, last, total, stop_at;
} seen;

static int32_t on_progress(void *user_data, uint32_t step, uint32_t total) {
  seen *s = user_data;
  CHECK(pthread_equal(s->thread, pthread_self())); /* on the thread that waits, and no other */
  CHECK(s->calls == 0 || (step > s->last && total == s->total));
  CHECK(step <= total && total > 0);
  s->calls++;
  s->last = step;
  s->total = total;
  return s->stop_at && step >= s->stop_at ? SOFTDIMO_STOP : SOFTDIMO_CONTINUE;
}

static softdimo_request watched(seen *s, uint32_t steps) {
  memset(s, 0, sizeof *s);
  s->thread = pthread_self();
  softdimo_request request = default_request(9);
  request.steps = steps;
  request.progress = on_progress;
  request.progress_user_data = s;
  return request;
}

static void progress(void) {
  seen s;
  uint8_t pixels[PIXELS * 4];
  softdimo_image image = picture(pixels);
  uint32_t state = 0;

  /* Blocking: the last call has every step; there are no more calls than steps, and one for the start. */
  softdimo_request request = watched(&s, 1);
  OK(softdimo_generate(engine, &request, &image, 1));
  CHECK(s.last == s.total && s.total == 3 && s.calls >= 1 && s.calls <= 4);
  request = watched(&s, 30);
  OK(softdimo_generate(engine, &request, &image, 1));
  CHECK(s.last == 31 && s.total == 31 && s.calls <= 32);
  printf("# progress of 31 steps: %u calls\n", s.calls);

  /* A second wait, and a poll, of a finished job have nothing new to say. */
  softdimo_job *job = NULL;
  request = watched(&s, 5);
  OK(softdimo_submit(engine, &request, &job));
  OK(softdimo_job_wait(job, -1));
  uint32_t calls = s.calls;
  OK(softdimo_job_wait(job, -1));
  OK(softdimo_job_wait(job, 0));
  OK(softdimo_job_poll(job, &state));
  CHECK(state == SOFTDIMO_JOB_DONE && s.calls == calls && s.last == 6);
  softdimo_job_free(job);

  /* A frame loop: poll only. */
  request = watched(&s, 40);
  OK(softdimo_submit(engine, &request, &job));
  int polls = 0;
  do {
    OK(softdimo_job_poll(job, &state));
    polls++;
    sleep_ms(1);
  } while (state <= SOFTDIMO_JOB_RUNNING);
  CHECK(state == SOFTDIMO_JOB_DONE && s.last == 41 && s.calls <= 42);
  printf("# 40 steps by polling: %d polls, %u calls\n", polls, s.calls);
  softdimo_job_free(job);

  /* STOP cancels: in generate, wait and poll. */
  request = watched(&s, 10000);
  s.stop_at = 3;
  memset(pixels, 0x5a, sizeof pixels);
  STATUS(SOFTDIMO_ERR_CANCELLED, softdimo_generate(engine, &request, &image, 1));
  CHECK(s.last >= 3 && s.last < 100 && pixels[0] == 0x5a);
  request = watched(&s, 10000);
  s.stop_at = 3;
  OK(softdimo_submit(engine, &request, &job));
  STATUS(SOFTDIMO_ERR_CANCELLED, softdimo_job_wait(job, -1));
  softdimo_job_free(job);
  request = watched(&s, 10000);
  s.stop_at = 3;
  OK(softdimo_submit(engine, &request, &job));
  do OK(softdimo_job_poll(job, &state));
  while (state <= SOFTDIMO_JOB_RUNNING);
  CHECK(state == SOFTDIMO_JOB_CANCELLED && s.last < 100);
  softdimo_job_free(job);

  /* STOP at the very last step comes too late: the picture is there. */
  request = watched(&s, 4);
  s.stop_at = 5;
  OK(softdimo_submit(engine, &request, &job));
  int32_t status = softdimo_job_wait(job, -1);
  CHECK(status == SOFTDIMO_OK || status == SOFTDIMO_ERR_CANCELLED);
  softdimo_job_free(job);
}

static int compare(const void *a, const void *b) {
  double d = *(const double *)a - *(const double *)b;
  return (d > 0) - (d < 0);
}

/* CPU seconds of the steps that a job of `long_request` has left when it is asked to end and does not. */
static double long_job(void) {
  enum { STEPS = 100 };
  softdimo_request request = default_request(1);
  request.steps = STEPS;
  softdimo_image image = {0};
  uint8_t pixels[PIXELS * 4];
  image = picture(pixels);
  OK(softdimo_generate(engine, &request, &image, 1));
  double start = cpu_seconds();
  OK(softdimo_generate(engine, &request, &image, 1));
  return (cpu_seconds() - start) / STEPS * MANY_STEPS;
}

/* A running job of `long_request` that is freed is cancelled: it computes less than a tenth of what it has left. */
static void free_cancels(softdimo_job *running, double whole) {
  double start = seconds(), cpu = cpu_seconds();
  softdimo_job_free(running);
  cpu = cpu_seconds() - cpu;
  printf("# free of a running job: %.2f ms, %.3f CPU seconds of %.0f\n", (seconds() - start) * 1e3, cpu, whole);
  CHECK(cpu < whole / 10);
}

static void cancel(void) {
  enum { TIMES = 40 };
  double latency[TIMES], whole = long_job();
  softdimo_request request = long_request();
  softdimo_progress p;
  p.struct_size = sizeof p;

  /* While running. */
  for (int i = 0; i < TIMES; i++) {
    softdimo_job *job = submit(engine, &request);
    wait_until_running(job, 1 + (uint32_t)i % 7);
    double start = seconds();
    OK(softdimo_job_cancel(job));
    STATUS(SOFTDIMO_ERR_CANCELLED, softdimo_job_wait(job, -1));
    latency[i] = seconds() - start;
    OK(softdimo_job_cancel(job)); /* after the end, and again */
    OK(softdimo_job_cancel(job));
    OK(softdimo_job_progress(job, &p));
    CHECK(p.state == SOFTDIMO_JOB_CANCELLED && p.step < p.total);
    softdimo_job_free(job);
  }
  qsort(latency, TIMES, sizeof *latency, compare);
  printf("# cancel of a running job: median %.2f ms, longest of %d %.2f ms\n", latency[TIMES / 2] * 1e3, TIMES,
         latency[TIMES - 1] * 1e3);

  /* Before the start: it counts, and neither cancel, wait nor free waits for the job ahead. */
  softdimo_job *ahead = submit(engine, &request), *queued = submit(engine, &request), *third = submit(engine, &request);
  wait_until_running(ahead, 1);
  OK(softdimo_job_progress(queued, &p));
  CHECK(p.state == SOFTDIMO_JOB_QUEUED && p.step == 0);
  FAILS(SOFTDIMO_ERR_NOT_READY, "found one that is queued", softdimo_job_tokens(queued, 0, NULL, 0, &(uint64_t){0}));
  double start = seconds();
  OK(softdimo_job_cancel(queued));
  STATUS(SOFTDIMO_ERR_CANCELLED, softdimo_job_wait(queued, -1));
  softdimo_job_free(queued);
  softdimo_job_free(third); /* not even cancelled before */
  double took = seconds() - start;
  printf("# cancel and free of queued jobs: %.2f ms\n", took * 1e3);
  OK(softdimo_job_progress(ahead, &p));
  CHECK(p.state == SOFTDIMO_JOB_RUNNING);

  free_cancels(ahead, whole);

  /* Right after submit, whatever the worker is doing just then. */
  for (int i = 0; i < 50; i++) {
    softdimo_job *job = submit(engine, &request);
    for (volatile int spin = 0; spin < i * 2000; spin++) {
    }
    OK(softdimo_job_cancel(job));
    STATUS(SOFTDIMO_ERR_CANCELLED, softdimo_job_wait(job, -1));
    softdimo_job_free(job);
  }

  /* After the end: the result stays. */
  request.steps = 2;
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  OK(softdimo_job_cancel(job));
  OK(softdimo_job_wait(job, -1));
  uint32_t tokens[TOKENS];
  tokens_of(job, 0, tokens);
  softdimo_job_free(job);
}

static void *cancel_many(void *argument) {
  for (int i = 0; i < 1000; i++) OK(softdimo_job_cancel(argument));
  return NULL;
}

static void *wait_cancelled(void *argument) {
  STATUS(SOFTDIMO_ERR_CANCELLED, softdimo_job_wait(argument, -1));
  return NULL;
}

static void cancel_from_threads(void) {
  softdimo_request request = long_request();
  softdimo_job *job = submit(engine, &request);
  wait_until_running(job, 1);
  pthread_t threads[8];
  for (int i = 0; i < 8; i++)
    CHECK(!pthread_create(&threads[i], NULL, i % 2 ? cancel_many : wait_cancelled, job));
  for (int i = 0; i < 8; i++) CHECK(!pthread_join(threads[i], NULL));
  softdimo_job_free(job);
}

static void timeouts(void) {
  softdimo_request request = long_request();
  softdimo_job *job = submit(engine, &request);
  for (int i = 0; i < 3; i++) {
    double start = seconds();
    STATUS(SOFTDIMO_ERR_TIMEOUT, softdimo_job_wait(job, 30));
    CHECK(seconds() - start >= 0.030);
  }
  STATUS(SOFTDIMO_ERR_TIMEOUT, softdimo_job_wait(job, 0));
  softdimo_job_free(job);
  request.steps = 2;
  job = submit(engine, &request);
  OK(softdimo_job_wait(job, INT64_MAX));
  OK(softdimo_job_wait(job, INT64_MIN));
  softdimo_job_free(job);
}

/* engine_free with jobs alive: results stay readable, the threads go with the last job. */
static void engine_goes_first(const char *model) {
  softdimo_request request = default_request(2);
  uint32_t expected[TOKENS], tokens[TOKENS];
  run_tokens(engine, &request, expected);
  softdimo_engine *other = open_engine(model, NULL);
  softdimo_job *done = submit(other, &request);
  OK(softdimo_job_wait(done, -1));
  request = long_request();
  softdimo_job *running = submit(other, &request);
  request = default_request(2);
  softdimo_job *queued = submit(other, &request);
  softdimo_engine_free(other);

  tokens_of(done, 0, tokens);
  CHECK(!memcmp(tokens, expected, sizeof tokens));
  uint8_t pixels[PIXELS * 4];
  softdimo_image image = picture(pixels);
  OK(softdimo_job_image(done, 0, &image));
  char text[4096];
  OK(softdimo_job_report(done, text, sizeof text, NULL));
  CHECK(strstr(text, "\"seed\":2"));
  softdimo_job_free(done);
  OK(softdimo_job_cancel(running));
  STATUS(SOFTDIMO_ERR_CANCELLED, softdimo_job_wait(running, -1));
  softdimo_job_free(running);
  OK(softdimo_job_wait(queued, -1));
  tokens_of(queued, 0, tokens);
  CHECK(!memcmp(tokens, expected, sizeof tokens));
  softdimo_job_free(queued);

  /* And with a job that runs, when nobody looks any more. */
  other = open_engine(model, NULL);
  request = long_request();
  running = submit(other, &request);
  wait_until_running(running, 1);
  softdimo_engine_free(other);
  free_cancels(running, long_job());
}

enum { HOSTS = 4, JOBS = 25, SEEDS = 5 };
static uint32_t reference[SEEDS][TOKENS];

static void *host(void *argument) {
  unsigned random = (unsigned)(size_t)argument * 7919u + 1;
  long finished = 0;
  for (int i = 0; i < JOBS; i++) {
    random = random * 1664525u + 1013904223u;
    uint64_t seed = random >> 8 & 0xffff;
    softdimo_request request = default_request(seed % SEEDS);
    if (random >> 30 == 0) request.steps = 50; /* some longer ones */
    softdimo_job *job = submit(engine, &request);
    unsigned what = random >> 26 & 3;
    if (what == 0) OK(softdimo_job_cancel(job));
    if (what == 1) {
      sleep_ms((random >> 20 & 3));
      OK(softdimo_job_cancel(job));
    }
    if (what != 2) { /* else freed as it is */
      int32_t status = softdimo_job_wait(job, -1);
      CHECK(status == SOFTDIMO_OK || (what < 2 && status == SOFTDIMO_ERR_CANCELLED));
      if (status == SOFTDIMO_OK && request.steps == 0) {
        uint32_t tokens[TOKENS];
        tokens_of(job, 0, tokens);
        CHECK(!memcmp(tokens, reference[seed % SEEDS], sizeof tokens));
        finished++;
      }
    }
    softdimo_job_free(job);
  }
  return (void *)(intptr_t)finished;
}

static void many_hosts(void) {
  for (uint64_t i = 0; i < SEEDS; i++) {
    softdimo_request request = default_request(i);
    run_tokens(engine, &request, reference[i]);
  }
  pthread_t threads[HOSTS];
  for (size_t i = 0; i < HOSTS; i++) CHECK(!pthread_create(&threads[i], NULL, host, (void *)i));
  long finished = 0;
  for (int i = 0; i < HOSTS; i++) {
    void *result;
    CHECK(!pthread_join(threads[i], &result));
    finished += (long)(intptr_t)result;
  }
  printf("# %d threads, %d jobs each, cancelled at random: %ld pictures compared\n", HOSTS, JOBS, finished);
  CHECK(finished >= HOSTS);
}

typedef struct {
  pthread_t thread;
  int messages, stop_after;
  char text[4096];
} log_seen;

static int32_t on_log(void *user_data, int32_t level, const char *message) {
  log_seen *s = user_data;
  CHECK(pthread_equal(s->thread, pthread_self()));
  /* A request without a label is warned of. */
  CHECK(level == SOFTDIMO_LOG_INFO || level == SOFTDIMO_LOG_WARNING);
  s->messages++;
  strncat(s->text, message, sizeof s->text - strlen(s->text) - 2);
  strcat(s->text, "\n");
  return s->stop_after && s->messages >= s->stop_after ? SOFTDIMO_STOP : SOFTDIMO_CONTINUE;
}

static void logs(const char *model) {
  for (int32_t level = SOFTDIMO_LOG_ERROR; level <= SOFTDIMO_LOG_INFO; level++) {
    log_seen s;
    memset(&s, 0, sizeof s);
    s.thread = pthread_self();
    softdimo_engine_options options = default_options();
    options.log = on_log;
    options.log_user_data = &s;
    options.log_level = level;
    softdimo_engine *other = open_engine(model, &options);
    OK(softdimo_engine_warmup(other, 1));
    softdimo_request request = default_request(0);
    uint32_t tokens[TOKENS];
    run_tokens(other, &request, tokens);
    if (level == SOFTDIMO_LOG_INFO) {
      CHECK(strstr(s.text, "ONNX Runtime 1.") && strstr(s.text, "prepared 'student' for 1 pictures"));
      s.stop_after = s.messages + 1;
      OK(softdimo_engine_warmup(other, 2)); /* three more, of which one is let through */
      CHECK(s.messages == s.stop_after);
    } else {
      /* That there is no label. */
      CHECK(s.messages == (level == SOFTDIMO_LOG_WARNING));
    }
    softdimo_engine_free(other);
  }
}

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 2);
  softdimo_engine_options options = default_options();
  options.threads = 2;
  engine = open_engine(argv[1], &options);
  progress();
  cancel();
  cancel_from_threads();
  timeouts();
  engine_goes_first(argv[1]);
  many_hosts();
  logs(argv[1]);
  softdimo_engine_free(engine);
  return end();
}
