/* A program that was built with a released header runs with this library. Every struct ends where memory ends, so that
 * nothing beyond what the header knew is read or written.
 *
 * Arguments: model file, a folder to write to. */
#include <softdimo.h>

#include "system.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call)                                                                                                       \
  do {                                                                                                                 \
    int32_t status = (call);                                                                                           \
    if (status != SOFTDIMO_OK) {                                                                                       \
      char why[1024];                                                                                                  \
      softdimo_last_error(why, sizeof why);                                                                            \
      printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, why);                                                       \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)
#define CHECK(true)                                                                                                    \
  do {                                                                                                                 \
    if (!(true)) {                                                                                                     \
      printf("%s:%d: %s\n", __FILE__, __LINE__, #true);                                                                \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

/* `size` bytes before an unreadable page, filled with what no default is. */
static void *at_the_end(size_t size) { return memset(before_the_unreadable(size), 0xa5, size); }
#define AT_THE_END(type) ((type *)at_the_end(sizeof(type)))

static int32_t steps_done(void *user_data, uint32_t step, uint32_t total) {
  *(uint32_t *)user_data += step <= total;
  return SOFTDIMO_CONTINUE;
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  /* The library is the header's or a newer one of its major version. */
  CHECK(softdimo_abi_version() >> 16 == SOFTDIMO_ABI_VERSION >> 16);
  CHECK(softdimo_abi_version() >= SOFTDIMO_ABI_VERSION);

  softdimo_engine_options *options = AT_THE_END(softdimo_engine_options);
  OK(softdimo_engine_options_init(options, sizeof *options));
  options->threads = 1;
  options->memory_limit = (uint64_t)1 << 30;
  softdimo_engine *engine = NULL;
  OK(softdimo_engine_open(argv[1], options, &engine));

  softdimo_layout *layout = AT_THE_END(softdimo_layout);
  layout->struct_size = sizeof *layout;
  OK(softdimo_engine_layout(engine, layout));
  CHECK(layout->width > 0 && layout->struct_size == sizeof *layout);

  softdimo_image *images = at_the_end(2 * sizeof *images);
  for (int i = 0; i < 2; i++) {
    OK(softdimo_image_init(&images[i], sizeof *images));
    images[i].width = layout->width;
    images[i].height = layout->height;
    images[i].capacity = (uint64_t)layout->width * layout->height * 4;
    images[i].data = at_the_end(images[i].capacity);
  }

  uint32_t progressed = 0;
  softdimo_request *request = AT_THE_END(softdimo_request);
  OK(softdimo_request_init(request, sizeof *request));
  request->batch = 2;
  request->seed = 7;
  request->progress = steps_done;
  request->progress_user_data = &progressed;
  OK(softdimo_generate(engine, request, images, 2));
  CHECK(progressed > 0);
  CHECK(memcmp(images[0].data, images[1].data, images[0].capacity));

  /* A job, with a reward. */
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_color(-1, -1, 1, NULL, 0, &reward));
  softdimo_reward_term *term = AT_THE_END(softdimo_reward_term);
  memset(term, 0, sizeof *term);
  term->reward = reward;
  term->weight = 1;
  request->rewards = term;
  request->reward_count = 1;
  request->optimize_steps = 2;
  softdimo_job *job = NULL;
  OK(softdimo_submit(engine, request, &job));
  OK(softdimo_job_wait(job, -1));
  softdimo_progress *progress = AT_THE_END(softdimo_progress);
  progress->struct_size = sizeof *progress;
  OK(softdimo_job_progress(job, progress));
  CHECK(progress->state == SOFTDIMO_JOB_DONE);
  CHECK(progress->step == progress->total);
  softdimo_job_free(job);
  softdimo_reward_free(reward);

  softdimo_reward_options *reward_options = AT_THE_END(softdimo_reward_options);
  OK(softdimo_reward_options_init(reward_options, sizeof *reward_options));

  softdimo_memory *memory = AT_THE_END(softdimo_memory);
  memory->struct_size = sizeof *memory;
  OK(softdimo_engine_memory(engine, memory));

  char path[4096];
  snprintf(path, sizeof path, "%s/released.png", argv[2]);
  OK(softdimo_image_write_png(&images[0], path, NULL, 0));
  softdimo_engine_free(engine);
  puts("ok");
  return 0;
}
