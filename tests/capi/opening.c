/* Opening without waiting: progress, taking the engine early or late, failures, cancelling and freeing at any moment.
 *
 * Arguments: model file, a small one. */
#include "check.h"

#include <pthread.h>
#ifdef SYSTEM_FORKS
#include <sys/wait.h>
#include <unistd.h>
#endif

static const char *model;

static softdimo_opening *open_async(const char *path, const softdimo_engine_options *options,
                                    const softdimo_request *request) {
  softdimo_opening *opening = NULL;
  OK(softdimo_engine_open_async(path, options, request, &opening));
  CHECK(opening);
  return opening;
}

static softdimo_progress progress_of(const softdimo_opening *opening) {
  softdimo_progress progress;
  memset(&progress, 0xff, sizeof progress);
  progress.struct_size = sizeof progress;
  OK(softdimo_opening_progress(opening, &progress));
  CHECK(progress.step <= progress.total && progress.waiting_ms == 0 && progress.reserved == 0);
  return progress;
}

static uint32_t sessions_of(const softdimo_engine *engine) {
  softdimo_memory memory;
  memory.struct_size = sizeof memory;
  OK(softdimo_engine_memory(engine, &memory));
  return memory.sessions;
}

static int messages;

static int32_t on_log(void *thread, int32_t level, const char *message) {
  CHECK(pthread_equal(*(pthread_t *)thread, pthread_self()) && level >= SOFTDIMO_LOG_WARNING && *message);
  messages++;
  return SOFTDIMO_CONTINUE;
}

static void opens_and_prepares(void) {
  softdimo_engine_options options = default_options();
  pthread_t self = pthread_self();
  options.log = on_log;
  options.log_user_data = &self;
  options.log_level = SOFTDIMO_LOG_INFO;
  softdimo_request request = default_request(1);
  request.batch = 3;
  double start = seconds();
  softdimo_opening *opening = open_async(model, &options, &request);
  double returned = seconds() - start;
  uint32_t step = 0;
  softdimo_progress progress;
  do {
    progress = progress_of(opening);
    CHECK(progress.step >= step && progress.state <= SOFTDIMO_JOB_DONE);
    step = progress.step;
    sleep_ms(1);
  } while (progress.state != SOFTDIMO_JOB_DONE);
  printf("# open_async returned after %.1f ms; %u of %u steps after %.0f ms\n", returned * 1e3, (unsigned)progress.step,
         (unsigned)progress.total, (seconds() - start) * 1e3);
  CHECK(progress.step == progress.total && progress.total == 4); /* the file, embedding, student, decoder */
  OK(softdimo_opening_wait(opening, -1));
  char text[64];
  OK(softdimo_opening_error(opening, text, sizeof text, NULL));
  CHECK(!*text && !messages);
  softdimo_engine *engine = NULL, *second = NULL;
  OK(softdimo_opening_engine(opening, &engine));
  CHECK(messages > 4);
  FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "opening: expected one whose engine was not taken yet",
        softdimo_opening_engine(opening, &second));
  CHECK(!second);
  softdimo_opening_free(opening);

  /* It is what warming up makes it. */
  CHECK(sessions_of(engine) == 4);
  softdimo_engine *other = open_engine(model, NULL);
  OK(softdimo_engine_warmup(other, 3));
  CHECK(sessions_of(other) == 4);
  softdimo_request one = default_request(8);
  uint32_t a[TOKENS], b[TOKENS];
  run_tokens(engine, &one, a);
  run_tokens(other, &one, b);
  CHECK(!memcmp(a, b, sizeof a));
  softdimo_engine_free(other);
  softdimo_engine_free(engine);
}

/* As soon as the file is open the engine is usable, and its jobs wait for the preparation. */
static void is_taken_early(void) {
  softdimo_opening *opening = open_async(model, NULL, NULL);
  softdimo_engine *engine = NULL;
  int32_t status;
  while ((status = softdimo_opening_engine(opening, &engine)) == SOFTDIMO_ERR_NOT_READY) {
    CHECK(!engine);
    sleep_ms(1);
  }
  OK(status);
  softdimo_request request = default_request(2);
  uint32_t tokens[TOKENS];
  run_tokens(engine, &request, tokens);
  OK(softdimo_opening_wait(opening, -1));
  CHECK(progress_of(opening).state == SOFTDIMO_JOB_DONE);
  softdimo_engine_free(engine); /* before the opening */
  softdimo_opening_free(opening);

  /* An opening is freed while it prepares: the engine stays. */
  opening = open_async(model, NULL, NULL);
  while (softdimo_opening_engine(opening, &engine) != SOFTDIMO_OK) sleep_ms(1);
  softdimo_opening_free(opening);
  run_tokens(engine, &request, tokens);
  softdimo_engine_free(engine);
}

