/* An engine that keeps out of the way: paused, with a share of the processor; and what ends while it is paused.
 *
 * Arguments: model file. */
#include "check.h"

#ifdef SYSTEM_FORKS
#include <sys/wait.h>
#include <unistd.h>
#endif

static const char *model;
static softdimo_engine *engine;

static softdimo_progress progress_of(const softdimo_job *job) {
  softdimo_progress progress;
  progress.struct_size = sizeof progress;
  OK(softdimo_job_progress(job, &progress));
  return progress;
}

static uint32_t state_of(const softdimo_job *job) {
  uint32_t state = 99;
  OK(softdimo_job_poll(job, &state));
  return state;
}

static softdimo_request teacher(uint32_t steps) {
  softdimo_request request = default_request(3);
  request.steps = steps;
  return request;
}

static softdimo_request climbs(softdimo_reward_term *term, softdimo_reward **reward) {
  OK(softdimo_reward_color(-1, -1, 1, NULL, 0, reward));
  memset(term, 0, sizeof *term);
  term->reward = *reward;
  term->weight = 1;
  softdimo_request request = default_request(5);
  request.rewards = term;
  request.reward_count = 1;
  request.optimize_steps = 1000;
  return request;
}

/* A call under way is over. */
static void stands_still(const softdimo_job *job) {
  sleep_ms(100);
  softdimo_progress before = progress_of(job);
  double cpu = cpu_seconds();
  sleep_ms(200);
  CHECK(progress_of(job).step == before.step && progress_of(job).state == before.state);
  cpu = cpu_seconds() - cpu;
  printf("# paused for 200 ms: %.1f ms of CPU\n", cpu * 1e3);
  CHECK(cpu < 0.02);
}

static void pauses_and_goes_on(void) {
  softdimo_request request = teacher(60);
  uint32_t alone[TOKENS], tokens[TOKENS];
  run_tokens(engine, &request, alone);
  softdimo_job *job = submit(engine, &request);
  wait_until_running(job, 3);
  OK(softdimo_engine_pause(engine));
  OK(softdimo_engine_pause(engine));
  stands_still(job);
  CHECK(progress_of(job).state == SOFTDIMO_JOB_RUNNING);
  STATUS(SOFTDIMO_ERR_TIMEOUT, softdimo_job_wait(job, 50));

  /* What comes meanwhile waits in the queue, in its order, with its keys. */
  request.steps = 2;
  request.queue_key = 4;
  softdimo_job *replaced = submit(engine, &request), *next = submit(engine, &request);
  CHECK(state_of(replaced) == SOFTDIMO_JOB_CANCELLED && state_of(next) == SOFTDIMO_JOB_QUEUED);
  softdimo_job *cancelled = submit(engine, &request);
  CHECK(state_of(next) == SOFTDIMO_JOB_CANCELLED);
  OK(softdimo_job_cancel(cancelled));
  CHECK(state_of(cancelled) == SOFTDIMO_JOB_CANCELLED);
  softdimo_job_free(replaced);
  softdimo_job_free(next);
  softdimo_job_free(cancelled);
  next = submit(engine, &request);
  CHECK(state_of(next) == SOFTDIMO_JOB_QUEUED);

  OK(softdimo_engine_resume(engine));
  OK(softdimo_job_wait(job, -1));
  tokens_of(job, 0, tokens);
  CHECK(!memcmp(tokens, alone, sizeof tokens));
  OK(softdimo_job_wait(next, -1));
  softdimo_job_free(job);
  softdimo_job_free(next);
  OK(softdimo_engine_resume(engine));
}

/* A job that is submitted to a paused engine does not begin; what does not compute is answered. */
static void nothing_begins(void) {
  softdimo_request request = teacher(5);
  OK(softdimo_engine_pause(engine));
  softdimo_job *job = submit(engine, &request);
  stands_still(job);
  CHECK(progress_of(job).state == SOFTDIMO_JOB_QUEUED);
  softdimo_memory memory;
  memory.struct_size = sizeof memory;
  OK(softdimo_engine_memory(engine, &memory));
  CHECK(memory.sessions > 0);
  softdimo_job_free(job);
  job = submit(engine, &request);
  OK(softdimo_engine_resume(engine));
  OK(softdimo_job_wait(job, -1));
  softdimo_job_free(job);
}

