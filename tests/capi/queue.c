/* The order of jobs: priorities, keys, giving way between steps, and ending what has not begun.
 *
 * Arguments: model file. */
#include "check.h"

static softdimo_engine *engine;

static uint32_t state_of(const softdimo_job *job) {
  uint32_t state = 99;
  OK(softdimo_job_poll(job, &state));
  return state;
}

static int has_ended(const softdimo_job *job) { return state_of(job) > SOFTDIMO_JOB_RUNNING; }

static const char *error_of(const softdimo_job *job) {
  static char text[1024];
  OK(softdimo_job_error(job, text, sizeof text, NULL));
  return text;
}

static softdimo_request teacher(uint32_t steps) {
  softdimo_request request = default_request(3);
  request.steps = steps;
  return request;
}

/* A job that nothing passes: none is above it. */
static softdimo_job *holds_the_engine(void) {
  softdimo_request request = teacher(10000);
  request.priority = INT32_MAX;
  softdimo_job *job = submit(engine, &request);
  wait_until_running(job, 1);
  return job;
}

static void let_go(softdimo_job *job) {
  OK(softdimo_job_cancel(job));
  softdimo_job_free(job);
}

static void higher_ones_go_first(void) {
  enum { JOBS = 6 };
  static const int32_t priorities[JOBS] = {0, -3, 7, 0, 7, INT32_MIN};
  static const int order[JOBS] = {2, 4, 0, 3, 1, 5};
  softdimo_job *first = holds_the_engine(), *jobs[JOBS];
  for (int i = 0; i < JOBS; i++) {
    softdimo_request request = teacher(20);
    request.priority = priorities[i];
    jobs[i] = submit(engine, &request);
  }
  let_go(first);
  for (int k = 0; k < JOBS; k++) {
    OK(softdimo_job_wait(jobs[order[k]], -1));
    for (int later = k + 2; later < JOBS; later++) CHECK(!has_ended(jobs[order[later]]));
  }
  for (int i = 0; i < JOBS; i++) softdimo_job_free(jobs[i]);
}

static void the_latest_of_a_key_wins(void) {
  enum { JOBS = 5 };
  softdimo_request request = default_request(1);
  uint32_t expected[TOKENS], tokens[TOKENS];
  request.seed = 4;
  run_tokens(engine, &request, expected);
  softdimo_job *first = holds_the_engine(), *jobs[JOBS], *other, *none;
  request.queue_key = 8;
  other = submit(engine, &request);
  request.queue_key = 0;
  none = submit(engine, &request);
  for (int i = 0; i < JOBS; i++) {
    request.queue_key = UINT64_MAX;
    request.seed = (uint64_t)i;
    request.priority = -i; /* whatever the priority */
    jobs[i] = submit(engine, &request);
    for (int before = 0; before < i; before++) {
      CHECK(state_of(jobs[before]) == SOFTDIMO_JOB_CANCELLED);
      CHECK(strstr(error_of(jobs[before]), "replaced by a newer job with the key 18446744073709551615"));
      FAILS(SOFTDIMO_ERR_CANCELLED, "replaced by a newer job", softdimo_job_wait(jobs[before], -1));
      FAILS(SOFTDIMO_ERR_CANCELLED, "replaced by a newer job",
            softdimo_job_tokens(jobs[before], 0, tokens, TOKENS, NULL));
    }
  }
  /* One that was cancelled by its owner was not replaced. */
  request.queue_key = 77;
  softdimo_job *cancelled = submit(engine, &request);
  OK(softdimo_job_cancel(cancelled));
  let_go(submit(engine, &request));
  CHECK(!strcmp(error_of(cancelled), "the job was cancelled"));
  softdimo_job_free(cancelled);
  request.queue_key = UINT64_MAX;
  /* A request that is refused replaces nothing. */
  softdimo_job *refused = NULL;
  request.label = "no such label";
  STATUS(SOFTDIMO_ERR_UNKNOWN_LABEL, softdimo_submit(engine, &request, &refused));
  CHECK(state_of(jobs[JOBS - 1]) == SOFTDIMO_JOB_QUEUED);
  let_go(first);
  OK(softdimo_job_wait(jobs[JOBS - 1], -1));
  tokens_of(jobs[JOBS - 1], 0, tokens);
  CHECK(!memcmp(tokens, expected, sizeof tokens));
  OK(softdimo_job_wait(other, -1));
  OK(softdimo_job_wait(none, -1));
  for (int i = 0; i < JOBS; i++) softdimo_job_free(jobs[i]);
  softdimo_job_free(other);
  softdimo_job_free(none);

  /* One that runs goes on. */
  request = teacher(300);
  request.queue_key = 5;
  softdimo_job *running = submit(engine, &request);
  wait_until_running(running, 1);
  request.steps = 2;
  softdimo_job *newer = submit(engine, &request);
  OK(softdimo_job_wait(running, -1));
  OK(softdimo_job_wait(newer, -1));
  softdimo_job_free(running);
  softdimo_job_free(newer);
}