static void says_what_is_wrong(const char *small) {
  softdimo_opening *opening = NULL;
  softdimo_engine *engine = NULL;
  softdimo_engine_options options = default_options();
  softdimo_request request = default_request(1);
  /* At once. */
  options.threads = 257;
  FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "threads", softdimo_engine_open_async(model, &options, NULL, &opening));
  options = default_options();
  request.batch = 257;
  FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "request.batch: expected 1 to 256, found 257",
        softdimo_engine_open_async(model, &options, &request, &opening));
  CHECK(!opening);

  /* Later: a file that is not there, */
  opening = open_async("/nowhere/model", NULL, NULL);
  FAILS(SOFTDIMO_ERR_NOT_FOUND, "/nowhere/model", softdimo_opening_wait(opening, -1));
  CHECK(progress_of(opening).state == SOFTDIMO_JOB_FAILED);
  FAILS(SOFTDIMO_ERR_NOT_FOUND, "/nowhere/model", softdimo_opening_engine(opening, &engine));
  char text[256];
  OK(softdimo_opening_error(opening, text, sizeof text, NULL));
  CHECK(strstr(text, "/nowhere/model"));
  OK(softdimo_opening_cancel(opening));
  CHECK(progress_of(opening).state == SOFTDIMO_JOB_FAILED);
  softdimo_opening_free(opening);

  /* and an engine that opens, and has no room for sessions. */
  options.memory_limit = 1;
  opening = open_async(small, &options, NULL);
  STATUS(SOFTDIMO_ERR_OUT_OF_MEMORY, softdimo_opening_wait(opening, -1));
  OK(softdimo_opening_engine(opening, &engine));
  softdimo_opening_free(opening);
  softdimo_engine_free(engine);
}

static void ends_at_any_moment(void) {
  double longest = 0;
  for (int k = 0; k < 40; k++) {
    softdimo_opening *opening = open_async(model, NULL, NULL);
    sleep_ms(k * 5 / 2);
    if (k % 4 == 1) {
      OK(softdimo_opening_cancel(opening));
      int32_t status = softdimo_opening_wait(opening, -1);
      CHECK(status == SOFTDIMO_OK || status == SOFTDIMO_ERR_CANCELLED);
      CHECK(progress_of(opening).state == (status ? SOFTDIMO_JOB_CANCELLED : SOFTDIMO_JOB_DONE));
    }
    softdimo_engine *engine = NULL;
    if (k % 4 == 2) {
      int32_t status = softdimo_opening_engine(opening, &engine);
      CHECK(status == SOFTDIMO_OK || status == SOFTDIMO_ERR_NOT_READY);
    }
    double start = seconds();
    softdimo_opening_free(opening);
    if (seconds() - start > longest) longest = seconds() - start;
    softdimo_engine_free(engine);
  }
  printf("# freed within %.0f ms\n", longest * 1e3);
  /* Nothing is left of them. */
  CHECK(threads_now() == 1);
}

#ifdef SYSTEM_FORKS
/* A process that exits, or forks, while it opens. */
static void exits_and_forks(void) {
  for (int k = 0; k < 8; k++) {
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      end_within(60);
      softdimo_opening *opening = open_async(model, NULL, NULL);
      sleep_ms(12 * k);
      pid_t inner = fork();
      if (inner == 0) {
        softdimo_engine *engine = NULL;
        if (softdimo_opening_engine(opening, &engine) != SOFTDIMO_ERR_FORKED) end_now(2);
        if (softdimo_opening_wait(opening, -1) != SOFTDIMO_ERR_FORKED) end_now(3);
        softdimo_opening_free(opening);
        end_now(0);
      }
      int status = -1;
      if (waitpid(inner, &status, 0) != inner || !WIFEXITED(status) || WEXITSTATUS(status)) end_now(4);
      exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
}
#endif

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 3);
  model = argv[1];
#ifdef SYSTEM_FORKS
  exits_and_forks(); /* before this process has an engine */
#else
  left_out("fork and exit while an engine opens");
#endif
  opens_and_prepares();
  is_taken_early();
  says_what_is_wrong(argv[2]);
  ends_at_any_moment();
  return end();
}
