/* The same picture, whichever way it is asked for; and every way of reading it agrees.
 *
 * Arguments: model file, two of its labels. */
#include "check.h"

#include <math.h>

static softdimo_engine *engine;
static const char *label[2];

enum { SEEDS = 6 };

static int differing(const uint32_t *a, const uint32_t *b) {
  int count = 0;
  for (int i = 0; i < TOKENS; i++) count += a[i] != b[i];
  return count;
}

#define EQUAL(a, b)                                                                                          \
  do {                                                                                                       \
    int n_ = differing(a, b);                                                                                \
    if (n_) fail(__FILE__, __LINE__, "%s, %s: %d of %d tokens differ", #a, #b, n_, TOKENS);                  \
  } while (0)

static softdimo_request labelled(uint64_t seed) {
  softdimo_request request = default_request(seed);
  request.label = label[0];
  return request;
}

static void engines(const char *model) {
  uint32_t reference[SEEDS][TOKENS], tokens[TOKENS];
  for (uint64_t s = 0; s < SEEDS; s++) {
    softdimo_request request = labelled(s);
    run_tokens(engine, &request, reference[s]);
    run_tokens(engine, &request, tokens);
    EQUAL(tokens, reference[s]);
    for (uint64_t other = 0; other < s; other++) CHECK(differing(reference[s], reference[other]) > 0);
  }
  for (uint32_t memory = 0; memory < 2; memory++) {
    for (uint32_t weights = 0; weights < 3; weights++) {
      for (uint32_t threads = 1; threads <= 3; threads++) {
        softdimo_engine_options options = default_options();
        options.memory_mode = memory;
        options.weights_mode = weights;
        options.threads = threads;
        options.niceness = threads == 3 ? 5 : 0;
        softdimo_engine *other = open_engine(model, &options);
        int worst = 0;
        for (uint64_t s = 0; s < SEEDS; s++) {
          softdimo_request request = labelled(s);
          run_tokens(other, &request, tokens);
          int n = differing(tokens, reference[s]);
          if (n > worst) worst = n;
        }
        if (worst) printf("# memory mode %u, weights mode %u, %u threads: up to %d tokens differ\n", memory, weights, threads, worst);
        /* Promised for any thread count; LEAN against FAST is only reported. */
        if (memory == SOFTDIMO_MEMORY_LEAN) CHECK(worst == 0);
        OK(softdimo_engine_trim(other));
        softdimo_request request = labelled(1);
        uint32_t again[TOKENS];
        run_tokens(other, &request, tokens);
        run_tokens(other, &request, again);
        EQUAL(tokens, again);
        softdimo_engine_free(other);
      }
    }
  }

  /* Another label, another picture; the class id is the same as its name, in any case of letters. */
  softdimo_request request = labelled(0);
  request.label = label[1];
  run_tokens(engine, &request, tokens);
  CHECK(differing(tokens, reference[0]) > 0);
  char upper[256];
  snprintf(upper, sizeof upper, " %s ", label[0]);
  for (char *c = upper; *c; c++) *c = (char)(*c >= 'a' && *c <= 'z' ? *c - 32 : *c);
  request.label = upper;
  run_tokens(engine, &request, tokens);
  EQUAL(tokens, reference[0]);
  uint32_t labels, id;
  OK(softdimo_engine_label_count(engine, &labels));
  const char *name = "";
  for (id = 0; id < labels; id++) {
    OK(softdimo_engine_label(engine, id, &name));
    if (!strcmp(name, label[0])) break;
  }
  CHECK(id < labels);
  int32_t class_id = (int32_t)id;
  request.label = NULL;
  request.class_labels = &class_id;
  request.class_label_count = 1;
  run_tokens(engine, &request, tokens);
  EQUAL(tokens, reference[0]);

  /* No label is the class id past the last. */
  class_id = (int32_t)labels;
  uint32_t none[TOKENS];
  run_tokens(engine, &request, none);
  request = default_request(0);
  run_tokens(engine, &request, tokens);
  EQUAL(tokens, none);
  CHECK(differing(none, reference[0]) > 0);
}

static void ways(void) {
  enum { BATCH = 4 };
  uint32_t single[TOKENS], tokens[TOKENS];
  static uint8_t blocking[BATCH][PIXELS * 4], copied[PIXELS * 4];
  softdimo_image images[BATCH];
  for (int b = 0; b < BATCH; b++) images[b] = picture(blocking[b]);

  /* Blocking and by job; batch position b and the single picture of seed + b, also across the wrap. */
  const uint64_t seeds[] = {3, UINT64_MAX - 1};
  for (int k = 0; k < 2; k++) {
    softdimo_request request = labelled(seeds[k]);
    request.batch = BATCH;
    OK(softdimo_generate(engine, &request, images, BATCH));
    softdimo_job *job = submit(engine, &request);
    OK(softdimo_job_wait(job, -1));
    int levels = 0;
    for (uint32_t b = 0; b < BATCH; b++) {
      softdimo_image image = picture(copied);
      OK(softdimo_job_image(job, b, &image));
      CHECK(!memcmp(copied, blocking[b], sizeof copied));
      tokens_of(job, b, tokens);
      softdimo_request one = labelled(seeds[k] + b);
      run_tokens(engine, &one, single);
      EQUAL(tokens, single);
      OK(softdimo_generate(engine, &one, &image, 1));
      for (size_t i = 0; i < sizeof copied; i++) {
        int d = abs(copied[i] - blocking[b][i]);
        if (d > levels) levels = d;
      }
    }
    printf("# batch of %d against single pictures: tokens equal, pixels within %d of 255\n", BATCH, levels);
    CHECK(levels <= 1);
    softdimo_job_free(job);
  }

  /* One label each. */
  softdimo_request request = default_request(3);
  const int32_t classes[2] = {2, 5};
  request.batch = 2;
  request.class_labels = classes;
  request.class_label_count = 2;
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  for (uint32_t b = 0; b < 2; b++) {
    tokens_of(job, b, tokens);
    softdimo_request one = default_request(3 + b);
    one.class_labels = classes + b;
    one.class_label_count = 1;
    run_tokens(engine, &one, single);
    EQUAL(tokens, single);
  }
  softdimo_job_free(job);

  /* The largest batch there may be. */
  request = labelled(0);
  request.batch = 256;
  job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  tokens_of(job, 255, tokens);
  softdimo_job_free(job);
  request = labelled(255);
  run_tokens(engine, &request, single);
  EQUAL(tokens, single);
  OK(softdimo_engine_trim(engine));
}

/* Start tokens and start embedding: what a job reports can be given back. */
static void starts(void) {
  uint32_t expected[TOKENS], tokens[TOKENS], start[TOKENS];
  softdimo_request request = labelled(11);
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  tokens_of(job, 0, expected);
  uint64_t count = 0;
  OK(softdimo_job_embedding(job, 0, NULL, 0, &count));
  CHECK(count > 0);
  float *e_in = malloc(count * sizeof *e_in), *again = malloc(count * sizeof *e_in);
  CHECK(e_in && again);
  OK(softdimo_job_embedding(job, 0, e_in, count, NULL));
  softdimo_job_free(job);

  request.e_in = e_in;
  request.e_in_count = count;
  for (uint64_t seed = 11; seed < 14; seed++) { /* with arg-max or not, its seed decides only the sampling */
    request.temperature = 0;
    request.seed = seed;
    job = submit(engine, &request);
    OK(softdimo_job_wait(job, -1));
    tokens_of(job, 0, tokens);
    OK(softdimo_job_embedding(job, 0, again, count, NULL));
    CHECK(!memcmp(e_in, again, count * sizeof *e_in));
    softdimo_job_free(job);
    if (seed == 11) memcpy(start, tokens, sizeof start);
    EQUAL(tokens, start);
  }
  request.temperature = -1;
  request.seed = 11;
  run_tokens(engine, &request, tokens);
  EQUAL(tokens, expected);

  /* Start tokens: all masked, all the same, and a share of the mask; no perturbation. */
  uint32_t last[TOKENS];
  for (int k = 0; k < 3; k++) {
    for (int i = 0; i < TOKENS; i++) start[i] = k == 0 ? CODES : k == 1 ? 5 : i % 3 ? CODES : (uint32_t)i % CODES;
    request = labelled(1);
    request.start_tokens = start;
    request.start_token_count = TOKENS;
    request.sigma = 0;
    run_tokens(engine, &request, expected);
    run_tokens(engine, &request, tokens);
    EQUAL(tokens, expected);
    /* With arg-max and no perturbation, nothing is left for the seed to decide. */
    request.temperature = 0;
    run_tokens(engine, &request, expected);
    request.seed = 99;
    run_tokens(engine, &request, tokens);
    EQUAL(tokens, expected);
    if (k) CHECK(differing(tokens, last) > 0);
    memcpy(last, tokens, sizeof last);
  }

  /* All masked is mask_ratio 1. */
  for (int i = 0; i < TOKENS; i++) start[i] = CODES;
  request = labelled(8);
  request.mask_ratio = 1;
  run_tokens(engine, &request, expected);
  request.mask_ratio = -1;
  request.start_tokens = start;
  request.start_token_count = TOKENS;
  run_tokens(engine, &request, tokens);
  EQUAL(tokens, expected);
  free(e_in);
  free(again);
}

static void decoders(void) {
  static float hard[3 * PIXELS], soft[3 * PIXELS];
  uint32_t tokens[TOKENS], same[TOKENS];
  softdimo_request request = labelled(21);
  request.report_gap = 1;
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  OK(softdimo_job_image_f32(job, 0, hard, 3 * PIXELS, NULL));
  tokens_of(job, 0, tokens);
  char report[4096];
  OK(softdimo_job_report(job, report, sizeof report, NULL));
  const char *at = strstr(report, "\"soft_hard_difference\":[");
  CHECK(at && strstr(report, "\"decode\":\"hard\"") && strstr(report, "\"seed\":21"));
  double reported = atof(at + strlen("\"soft_hard_difference\":["));
  float p[TOKENS];
  OK(softdimo_job_max_probability(job, 0, p, TOKENS, NULL));
  for (int i = 0; i < TOKENS; i++) CHECK(p[i] > 0 && p[i] <= 1.000001f);
  softdimo_job_free(job);

  request.decode = SOFTDIMO_DECODE_SOFT;
  request.report_gap = 0;
  job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  OK(softdimo_job_image_f32(job, 0, soft, 3 * PIXELS, NULL));
  tokens_of(job, 0, same);
  softdimo_job_free(job);
  EQUAL(tokens, same);
  double sum = 0;
  for (int i = 0; i < 3 * PIXELS; i++) sum += fabs(fmin(fmax(hard[i], 0), 1) - fmin(fmax(soft[i], 0), 1));
  sum /= 3 * PIXELS;
  printf("# hard and soft picture differ by %.4f, reported %.4f\n", sum, reported);
  CHECK(sum > 1e-6 && fabs(sum - reported) < 1e-5);
}

typedef struct {
  void *data;
  uint64_t length;
  int released;
} bytes;

static void on_release(void *user_data, const void *data, uint64_t length) {
  bytes *b = user_data;
  CHECK(data == b->data && length == b->length);
  b->released++;
}

static bytes read_file(const char *path, size_t shift) {
  FILE *file = fopen(path, "rb");
  CHECK(file && fseek(file, 0, SEEK_END) == 0);
  bytes b = {NULL, (uint64_t)ftell(file), 0};
  rewind(file);
  char *memory = malloc(b.length + 64);
  CHECK(memory);
  b.data = memory + shift;
  CHECK(fread(b.data, 1, b.length, file) == b.length);
  fclose(file);
  return b;
}

static void memory_path(const char *model) {
  uint32_t expected[TOKENS], tokens[TOKENS];
  softdimo_request request = labelled(2);
  run_tokens(engine, &request, expected);
  const size_t shifts[] = {0, 16, 4, 1}; /* any alignment the host's archive has */
  for (size_t i = 0; i < sizeof shifts / sizeof *shifts; i++) {
    for (uint32_t memory = 0; memory < 2; memory++) {
      bytes b = read_file(model, shifts[i]);
      softdimo_engine_options options = default_options();
      options.memory_mode = memory;
      softdimo_engine *other = NULL;
      OK(softdimo_engine_open_memory(b.data, b.length, on_release, &b, &options, &other));
      run_tokens(other, &request, tokens);
      if (memory == SOFTDIMO_MEMORY_LEAN) EQUAL(tokens, expected);
      softdimo_job *job = submit(other, &request);
      CHECK(b.released == 0);
      softdimo_engine_free(other);
      CHECK(b.released == 0); /* a job still needs it */
      OK(softdimo_job_wait(job, -1));
      softdimo_job_free(job);
      CHECK(b.released == 1);
      free((char *)b.data - shifts[i]);
    }
  }

  /* On failure it is not called: a broken file, and a good one with bad options. */
  bytes b = read_file(model, 0);
  softdimo_engine *other = NULL;
  STATUS(SOFTDIMO_ERR_FORMAT, softdimo_engine_open_memory(b.data, b.length / 2, on_release, &b, NULL, &other));
  softdimo_engine_options options = default_options();
  options.threads = 1000;
  STATUS(SOFTDIMO_ERR_INVALID_ARGUMENT, softdimo_engine_open_memory(b.data, b.length, on_release, &b, &options, &other));
  options = default_options();
  options.provider = "cuda";
  STATUS(SOFTDIMO_ERR_PROVIDER, softdimo_engine_open_memory(b.data, b.length, on_release, &b, &options, &other));
  CHECK(b.released == 0 && other == NULL);
  /* Without a callback. */
  OK(softdimo_engine_open_memory(b.data, b.length, NULL, NULL, NULL, &other));
  run_tokens(other, &request, tokens);
  EQUAL(tokens, expected);
  softdimo_engine_free(other);
  free(b.data);
}

static int level(float value) {
  float x = value < 0 ? 0 : value > 1 ? 1 : value;
  return (int)floorf(255 * x + 0.5f);
}

static void formats(void) {
  static float chw[3][SIDE][SIDE];
  softdimo_request request = labelled(31);
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  OK(softdimo_job_image_f32(job, 0, &chw[0][0][0], 3 * PIXELS, NULL));

  static const struct {
    uint32_t format, size, channel[3]; /* bytes a pixel; where red, green, blue are */
  } rows[] = {
      {SOFTDIMO_FORMAT_RGBA8, 4, {0, 1, 2}},
      {SOFTDIMO_FORMAT_RGB8, 3, {0, 1, 2}},
      {SOFTDIMO_FORMAT_BGRA8, 4, {2, 1, 0}},
      {SOFTDIMO_FORMAT_RGBA32F, 16, {0, 1, 2}},
  };
  const uint32_t paddings[] = {0, 1, 5, 64};
  for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
    for (uint32_t origin = 0; origin < 2; origin++) {
      for (size_t k = 0; k < sizeof paddings / sizeof *paddings; k++) {
        for (int blocking = 0; blocking < 2; blocking++) {
          const size_t row = rows[r].size * SIDE, stride = row + paddings[k];
          /* Exactly as large as needed: the last row has no padding. Odd address. */
          const size_t length = stride * (SIDE - 1) + row;
          uint8_t *block = malloc(length + 65), *data = block + 1;
          CHECK(block);
          memset(block, 0xa5, length + 65);
          softdimo_image image = picture(data);
          image.capacity = length;
          image.format = rows[r].format;
          image.origin = origin;
          image.stride = paddings[k] ? (uint32_t)stride : 0;
          if (blocking)
            OK(softdimo_generate(engine, &request, &image, 1));
          else
            OK(softdimo_job_image(job, 0, &image));
          CHECK(block[0] == 0xa5);
          for (size_t i = length; i < length + 64; i++) CHECK(data[i] == 0xa5);
          for (size_t y = 0; y < SIDE; y++) {
            const uint8_t *line = data + stride * (origin == SOFTDIMO_ORIGIN_BOTTOM_LEFT ? SIDE - 1 - y : y);
            if (&line[row] < data + length)
              for (size_t i = row; i < stride; i++) CHECK(line[i] == 0xa5);
            for (size_t x = 0; x < SIDE; x++) {
              const uint8_t *pixel = line + x * rows[r].size;
              for (int c = 0; c < 3; c++) {
                if (rows[r].format == SOFTDIMO_FORMAT_RGBA32F) {
                  float value;
                  memcpy(&value, pixel + 4 * rows[r].channel[c], 4);
                  CHECK(value == fminf(fmaxf(chw[c][y][x], 0), 1));
                } else {
                  CHECK(pixel[rows[r].channel[c]] == level(chw[c][y][x]));
                }
              }
              float one = 1;
              if (rows[r].size == 4) CHECK(pixel[3] == 255);
              if (rows[r].size == 16) CHECK(!memcmp(pixel + 12, &one, 4));
            }
          }
          free(block);
        }
      }
    }
  }
  softdimo_job_free(job);
}

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 4);
  label[0] = argv[2];
  label[1] = argv[3];
  engine = open_engine(argv[1], NULL);
  engines(argv[1]);
  ways();
  starts();
  decoders();
  memory_path(argv[1]);
  formats();
  softdimo_engine_free(engine);
  return end();
}