static void ends_while_paused(void) {
  softdimo_request request = long_request();
  for (int how = 0; how < 2; how++) {
    softdimo_job *job = submit(engine, &request);
    wait_until_running(job, 2);
    OK(softdimo_engine_pause(engine));
    double start = seconds();
    if (how) {
      OK(softdimo_job_cancel(job));
      STATUS(SOFTDIMO_ERR_CANCELLED, softdimo_job_wait(job, -1));
    }
    softdimo_job_free(job);
    CHECK(seconds() - start < 1);
    OK(softdimo_engine_resume(engine));
  }

  /* An optimisation makes its best picture, unless nobody looks. */
  softdimo_reward_term term;
  softdimo_reward *reward;
  request = climbs(&term, &reward);
  for (int how = 0; how < 2; how++) {
    softdimo_job *job = submit(engine, &request);
    wait_until_running(job, 5);
    OK(softdimo_engine_pause(engine));
    stands_still(job);
    double start = seconds();
    if (how) {
      uint32_t tokens[TOKENS];
      OK(softdimo_job_cancel(job));
      STATUS(SOFTDIMO_ERR_CANCELLED, softdimo_job_wait(job, -1));
      tokens_of(job, 0, tokens);
    }
    softdimo_job_free(job);
    printf("# an optimisation of a paused engine, %s: %.0f ms\n", how ? "cancelled" : "freed", (seconds() - start) * 1e3);
    CHECK(seconds() - start < 5);
    OK(softdimo_engine_resume(engine));
  }
  softdimo_reward_free(reward);
}

/* A paused engine is freed, with a job at hand and one that waits, and a process with one exits. */
static void frees_paused(void) {
  softdimo_engine *other = open_engine(model, NULL);
  softdimo_request request = long_request();
  softdimo_job *running = submit(other, &request), *queued = submit(other, &request);
  wait_until_running(running, 2);
  OK(softdimo_engine_pause(other));
  double start = seconds();
  softdimo_engine_free(other);
  softdimo_job_free(queued);
  softdimo_job_free(running);
  CHECK(seconds() - start < 2);
}

/* Nobody can resume an engine that was freed: what is left of it goes on. */
static void goes_on_for_its_jobs(void) {
  softdimo_engine *other = open_engine(model, NULL);
  softdimo_request request = teacher(20);
  uint32_t alone[TOKENS], tokens[TOKENS];
  run_tokens(other, &request, alone);
  softdimo_job *running = submit(other, &request), *queued = submit(other, &request);
  wait_until_running(running, 2);
  OK(softdimo_engine_pause(other));
  softdimo_engine_free(other);
  OK(softdimo_job_wait(queued, 60000));
  OK(softdimo_job_wait(running, 60000));
  tokens_of(queued, 0, tokens);
  CHECK(!memcmp(tokens, alone, sizeof tokens));
  softdimo_job_free(queued);
  softdimo_job_free(running);

  softdimo_opening *opening = NULL;
  OK(softdimo_engine_open_async(model, NULL, NULL, &opening));
  while (softdimo_opening_engine(opening, &other) != SOFTDIMO_OK) sleep_ms(1);
  OK(softdimo_engine_pause(other));
  softdimo_engine_free(other);
  OK(softdimo_opening_wait(opening, 60000));
  softdimo_opening_free(opening);
}

#ifdef SYSTEM_FORKS
static void exits_paused(void) {
  fflush(stdout);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    end_within(60);
    softdimo_engine *other = open_engine(model, NULL);
    softdimo_request request = long_request();
    softdimo_job *running = submit(other, &request);
    wait_until_running(running, 2);
    OK(softdimo_engine_pause(other));
    sleep_ms(50);
    exit(0);
  }
  int status = -1;
  double start = seconds();
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  printf("# a process with a paused engine: %.2f s in all\n", seconds() - start);
}
#endif

/* CPU of this process, which does nothing else, by the time that went by. */
static double share_over(double length) {
  double start = seconds(), cpu = cpu_seconds();
  while (seconds() - start < length) sleep_ms(20);
  return (cpu_seconds() - cpu) / (seconds() - start);
}

static void keeps_its_share(void) {
  softdimo_request request = long_request();
  uint32_t state;
  FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "percent: expected 0 (no limit) to 200: 100 for each of 2 threads, found 201",
        softdimo_engine_set_cpu_share(engine, 201));
  softdimo_job *job = submit(engine, &request);
  wait_until_running(job, 20);
  OK(softdimo_engine_set_cpu_share(engine, 20));
  sleep_ms(200);
  double share = share_over(2.5);
  printf("# a share of 20 %%: %.1f %%\n", share * 100);
  CHECK(share >= 0.12 && share <= 0.28);

  /* Paused, cancelled and freed as at once as ever. */
  OK(softdimo_engine_set_cpu_share(engine, 1));
  sleep_ms(100);
  OK(softdimo_engine_pause(engine));
  OK(softdimo_engine_resume(engine));
  double start = seconds();
  OK(softdimo_job_cancel(job));
  OK(softdimo_job_poll(job, &state));
  CHECK(state == SOFTDIMO_JOB_CANCELLED);
  softdimo_job_free(job);
  CHECK(seconds() - start < 1);

  OK(softdimo_engine_set_cpu_share(engine, 0));
  job = submit(engine, &request);
  wait_until_running(job, 20);
  share = share_over(1);
  printf("# without a limit: %.1f %%\n", share * 100);
  CHECK(share > 0.28);
  softdimo_job_free(job);
}

