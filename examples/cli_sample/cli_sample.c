/* cli_sample: a sheet of one-step pictures, in C99, knowing nothing but softdimo.h.
 *
 *   cli_sample MODEL OUT.png [--seed N] [--scale N] [LABEL...]
 *   cli_sample MODEL OUT.png [--seed N] [--scale N] --prompt TEXT [--prompt TEXT...]
 *
 * One column a label or prompt, one row a seed; pictures are enlarged (nearest neighbour), since 32 pixels are small.
 */
#include <softdimo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 4, MAX_LABELS = 16 };

static const char *const DEFAULT_LABELS[] = {"red apple", "dog", "rocket", "snowman",
                                             "pizza",     "cat", "rose",   "automobile"};

/* Print what failed and why; returns the exit status. */
static int fail(const char *what, int32_t status) {
  char message[2048];
  softdimo_last_error(message, sizeof message);
  fprintf(stderr, "cli_sample: %s: %s (%s)\n", what, message, softdimo_status_name(status));
  return EXIT_FAILURE;
}

/* Copy a w x h RGBA picture into the sheet at (x, y), every pixel `scale` times as large. */
static void paste(uint32_t *sheet, uint32_t sheet_width, const uint32_t *picture, uint32_t w, uint32_t h,
                  uint32_t x, uint32_t y, uint32_t scale) {
  uint32_t row, column;
  for (row = 0; row < h * scale; row++)
    for (column = 0; column < w * scale; column++)
      sheet[(size_t)(y + row) * sheet_width + x + column] = picture[(row / scale) * w + column / scale];
}

/* Generate ROWS seeds of each label, or prompt, and write the sheet. */
static int make_sheet(const softdimo_engine *engine, const char *path, const char *const *labels,
                      uint32_t label_count, int prompts, uint64_t seed, uint32_t scale) {
  char seed_text[32];
  uint32_t w, h, gap = scale, sheet_width, sheet_height, column, row;
  uint32_t *pictures, *sheet;
  softdimo_image images[ROWS], whole;
  softdimo_request request;
  softdimo_layout layout;
  const char *text[4];
  int32_t status;
  layout.struct_size = sizeof layout;
  status = softdimo_engine_layout(engine, &layout);
  if (status != SOFTDIMO_OK) return fail("layout", status);
  w = layout.width;
  h = layout.height;
  sheet_width = label_count * (w * scale + gap) + gap;
  sheet_height = ROWS * (h * scale + gap) + gap;
  pictures = malloc((size_t)ROWS * w * h * 4);
  sheet = malloc((size_t)sheet_width * sheet_height * 4);
  if (!pictures || !sheet) {
    fprintf(stderr, "cli_sample: out of memory\n");
    free(pictures);
    free(sheet);
    return EXIT_FAILURE;
  }
  memset(sheet, 0xff, (size_t)sheet_width * sheet_height * 4);

  for (column = 0; column < label_count && status == SOFTDIMO_OK; column++) {
    softdimo_request_init(&request, sizeof request);
    if (prompts) request.prompt = labels[column];
    else request.label = labels[column];
    request.seed = seed;
    request.batch = ROWS;
    for (row = 0; row < ROWS; row++) {
      softdimo_image_init(&images[row], sizeof images[row]);
      images[row].width = w;
      images[row].height = h;
      images[row].data = pictures + (size_t)row * w * h;
      images[row].capacity = (uint64_t)w * h * 4;
    }
    status = softdimo_generate(engine, &request, images, ROWS);
    for (row = 0; row < ROWS && status == SOFTDIMO_OK; row++)
      paste(sheet, sheet_width, pictures + (size_t)row * w * h, w, h, gap + column * (w * scale + gap),
            gap + row * (h * scale + gap), scale);
  }

  if (status == SOFTDIMO_OK) {
    snprintf(seed_text, sizeof seed_text, "%llu", (unsigned long long)seed);
    text[0] = "Software";
    text[1] = "softdimo cli_sample";
    text[2] = "seed";
    text[3] = seed_text;
    softdimo_image_init(&whole, sizeof whole);
    whole.width = sheet_width;
    whole.height = sheet_height;
    whole.data = sheet;
    whole.capacity = (uint64_t)sheet_width * sheet_height * 4;
    status = softdimo_image_write_png(&whole, path, text, 2);
  }
  free(pictures);
  free(sheet);
  if (status != SOFTDIMO_OK) return fail("generate", status);
  printf("%s: %u %s x %d seeds, %ux%u pixels\n", path, (unsigned)label_count, prompts ? "prompts" : "labels", ROWS,
         (unsigned)sheet_width, (unsigned)sheet_height);
  return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
  const char *labels[MAX_LABELS];
  uint32_t label_count = 0, scale = 3;
  uint64_t seed = 0;
  softdimo_engine *engine = NULL;
  int32_t status;
  int i, result, prompts = 0;
  if (argc < 3) {
    fprintf(stderr, "usage: cli_sample MODEL OUT.png [--seed N] [--scale N] [LABEL... | --prompt TEXT...]\n");
    return 2;
  }
  if (softdimo_abi_version() >> 16 != SOFTDIMO_ABI_VERSION >> 16) {
    fprintf(stderr, "cli_sample: the loaded library has another ABI (%s)\n", softdimo_version());
    return EXIT_FAILURE;
  }
  for (i = 3; i < argc; i++) {
    if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) seed = strtoull(argv[++i], NULL, 10);
    else if (strcmp(argv[i], "--scale") == 0 && i + 1 < argc) scale = (uint32_t)strtoul(argv[++i], NULL, 10);
    else if (strcmp(argv[i], "--prompt") == 0 && i + 1 < argc && label_count < MAX_LABELS) {
      labels[label_count++] = argv[++i];
      prompts = 1;
    } else if (label_count < MAX_LABELS) labels[label_count++] = argv[i];
  }
  if (scale < 1 || scale > 64) scale = 1;
  if (label_count == 0) {
    label_count = sizeof DEFAULT_LABELS / sizeof *DEFAULT_LABELS;
    memcpy(labels, DEFAULT_LABELS, sizeof DEFAULT_LABELS);
  }
  status = softdimo_engine_open(argv[1], NULL, &engine);
  if (status != SOFTDIMO_OK) return fail("open", status);
  result = make_sheet(engine, argv[2], labels, label_count, prompts, seed, scale);
  softdimo_engine_free(engine);
  return result;
}