/* A job of 64 steps lets a picture of higher priority go first, and makes what it makes undisturbed. */
static void steps_give_way(void) {
  softdimo_request slow = teacher(64), quick = default_request(9);
  slow.batch = 4;
  uint32_t slow_alone[TOKENS], quick_alone[TOKENS], tokens[TOKENS];
  run_tokens(engine, &slow, slow_alone);
  run_tokens(engine, &quick, quick_alone);
  quick.priority = 1;
  softdimo_job *job = submit(engine, &slow);
  wait_until_running(job, 3);
  int passed = 0;
  while (!has_ended(job)) {
    if (passed == 50) {
      OK(softdimo_job_wait(job, -1));
      break;
    }
    softdimo_job *first = submit(engine, &quick);
    OK(softdimo_job_wait(first, -1));
    passed += !has_ended(job);
    tokens_of(first, 0, tokens);
    CHECK(!memcmp(tokens, quick_alone, sizeof tokens));
    softdimo_job_free(first);
  }
  printf("# %d pictures went before the steps of a job of 64\n", passed);
  CHECK(passed >= 5);
  tokens_of(job, 0, tokens);
  CHECK(!memcmp(tokens, slow_alone, sizeof tokens));
  softdimo_job_free(job);

  /* One of equal priority does not. */
  quick.priority = 0;
  slow.steps = 200;
  job = submit(engine, &slow);
  wait_until_running(job, 3);
  softdimo_job *behind = submit(engine, &quick);
  OK(softdimo_job_wait(behind, -1));
  CHECK(state_of(job) == SOFTDIMO_JOB_DONE);
  softdimo_job_free(behind);
  softdimo_job_free(job);
}

static softdimo_request climbs(const softdimo_reward_term *term) {
  softdimo_request request = default_request(5);
  request.rewards = term;
  request.reward_count = 1;
  request.optimize_steps = 40;
  return request;
}

/* So does an optimisation between its iterates, unless it has a deadline. */
static void iterates_give_way(void) {
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_color(-1, -1, 1, NULL, 0, &reward));
  softdimo_reward_term term;
  memset(&term, 0, sizeof term);
  term.reward = reward;
  term.weight = 1;
  softdimo_request slow = climbs(&term), quick = default_request(9);
  uint32_t alone[TOKENS], tokens[TOKENS];
  run_tokens(engine, &slow, alone);
  quick.priority = 1;
  softdimo_job *job = submit(engine, &slow);
  wait_until_running(job, 5);
  softdimo_job *first = submit(engine, &quick);
  OK(softdimo_job_wait(first, -1));
  CHECK(!has_ended(job));
  softdimo_job_free(first);
  /* An optimisation inside an optimisation. */
  slow.priority = 2;
  first = submit(engine, &slow);
  OK(softdimo_job_wait(first, -1));
  tokens_of(first, 0, tokens);
  CHECK(!memcmp(tokens, alone, sizeof tokens));
  CHECK(!has_ended(job));
  softdimo_job_free(first);
  OK(softdimo_job_wait(job, -1));
  tokens_of(job, 0, tokens);
  CHECK(!memcmp(tokens, alone, sizeof tokens));
  softdimo_job_free(job);

  slow.priority = 0;
  slow.deadline_ms = 600000;
  job = submit(engine, &slow);
  wait_until_running(job, 5);
  first = submit(engine, &quick);
  OK(softdimo_job_wait(first, -1));
  CHECK(has_ended(job));
  softdimo_job_free(first);
  softdimo_job_free(job);
  softdimo_reward_free(reward);
}