/* An engine whose networks look on their way makes the same pictures, bit for bit, and keeps its share within a call. */

static void results_of(const softdimo_engine *from, const softdimo_request *request, uint32_t *tokens, float *floats) {
  softdimo_job *job = submit(from, request);
  OK(softdimo_job_wait(job, -1));
  for (uint32_t b = 0; b < request->batch; b++) {
    uint64_t needed;
    tokens_of(job, b, tokens + b * TOKENS);
    OK(softdimo_job_image_f32(job, b, floats + b * 3 * PIXELS, 3 * PIXELS, &needed));
  }
  softdimo_job_free(job);
}

/* The largest share of 150 ms, and that of all, while a job of large batches runs. */
static double largest_share(softdimo_engine *of, uint32_t batch, double *all) {
  softdimo_request request = long_request();
  request.batch = batch;
  softdimo_job *job = submit(of, &request);
  wait_until_running(job, 2);
  OK(softdimo_engine_set_cpu_share(of, 20));
  sleep_ms(500);
  double largest = 0, start = seconds(), cpu = cpu_seconds();
  for (int i = 0; i < 20; i++) {
    double share = share_over(0.15);
    if (share > largest) largest = share;
  }
  *all = (cpu_seconds() - cpu) / (seconds() - start);
  OK(softdimo_engine_set_cpu_share(of, 0));
  softdimo_job_free(job);
  return largest;
}

static void looks_on_its_way(void) {
  static uint32_t tokens[2][4 * TOKENS];
  static float floats[2][4 * 3 * PIXELS];
  softdimo_engine_options options = default_options();
  options.threads = 2;
  for (uint32_t mode = SOFTDIMO_MEMORY_LEAN; mode <= SOFTDIMO_MEMORY_FAST; mode++) {
    softdimo_engine *engines[2];
    options.memory_mode = mode;
    for (uint32_t yielding = 0; yielding < 2; yielding++) {
      options.yielding = yielding;
      engines[yielding] = open_engine(model, &options);
    }
    softdimo_reward_term term;
    softdimo_reward *reward;
    for (int what = 0; what < 4; what++) {
      softdimo_request request = climbs(&term, &reward);
      request.optimize_steps = 5;
      if (what < 3) {
        request = default_request(11);
        request.batch = what == 1 ? 4 : 1;
        if (what == 2) request.steps = 6;
      }
      for (int i = 0; i < 2; i++) results_of(engines[i], &request, tokens[i], floats[i]);
      CHECK(!memcmp(tokens[0], tokens[1], sizeof *tokens));
      CHECK(!memcmp(floats[0], floats[1], sizeof *floats));
      softdimo_reward_free(reward);
    }
    if (mode == SOFTDIMO_MEMORY_LEAN) {
      enum { BATCH = 64 };
      double all[2], largest[2];
      for (int i = 0; i < 2; i++) largest[i] = largest_share(engines[i], BATCH, &all[i]);
      printf("# a share of 20 %%, calls of %d pictures: %.0f %%, at most %.0f %% of 150 ms; yielding %.0f %%, %.0f %%\n", BATCH,
             all[0] * 100, largest[0] * 100, all[1] * 100, largest[1] * 100);
      CHECK(all[1] >= 0.1 && all[1] <= 0.28);
      CHECK(largest[1] < 0.7);

      /* Paused in the middle of a call. */
      softdimo_request request = long_request();
      request.batch = BATCH;
      softdimo_job *job = submit(engines[1], &request);
      wait_until_running(job, 2);
      OK(softdimo_engine_pause(engines[1]));
      stands_still(job);
      OK(softdimo_job_cancel(job));
      softdimo_job_free(job);
      job = submit(engines[1], &request);
      wait_until_running(submit(engine, &request), 1);
      OK(softdimo_job_free_all(engine));
      OK(softdimo_engine_resume(engines[1]));
      wait_until_running(job, 2);
      OK(softdimo_engine_pause(engines[1]));
      softdimo_job_free(job);
    }
    for (int i = 0; i < 2; i++) softdimo_engine_free(engines[i]);
  }
}

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 2);
  model = argv[1];
#ifdef SYSTEM_FORKS
  exits_paused(); /* before this process has an engine */
#else
  left_out("an exit while paused");
#endif
  softdimo_engine_options options = default_options();
  options.threads = 2;
  engine = open_engine(model, &options);
  pauses_and_goes_on();
  nothing_begins();
  ends_while_paused();
  frees_paused();
  goes_on_for_its_jobs();
  keeps_its_share();
  looks_on_its_way();
  softdimo_engine_free(engine);
  return end();
}
