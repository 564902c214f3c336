/* optimize: a red apple that climbs a reward of the host's own ("bluer"), held by the model's prior.
 *
 *   optimize MODEL OUT.png [STEPS]      writes the pictures before and after, side by side
 */
#include <softdimo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float first, last; /* scores of the start and of the last iterate */

/* The mean of blue - red - green, and its slope, which is the same everywhere. */
static int32_t bluer(void *calls, const float *pixels, uint32_t batch, uint32_t width, uint32_t height,
                     float *scores, float *gradient) {
  uint32_t b, i, n = width * height;
  for (b = 0; b < batch; b++) {
    scores[b] = 0;
    for (i = 0; i < 3 * n; i++) {
      float slope = (i < 2 * n ? -1.0f : 1.0f) / (float)n;
      scores[b] += pixels[b * 3 * n + i] * slope;
      gradient[b * 3 * n + i] = slope;
    }
  }
  if ((*(int *)calls)++ == 0) first = scores[0];
  last = scores[0];
  return SOFTDIMO_CONTINUE;
}

static void check(const char *what, int32_t status) {
  char message[2048];
  if (status == SOFTDIMO_OK) return;
  softdimo_last_error(message, sizeof message);
  fprintf(stderr, "optimize: %s: %s (%s)\n", what, message, softdimo_status_name(status));
  exit(EXIT_FAILURE);
}

int main(int argc, char **argv) {
  softdimo_engine *engine;
  softdimo_reward *blue, *prior;
  softdimo_reward_term terms[2];
  softdimo_request request;
  softdimo_image image;
  softdimo_layout layout;
  uint32_t side;
  uint8_t *sheet;
  int calls = 0;
  if (argc < 3) return fprintf(stderr, "usage: optimize MODEL OUT.png [STEPS]\n"), 2;
  check("open", softdimo_engine_open(argv[1], NULL, &engine));
  layout.struct_size = sizeof layout;
  check("layout", softdimo_engine_layout(engine, &layout));
  side = layout.width * 4; /* bytes in a row of one picture */
  sheet = calloc(layout.height, 2 * side);
  if (!sheet) return EXIT_FAILURE;
  check("init", softdimo_image_init(&image, sizeof image));
  image.width = layout.width, image.height = layout.height, image.stride = 2 * side;
  image.data = sheet, image.capacity = 2 * side * layout.height;
  check("init", softdimo_request_init(&request, sizeof request));
  request.label = "red apple", request.seed = 10;
  check("generate", softdimo_generate(engine, &request, &image, 1));

  check("reward", softdimo_reward_from_callback(bluer, &calls, &blue));
  check("reward", softdimo_reward_prior(0, &prior));
  memset(terms, 0, sizeof terms);
  terms[0].reward = blue, terms[0].weight = 1;
  terms[1].reward = prior, terms[1].weight = 0.03f; /* more of it holds the label more firmly */
  request.rewards = terms, request.reward_count = 2;
  request.optimize_steps = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 20;
  request.lr = 6;
  image.data = sheet + side, image.capacity -= side; /* the right half of the sheet */
  check("optimise", softdimo_generate(engine, &request, &image, 1));
  printf("bluer: %.4f before, %.4f after %u steps\n", first, last, request.optimize_steps);

  image.width *= 2, image.data = sheet, image.capacity += side;
  check("write", softdimo_image_write_png(&image, argv[2], NULL, 0));
  free(sheet);
  softdimo_reward_free(blue), softdimo_reward_free(prior);
  softdimo_engine_free(engine);
  return EXIT_SUCCESS;
}
