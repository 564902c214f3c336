/* The reference implementation's numbers through the C ABI: verify, and jobs that start from its embeddings.
 *
 * Arguments: model file, golden file, then for each golden batch a folder with its tensors as raw bytes:
 * classes (i32), e_in, tokens (u32), image_hard, image_soft (f32). */
#include "check.h"

#include <math.h>

static void *raw(const char *folder, const char *name, size_t *elements) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  CHECK(file && fseek(file, 0, SEEK_END) == 0);
  *elements = (size_t)ftell(file) / 4;
  rewind(file);
  void *data = malloc(*elements * 4);
  CHECK(data && fread(data, 4, *elements, file) == *elements);
  fclose(file);
  return data;
}

static void batch(const softdimo_engine *engine, const char *folder, uint32_t decode) {
  size_t count, embedding, slots, pixels;
  int32_t *classes = raw(folder, "classes", &count);
  float *e_in = raw(folder, "e_in", &embedding);
  uint32_t *expected = raw(folder, "tokens", &slots);
  float *image = raw(folder, decode ? "image_soft" : "image_hard", &pixels);
  CHECK(slots == TOKENS * count && pixels == 3 * PIXELS * count);

  softdimo_request request = default_request(123);
  request.batch = (uint32_t)count;
  request.class_labels = classes;
  request.class_label_count = (uint32_t)count;
  request.e_in = e_in;
  request.e_in_count = embedding;
  request.temperature = 0;
  request.decode = decode;
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  float worst = 0;
  for (uint32_t b = 0; b < count; b++) {
    uint32_t tokens[TOKENS];
    static float found[3 * PIXELS];
    tokens_of(job, b, tokens);
    CHECK(!memcmp(tokens, expected + b * TOKENS, sizeof tokens));
    OK(softdimo_job_image_f32(job, b, found, 3 * PIXELS, NULL));
    for (int i = 0; i < 3 * PIXELS; i++) {
      float d = fabsf(found[i] - image[b * 3 * PIXELS + (uint32_t)i]);
      worst = d <= worst ? worst : d; /* a NaN stays */
    }
  }
  printf("# %zu pictures, decode %s: tokens identical, pixels within %.1e\n", count, decode ? "soft" : "hard",
         (double)worst);
  CHECK(worst <= 1e-4f);
  softdimo_job_free(job);
  free(classes);
  free(e_in);
  free(expected);
  free(image);
}

int main(int argc, char **argv) {
  begin();
  CHECK(argc > 3);
  for (uint32_t memory = 0; memory < 2; memory++) {
    softdimo_engine_options options = default_options();
    options.memory_mode = memory;
    softdimo_engine *engine = open_engine(argv[1], &options);

    static char report[1 << 20];
    uint64_t needed;
    OK(softdimo_engine_verify(engine, argv[2], report, sizeof report, &needed));
    CHECK(strstr(report, "\"passed\":true}") && !strstr(report, "\"passed\":false"));
    const char *names[] = {"b0/out/logits", "b1/out/logits", "b0/out/image_hard", "b1/out/image_soft",
                           "b0/out/tokens_argmax", "b1/out/tokens_argmax"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
      char field[64];
      snprintf(field, sizeof field, "\"name\":\"%s\"", names[i]);
      const char *row = strstr(report, field);
      CHECK(row);
      const char *largest = strstr(row, "\"max_abs\":");
      CHECK(largest);
      double value = atof(largest + strlen("\"max_abs\":"));
      printf("# verify %-22s %.1e\n", names[i], value);
      CHECK(value <= (strstr(names[i], "tokens") ? 0 : 1e-4));
    }
    for (int i = 3; i < argc; i++)
      for (uint32_t decode = 0; decode < 2; decode++) batch(engine, argv[i], decode);
    softdimo_engine_free(engine);
  }
  return end();
}