/* The job that gave way is cancelled, or freed, while the other runs: neither is disturbed. */
static void the_outer_job_ends_first(void) {
  softdimo_request slow = teacher(10000), quick = teacher(50);
  uint32_t expected[TOKENS], tokens[TOKENS];
  run_tokens(engine, &quick, expected);
  quick.priority = 1;
  for (int frees = 0; frees < 2; frees++) {
    softdimo_job *outer = submit(engine, &slow);
    wait_until_running(outer, 2);
    softdimo_job *inner = submit(engine, &quick);
    wait_until_running(inner, 1);
    if (frees) {
      softdimo_job_free(outer);
    } else {
      OK(softdimo_job_cancel(outer));
      CHECK(state_of(outer) == SOFTDIMO_JOB_CANCELLED);
      softdimo_job_free(outer);
    }
    OK(softdimo_job_wait(inner, -1));
    tokens_of(inner, 0, tokens);
    CHECK(!memcmp(tokens, expected, sizeof tokens));
    softdimo_job_free(inner);
  }
}

/* One that has no room beside the job that it would go before goes after it. */
static void no_room_inside(const char *model) {
  softdimo_engine_options options = default_options();
  options.memory_limit = (uint64_t)48 << 20;
  softdimo_engine *tight = open_engine(model, &options);
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_color(-1, -1, 1, NULL, 0, &reward));
  softdimo_reward_term term;
  memset(&term, 0, sizeof term);
  term.reward = reward;
  term.weight = 1;
  softdimo_request slow = climbs(&term), large = teacher(4);
  large.batch = 8;
  uint32_t slow_alone[TOKENS], large_alone[TOKENS], tokens[TOKENS];
  run_tokens(tight, &large, large_alone);
  run_tokens(tight, &slow, slow_alone);
  large.priority = 1;
  softdimo_job *outer = submit(tight, &slow);
  wait_until_running(outer, 5);
  softdimo_job *inner = submit(tight, &large);
  OK(softdimo_job_wait(inner, -1));
  CHECK(has_ended(outer));
  tokens_of(inner, 0, tokens);
  CHECK(!memcmp(tokens, large_alone, sizeof tokens));
  OK(softdimo_job_wait(outer, -1));
  tokens_of(outer, 0, tokens);
  CHECK(!memcmp(tokens, slow_alone, sizeof tokens));
  softdimo_job_free(inner);
  softdimo_job_free(outer);
  softdimo_engine_free(tight);
  softdimo_reward_free(reward);
}

/* Every job inside the steps of the one before it: some depth is enough, and all end. */
static void deeper_and_deeper(void) {
  enum { JOBS = 64 };
  softdimo_job *jobs[JOBS];
  for (int i = 0; i < JOBS; i++) {
    softdimo_request request = teacher(3);
    request.priority = i;
    jobs[i] = submit(engine, &request);
  }
  for (int i = 0; i < JOBS; i++) {
    OK(softdimo_job_wait(jobs[i], -1));
    softdimo_job_free(jobs[i]);
  }
}

static void what_is_pending_ends(void) {
  enum { JOBS = 5 };
  softdimo_job *first = holds_the_engine(), *jobs[JOBS];
  for (int i = 0; i < JOBS; i++) {
    softdimo_request request = default_request(2);
    request.priority = i;
    jobs[i] = submit(engine, &request);
  }
  OK(softdimo_job_cancel(jobs[2]));
  uint32_t count = 99;
  OK(softdimo_engine_cancel_pending(engine, &count));
  CHECK(count == JOBS - 1);
  for (int i = 0; i < JOBS; i++) {
    CHECK(state_of(jobs[i]) == SOFTDIMO_JOB_CANCELLED);
    CHECK(!strcmp(error_of(jobs[i]), "the job was cancelled"));
    softdimo_job_free(jobs[i]);
  }
  CHECK(state_of(first) == SOFTDIMO_JOB_RUNNING);
  OK(softdimo_engine_cancel_pending(engine, &count));
  CHECK(count == 0);
  OK(softdimo_engine_cancel_pending(engine, NULL));
  let_go(first);
  softdimo_memory memory;
  memory.struct_size = sizeof memory;
  OK(softdimo_engine_memory(engine, &memory));
}

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 2);
  engine = open_engine(argv[1], NULL);
  higher_ones_go_first();
  the_latest_of_a_key_wins();
  steps_give_way();
  iterates_give_way();
  the_outer_job_ends_first();
  deeper_and_deeper();
  no_room_inside(argv[1]);
  what_is_pending_ends();
  softdimo_engine_free(engine);
  return end();
}
