/* Memory and threads of an engine: what it tells of itself against what the kernel says, and that limits are kept.
 *
 * Arguments: model file. */
#include "check.h"

static const char *model;

static softdimo_memory told(const softdimo_engine *engine) {
  softdimo_memory memory;
  memory.struct_size = sizeof memory;
  OK(softdimo_engine_memory(engine, &memory));
  return memory;
}

static uint64_t held(const softdimo_engine *engine) {
  softdimo_memory memory = told(engine);
  return memory.weights + memory.activations + memory.transient;
}

static void generate(const softdimo_engine *engine, uint32_t batch) {
  softdimo_request request = default_request(3);
  request.batch = batch;
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  softdimo_job_free(job);
}

static void optimize(const softdimo_engine *engine, uint32_t batch) {
  softdimo_reward *blue = NULL;
  OK(softdimo_reward_color(-1, -1, 1, NULL, 0, &blue));
  softdimo_reward_term term;
  memset(&term, 0, sizeof term);
  term.reward = blue;
  term.weight = 1;
  softdimo_request request = default_request(4);
  request.batch = batch;
  request.rewards = &term;
  request.reward_count = 1;
  request.optimize_steps = 2;
  softdimo_job *job = submit(engine, &request);
  softdimo_reward_free(blue);
  OK(softdimo_job_wait(job, -1));
  softdimo_job_free(job);
}

/* An arena touches more pages than are in use at any one time, some MiB for each session, and the C library keeps the free end
 * of a thread's heap: beside little this is more than a fifth. */
static const double TOUCHED = 32 * 1048576.0;

/* What the engine tells is within a fifth of what the process has grown by, or within TOUCHED where that is more. */
static void agrees(const char *when, const softdimo_engine *engine, uint64_t before) {
  softdimo_memory memory = told(engine);
  uint64_t tells = memory.weights + memory.activations, now = anonymous();
  double grown = (double)now - (double)before;
  printf("# %s: %u sessions tell %.1f MiB (weights %.1f), grown by %.1f MiB\n", when, memory.sessions,
         (double)tells / 1048576, (double)memory.weights / 1048576, grown / 1048576);
  double bound = 0.2 * grown > TOUCHED ? 0.2 * grown : TOUCHED;
  CHECK((double)tells > grown - bound && (double)tells < grown + bound);
}

static double begun;

static void truth(const char *name, uint32_t mode) {
  printf("# %s, after %.0f s\n", name, seconds() - begun);
  softdimo_engine_options options = default_options();
  options.memory_mode = mode;
  uint64_t before = anonymous();
  softdimo_engine *engine = open_engine(model, &options);
  generate(engine, 48);
  agrees("48 pictures", engine, before);
  generate(engine, 96);
  agrees("and 96", engine, before);
  generate(engine, 16);
  generate(engine, 1);
  agrees("and 16 and 1", engine, before);
  optimize(engine, 8);
  agrees("and an optimisation", engine, before);
  generate(engine, 96);
  agrees("and 96 again", engine, before);
  OK(softdimo_engine_trim(engine));
  CHECK(held(engine) == 0 && told(engine).sessions == 0);
  /* Of what was free, the C library may keep the end of a thread's heap: 64 MiB at most. */
  double left = (double)anonymous() - (double)before;
  printf("# left after trim: %.1f MiB\n", left / 1048576);
  CHECK(left < 64 * 1048576.0);
  generate(engine, 96);
  agrees("96 after trim", engine, before);
  softdimo_engine_free(engine);
}

/* A limit that one batch size fits into and two do not: both work, one after the other. In LEAN batches this large give back
 * what they take, so that two do not take more than the larger one; what is foreseen of that is up to twice as much. */
static void limit(uint32_t mode) {
  softdimo_engine_options options = default_options();
  options.memory_mode = mode;
  softdimo_engine *engine = open_engine(model, &options);
  generate(engine, 48);
  uint64_t one = held(engine);
  generate(engine, 64);
  uint64_t both = held(engine);
  softdimo_engine_free(engine);

  engine = open_engine(model, &options);
  generate(engine, 64);
  const uint64_t larger = held(engine);
  options.memory_limit = mode == SOFTDIMO_MEMORY_LEAN ? 2 * larger : larger * 5 / 4;
  softdimo_engine_free(engine);
  CHECK(one < options.memory_limit);
  CHECK(mode == SOFTDIMO_MEMORY_LEAN ? both < larger * 5 / 4 : options.memory_limit < both);
  uint64_t before = anonymous();
  engine = open_engine(model, &options);
  for (uint32_t round = 0; round < 6; round++) {
    generate(engine, round % 2 ? 48 : 64);
    uint64_t holds = held(engine);
    double grown = (double)anonymous() - (double)before;
    printf("# limit %.1f MiB: tells %.1f, grown by %.1f\n", (double)options.memory_limit / 1048576,
           (double)holds / 1048576, grown / 1048576);
    CHECK(holds <= options.memory_limit);
    CHECK(grown < 1.2 * (double)options.memory_limit);
  }
  /* What can never fit is refused; nothing that is there goes for it, and the engine goes on. */
  uint64_t fitted = held(engine);
  softdimo_request request = default_request(3);
  request.batch = 256;
  softdimo_job *job = submit(engine, &request);
  FAILS(SOFTDIMO_ERR_OUT_OF_MEMORY, "expected at most the memory limit of", softdimo_job_wait(job, -1));
  softdimo_job_free(job);
  printf("# refused: %.1f MiB before, %.1f after\n", (double)fitted / 1048576, (double)held(engine) / 1048576);
  CHECK(held(engine) > fitted / 2);
  optimize(engine, 1);
  CHECK(held(engine) <= options.memory_limit);
  generate(engine, 48);
  CHECK(held(engine) <= options.memory_limit);
  softdimo_engine_free(engine);
}

/* Batch sizes do not multiply threads: at most 8 sessions have a pool, of 2 threads beside the worker here. */
static void threads(void) {
  softdimo_engine_options options = default_options();
  options.threads = 3;
  softdimo_engine *engine = open_engine(model, &options);
  unsigned most = 0;
  for (uint32_t batch = 1; batch <= 40; batch++) {
    OK(softdimo_engine_warmup(engine, batch));
    if (batch % 10 == 0) generate(engine, batch);
    unsigned now = threads_named("softdimo-pool");
    most = now > most ? now : most;
  }
  printf("# 40 batch sizes: %u sessions, at most %u threads, after %.0f s\n", told(engine).sessions, most,
         seconds() - begun);
  CHECK(most > 0 && most <= 8 * 2);
  softdimo_engine_free(engine);
  CHECK(threads_named("softdimo-pool") == 0);
}

int main(int count, char **arguments) {
  CHECK(count == 2);
  model = arguments[1];
  begin();
  begun = seconds();
  /* What ONNX Runtime takes once per process. */
  softdimo_engine *engine = open_engine(model, NULL);
  generate(engine, 1);
  softdimo_engine_free(engine);
  truth("LEAN", SOFTDIMO_MEMORY_LEAN);
  truth("FAST", SOFTDIMO_MEMORY_FAST);
  limit(SOFTDIMO_MEMORY_LEAN);
  limit(SOFTDIMO_MEMORY_FAST);
  threads();
  return end();
}
