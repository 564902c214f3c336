/* Shared by the C programs of this folder: checks that say where and why, and a few shortcuts.
 *
 * A program prints only lines that start with "# " (measurements, messages for eyeballing) and a last line
 * "ok"; tests/capi/main.rs refuses anything else, so a library that prints is found out. */
#ifndef CHECK_H
#define CHECK_H

#ifndef _WIN32
#define _GNU_SOURCE
#endif
#include "softdimo.h"

#include "system.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sizes of the fixture model and of the bundled one: both make pictures of 32 x 32 from 64 x 2 tokens. */
enum { SIDE = 32, PIXELS = SIDE * SIDE, TOKENS = 128, CODES = 128 };

static const char *last_error(void) {
  static char text[4096];
  softdimo_last_error(text, sizeof text);
  return text;
}

static void fail(const char *file, int line, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("%s:%d: ", file, line);
  vprintf(format, arguments);
  printf("\n");
  va_end(arguments);
  fflush(stdout);
  end_now(1);
}

/* The expression holds. */
#define CHECK(expression)                                                                                    \
  do {                                                                                                       \
    if (!(expression)) fail(__FILE__, __LINE__, "%s (last error: %s)", #expression, last_error());           \
  } while (0)

/* The call returns `expected`. */
#define STATUS(expected, call)                                                                               \
  do {                                                                                                       \
    int32_t status_ = (call), expected_ = (expected);                                                        \
    if (status_ != expected_)                                                                                \
      fail(__FILE__, __LINE__, "%s: expected %s, found %s: %s", #call, softdimo_status_name(expected_),      \
           softdimo_status_name(status_), status_ ? last_error() : "");                                      \
  } while (0)

#define OK(call) STATUS(SOFTDIMO_OK, call)

/* The call returns `expected` and the message holds `words`. */
#define FAILS(expected, words, call)                                                                         \
  do {                                                                                                       \
    STATUS(expected, call);                                                                                  \
    if (!strstr(last_error(), words))                                                                        \
      fail(__FILE__, __LINE__, "%s: expected a message with '%s', found '%s'", #call, words, last_error());  \
  } while (0)

/* A hang ends the program; the last line says that everything was checked. */
static inline void begin(void) { end_within(200); }
static inline int end(void) {
  printf("ok\n");
  fflush(stdout);
  return 0;
}

/* A part that does not run on this system: tests/capi/left_out.rs has it, and the reason. */
static inline void left_out(const char *part) { printf("# left out: %s\n", part); }

static inline softdimo_engine_options default_options(void) {
  softdimo_engine_options options;
  OK(softdimo_engine_options_init(&options, sizeof options));
  return options;
}

static inline softdimo_engine *open_engine(const char *path, const softdimo_engine_options *options) {
  softdimo_engine *engine = NULL;
  OK(softdimo_engine_open(path, options, &engine));
  CHECK(engine);
  return engine;
}

static inline softdimo_request default_request(uint64_t seed) {
  softdimo_request request;
  OK(softdimo_request_init(&request, sizeof request));
  request.seed = seed;
  return request;
}

static inline softdimo_job *submit(const softdimo_engine *engine, const softdimo_request *request) {
  softdimo_job *job = NULL;
  OK(softdimo_submit(engine, request, &job));
  CHECK(job);
  return job;
}

/* Tokens of picture `index` of a finished job. */
static inline void tokens_of(const softdimo_job *job, uint32_t index, uint32_t tokens[TOKENS]) {
  uint64_t needed = 0;
  OK(softdimo_job_tokens(job, index, tokens, TOKENS, &needed));
  CHECK(needed == TOKENS);
}

/* Tokens of the first picture of a request, by submit and wait. */
static inline void run_tokens(const softdimo_engine *engine, const softdimo_request *request,
                              uint32_t tokens[TOKENS]) {
  softdimo_job *job = submit(engine, request);
  OK(softdimo_job_wait(job, -1));
  tokens_of(job, 0, tokens);
  softdimo_job_free(job);
}

/* A tight RGBA8 view of `pixels`, which hold SIDE x SIDE of them. */
static inline softdimo_image picture(void *pixels) {
  softdimo_image image;
  OK(softdimo_image_init(&image, sizeof image));
  image.width = image.height = SIDE;
  image.data = pixels;
  image.capacity = PIXELS * 4;
  return image;
}

/* The job has begun to compute. */
static inline void wait_until_running(const softdimo_job *job, uint32_t steps) {
  softdimo_progress progress;
  progress.struct_size = sizeof progress;
  do {
    OK(softdimo_job_progress(job, &progress));
    CHECK(progress.state <= SOFTDIMO_JOB_RUNNING || progress.state == SOFTDIMO_JOB_WAITING);
  } while (progress.step < steps);
}

enum { MANY_STEPS = 10000 };

/* A job that takes many seconds: as many steps of the teacher as there may be. */
static inline softdimo_request long_request(void) {
  softdimo_request request = default_request(1);
  request.steps = MANY_STEPS;
  return request;
}

/* A reward callback: every picture is worth the same, and brighter is better. */
static inline int32_t likes(void *data, const float *pixels, uint32_t batch, uint32_t width, uint32_t height,
                            float *scores, float *gradient) {
  (void)data, (void)pixels;
  for (uint32_t b = 0; b < batch; b++) scores[b] = 1;
  for (size_t i = 0; i < (size_t)batch * 3 * width * height; i++) gradient[i] = 1e-3F;
  return SOFTDIMO_CONTINUE;
}

#endif
