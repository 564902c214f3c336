/* One fault in the life of an engine, with shim.c preloaded: every call returns, with a picture or an error that says what is
 * wrong, and afterwards everything works.
 *
 * Arguments: model file, folder, kind of fault, its number, 1 for once or 0 for every call from there on. Exit status: 0
 * nothing was noticed, 77 there were errors, 78 nothing was injected. Without a fault, one life that nothing disturbs, for a
 * tool that watches it. */
#include "../check.h"
#include "shim.h"

#include <dlfcn.h>

static const char *model, *folder;
static char first[512];
static int errors;

/* A call that may fail, but not by a bug. */
static int32_t may(const char *what, int32_t status) {
  if (status == SOFTDIMO_OK) return status;
  char why[400] = "";
  softdimo_last_error(why, sizeof why);
  if (status == SOFTDIMO_ERR_INTERNAL || strlen(why) < 8)
    fail(__FILE__, __LINE__, "%s: %s: '%s'", what, softdimo_status_name(status), why);
  if (!errors++) snprintf(first, sizeof first, "%s: %s", what, why);
  return status;
}
#define MAY(call) may(#call, call)

/* Every kind of work, as far as it gets. */
static void life(void) {
  static uint8_t pixels[3][PIXELS * 4];
  static char text[1 << 16];
  static float embedding[1 << 16];
  char path[600];
  uint64_t needed = 0;
  softdimo_engine_options options;
  MAY(softdimo_engine_options_init(&options, sizeof options));
  options.threads = 2;
  softdimo_engine *engine = NULL;
  if (MAY(softdimo_engine_open(model, &options, &engine)) != SOFTDIMO_OK) return;
  softdimo_layout layout = {sizeof layout, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  MAY(softdimo_engine_layout(engine, &layout));
  MAY(softdimo_engine_info(engine, text, sizeof text, &needed));
  MAY(softdimo_engine_warmup(engine, 1));

  softdimo_image images[3];
  for (int i = 0; i < 3; i++) {
    MAY(softdimo_image_init(&images[i], sizeof images[i]));
    images[i].width = images[i].height = SIDE;
    images[i].data = pixels[i];
    images[i].capacity = sizeof pixels[i];
  }
  softdimo_request request;
  MAY(softdimo_request_init(&request, sizeof request));
  request.label = "rocket";
  request.seed = 7;
  MAY(softdimo_generate(engine, &request, images, 1));
  snprintf(path, sizeof path, "%s/picture.png", folder);
  MAY(softdimo_image_write_png(&images[0], path, NULL, 0));

  request.batch = 3;
  request.steps = 2;
  softdimo_job *job = NULL;
  if (MAY(softdimo_submit(engine, &request, &job)) == SOFTDIMO_OK) {
    MAY(softdimo_job_wait(job, -1));
    MAY(softdimo_job_image(job, 2, &images[2]));
    softdimo_picture_style style;
    OK(softdimo_picture_style_init(&style, sizeof style));
    style.matte = 1;
    style.palette_count = 8;
    style.scaling = SOFTDIMO_SCALING_SMOOTH;
    images[2].style = &style;
    MAY(softdimo_job_image(job, 2, &images[2]));
    MAY(softdimo_job_report(job, text, sizeof text, &needed));
  }
  softdimo_job_free(job);

  uint32_t tokens[TOKENS];
  MAY(softdimo_encode(engine, &images[0], tokens, TOKENS, &needed));

  softdimo_reward *rewards[2] = {NULL, NULL};
  MAY(softdimo_reward_color(1, 0, 0, NULL, 0, &rewards[0]));
  MAY(softdimo_reward_from_callback(likes, NULL, &rewards[1]));
  softdimo_reward_term terms[2];
  memset(terms, 0, sizeof terms);
  for (int i = 0; i < 2; i++) terms[i].reward = rewards[i], terms[i].weight = 1;
  request.steps = 1;
  request.batch = 2;
  request.rewards = terms;
  request.reward_count = 2;
  request.optimize_steps = 2;
  job = NULL;
  if (rewards[0] && rewards[1] && MAY(softdimo_submit(engine, &request, &job)) == SOFTDIMO_OK) {
    MAY(softdimo_job_wait(job, -1));
    MAY(softdimo_job_embedding(job, 0, embedding, sizeof embedding / sizeof *embedding, &needed));
  }
  softdimo_job_free(job);
  softdimo_reward_free(rewards[0]);
  softdimo_reward_free(rewards[1]);
  softdimo_memory memory = {sizeof memory, 0, 0, 0, 0, 0};
  MAY(softdimo_engine_memory(engine, &memory));
  MAY(softdimo_engine_trim(engine));
  softdimo_engine_free(engine);

  options.weights_mode = SOFTDIMO_WEIGHTS_READ;
  engine = NULL;
  softdimo_opening *opening = NULL;
  if (MAY(softdimo_engine_open_async(model, &options, NULL, &opening)) == SOFTDIMO_OK) {
    MAY(softdimo_opening_wait(opening, -1));
    MAY(softdimo_opening_engine(opening, &engine));
  }
  softdimo_opening_free(opening);
  softdimo_engine_free(engine);
}

int main(int argc, char **argv) {
  CHECK(argc == 3 || argc == 6);
  if (argc == 3) {
    model = argv[1], folder = argv[2];
    life();
    if (errors) fail(__FILE__, __LINE__, "%s", first);
    return end();
  }
  /* Of the preloaded shim. */
  fault_arm_fn *fault_arm;
  fault_disarm_fn *fault_disarm;
  *(void **)&fault_arm = dlsym(RTLD_DEFAULT, "fault_arm");
  *(void **)&fault_disarm = dlsym(RTLD_DEFAULT, "fault_disarm");
  CHECK(fault_arm && fault_disarm);
  end_within(60);
  model = argv[1], folder = argv[2];
  long number = atol(argv[4]), failed = 0;
  /* A thread's first call, and the first of a process, set up what later ones use; some of it is the C library's. */
  softdimo_request request;
  OK(softdimo_request_init(&request, sizeof request));
  STATUS(SOFTDIMO_ERR_NULL_ARGUMENT, softdimo_engine_open(NULL, NULL, NULL));
  fault_arm(atoi(argv[3]), number, atoi(argv[5]));
  life();
  long calls = fault_disarm(&failed);
  int told = errors;
  errors = 0;
  life();
  if (errors) fail(__FILE__, __LINE__, "afterwards: %s", first);
  if (number == 0) printf("# %ld calls\n", calls);
  else if (told) printf("# %s\n", first);
  end();
  return number && !failed ? 78 : told ? 77 : 0;
}
