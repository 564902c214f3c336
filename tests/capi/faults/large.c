/* What a caller hands over is larger than the library's reserve, and no block of 16 KiB can be had, with shim.c preloaded: each
 * call says so, nothing of the reserve stays in use, and afterwards everything works.
 *
 * Arguments: model file, folder. */
#include "../check.h"
#include "shim.h"

#include <dlfcn.h>
#include <unistd.h>

enum { WIDE = 3000, FLOATS = WIDE * WIDE };

static fault_arm_fn *fault_arm;
static fault_disarm_fn *fault_disarm;

static void short_of(int kind) { fault_arm(kind, 1, 0); }

static void plenty(void) {
  long failed = 0;
  fault_disarm(&failed);
  CHECK(failed > 0);
}

/* Handles that were not made are not written, and take nothing with them: the reserve holds fewer than are asked for. */
static void no_handle_holds_the_reserve(void) {
  softdimo_reward *reward = NULL;
  short_of(FAULT_MALLOC);
  for (int i = 0; i < 200000; i++) STATUS(SOFTDIMO_ERR_OUT_OF_MEMORY, softdimo_reward_closeness(&reward));
  plenty();
  CHECK(!reward);
  OK(softdimo_reward_closeness(&reward));
  softdimo_reward_free(reward);
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  *(void **)&fault_arm = dlsym(RTLD_DEFAULT, "fault_arm");
  *(void **)&fault_disarm = dlsym(RTLD_DEFAULT, "fault_disarm");
  CHECK(fault_arm && fault_disarm);
  begin();
  softdimo_engine *engine = open_engine(argv[1], NULL);
  float *floats = calloc(FLOATS, sizeof *floats);
  uint8_t *pixels = calloc(FLOATS, 4);
  CHECK(floats && pixels);
  softdimo_image wide;
  OK(softdimo_image_init(&wide, sizeof wide));
  wide.width = wide.height = WIDE;
  wide.data = pixels;
  wide.capacity = (uint64_t)FLOATS * 4;
  char path[600];
  snprintf(path, sizeof path, "%s/wide.png", argv[2]);
  softdimo_reward *reward = NULL;
  softdimo_job *job = NULL;
  softdimo_request plain = default_request(1), request;
  uint32_t tokens[TOKENS];
  uint64_t needed = 0;

  short_of(FAULT_LARGE_MALLOC);
  /* More often than the reserve would last. */
  for (int i = 0; i < 300; i++) {
    STATUS(SOFTDIMO_ERR_OUT_OF_MEMORY, softdimo_reward_target(&wide, NULL, 0, &reward));
    STATUS(SOFTDIMO_ERR_OUT_OF_MEMORY, softdimo_reward_color(1, 0, 0, floats, FLOATS, &reward));
    STATUS(SOFTDIMO_ERR_OUT_OF_MEMORY, softdimo_reward_color(1, 0, 0, floats, 1 << 14, &reward));
    STATUS(SOFTDIMO_ERR_OUT_OF_MEMORY, softdimo_reward_histogram(&wide, NULL, 0, NULL, 0, &reward));
    STATUS(SOFTDIMO_ERR_OUT_OF_MEMORY, softdimo_reward_histogram(NULL, floats, FLOATS, NULL, 0, &reward));
    STATUS(SOFTDIMO_ERR_INVALID_ARGUMENT, softdimo_encode(engine, &wide, tokens, TOKENS, &needed));

    request = plain;
    request.e_in = floats;
    request.e_in_count = FLOATS;
    STATUS(SOFTDIMO_ERR_INVALID_ARGUMENT, softdimo_submit(engine, &request, &job));
    request = plain;
    request.start_tokens = (const uint32_t *)pixels;
    request.start_token_count = FLOATS;
    STATUS(SOFTDIMO_ERR_INVALID_ARGUMENT, softdimo_submit(engine, &request, &job));
    request = plain;
    request.edit_image = &wide;
    request.edit_keep = 1;
    STATUS(SOFTDIMO_ERR_INVALID_ARGUMENT, softdimo_submit(engine, &request, &job));
    softdimo_image fits = picture(pixels);
    request.edit_image = &fits;
    request.edit_keep = -1;
    request.edit_mask = floats;
    request.edit_mask_count = FLOATS;
    STATUS(SOFTDIMO_ERR_INVALID_ARGUMENT, softdimo_submit(engine, &request, &job));
    /* As many as there should be, and no room for them. */
    request = plain;
    request.batch = 256;
    request.start_tokens = (const uint32_t *)pixels;
    request.start_token_count = 256 * TOKENS;
    STATUS(SOFTDIMO_ERR_OUT_OF_MEMORY, softdimo_submit(engine, &request, &job));
  }
  STATUS(SOFTDIMO_ERR_OUT_OF_MEMORY, softdimo_image_write_png(&wide, path, NULL, 0));
  /* What would fit into the reserve is not taken from there where the call can do without. */
  wide.width = wide.height = 100;
  STATUS(SOFTDIMO_ERR_OUT_OF_MEMORY, softdimo_image_write_png(&wide, path, NULL, 0));
  wide.width = wide.height = WIDE;
  wide.format = SOFTDIMO_FORMAT_RGB8;
  STATUS(SOFTDIMO_ERR_OUT_OF_MEMORY, softdimo_image_write_png(&wide, path, NULL, 0));
  /* Texts of 1 MiB, of which the reserve would hold a few. */
  static char value[1 << 20];
  const char *text[2 * 40];
  memset(value, 'x', sizeof value - 1);
  for (int i = 0; i < 2 * 40; i++) text[i] = i % 2 ? value : "a";
  softdimo_image small = picture(pixels);
  STATUS(SOFTDIMO_ERR_OUT_OF_MEMORY, softdimo_image_write_png(&small, path, text, 40));
  plenty();
  CHECK(!reward && !job && access(path, F_OK) != 0);
  no_handle_holds_the_reserve();

  OK(softdimo_image_write_png(&wide, path, NULL, 0));
  wide.format = SOFTDIMO_FORMAT_RGBA8;
  OK(softdimo_image_write_png(&wide, path, NULL, 0));
  OK(softdimo_reward_target(&wide, floats, FLOATS, &reward));
  softdimo_reward_free(reward);
  run_tokens(engine, &plain, tokens);
  softdimo_engine_free(engine);
  free(floats);
  free(pixels);
  return end();
}
