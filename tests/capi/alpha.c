/* A model whose pictures have alpha, through the C ABI. Arguments: model file. */
#include "check.h"

static float clamped(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }

static int near(uint8_t found, float expected) {
  float far = (float)found - expected * 255;
  return far <= 0.51F && far >= -0.51F;
}

int main(int argc, char **argv) {
  (void)argc;
  begin();
  softdimo_engine *engine = open_engine(argv[1], NULL);
  softdimo_layout layout;
  layout.struct_size = sizeof layout;
  OK(softdimo_engine_layout(engine, &layout));
  CHECK(layout.channels == 4 && layout.width == SIDE && layout.height == SIDE);
  char info[1 << 14];
  OK(softdimo_engine_info(engine, info, sizeof info, NULL));
  CHECK(strstr(info, "\"channels\":4") && strstr(info, "\"background\":\"336699\""));

  static float planes[4 * PIXELS];
  static uint8_t rgba[PIXELS * 4], other[PIXELS * 16];
  uint64_t needed = 0;
  softdimo_request request = default_request(5);
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  FAILS(SOFTDIMO_ERR_BUFFER_TOO_SMALL, "expected at least 16384 bytes, found 12288",
        softdimo_job_image_f32(job, 0, planes, 3 * PIXELS, &needed));
  CHECK(needed == 4 * PIXELS);
  OK(softdimo_job_image_f32(job, 0, planes, 4 * PIXELS, &needed));
  char report[1 << 14];
  OK(softdimo_job_report(job, report, sizeof report, NULL));
  CHECK(strstr(report, "\"channels\":4"));

  /* Straight alpha in every format that has one; the background behind it in the one that has none. */
  softdimo_image image = picture(rgba);
  OK(softdimo_job_image(job, 0, &image));
  int soft = 0;
  for (int i = 0; i < PIXELS; i++) {
    for (int c = 0; c < 4; c++) CHECK(near(rgba[4 * i + c], clamped(planes[c * PIXELS + i])));
    soft += rgba[4 * i + 3] > 0 && rgba[4 * i + 3] < 255;
  }
  printf("# %d of %d pixels are partly transparent\n", soft, PIXELS);
  CHECK(soft > PIXELS / 4);
  image.data = other;
  image.capacity = sizeof other;
  image.format = SOFTDIMO_FORMAT_BGRA8;
  OK(softdimo_job_image(job, 0, &image));
  for (int i = 0; i < PIXELS; i++) CHECK(other[4 * i] == rgba[4 * i + 2] && other[4 * i + 3] == rgba[4 * i + 3]);
  image.format = SOFTDIMO_FORMAT_RGBA32F;
  OK(softdimo_job_image(job, 0, &image));
  for (int i = 0; i < PIXELS; i++) {
    float alpha;
    memcpy(&alpha, other + 16 * i + 12, sizeof alpha);
    CHECK(alpha == clamped(planes[3 * PIXELS + i]));
  }
  static const float background[3] = {0x33 / 255.0F, 0x66 / 255.0F, 0x99 / 255.0F};
  image.format = SOFTDIMO_FORMAT_RGB8;
  OK(softdimo_job_image(job, 0, &image));
  for (int i = 0; i < PIXELS; i++) {
    const float alpha = clamped(planes[3 * PIXELS + i]);
    for (int c = 0; c < 3; c++)
      CHECK(near(other[3 * i + c], clamped(planes[c * PIXELS + i]) * alpha + background[c] * (1 - alpha)));
  }

  /* There is no background to take away. Palette and size do as ever. */
  softdimo_picture_style style;
  OK(softdimo_picture_style_init(&style, sizeof style));
  style.matte = 1;
  image = picture(other);
  image.style = &style;
  FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "matte: expected none for a model whose pictures have alpha",
        softdimo_job_image(job, 0, &image));
  FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "matte: expected none", softdimo_generate(engine, &request, &image, 1));
  style.matte = 0;
  style.palette_count = 4;
  image.width = 2 * SIDE;
  image.capacity = sizeof other;
  OK(softdimo_job_image(job, 0, &image));
  for (int i = 0; i < PIXELS; i++) CHECK(other[8 * i + 3] == rgba[4 * i + 3]);

  /* Alpha goes in as well; a format without it is opaque. */
  uint32_t clear[TOKENS], solid[TOKENS], found[TOKENS];
  memset(other, 128, sizeof other);
  for (int i = 0; i < PIXELS; i++) other[4 * i + 3] = 0;
  image = picture(other);
  OK(softdimo_encode(engine, &image, clear, TOKENS, NULL));
  for (int i = 0; i < PIXELS; i++) other[4 * i + 3] = 255;
  OK(softdimo_encode(engine, &image, solid, TOKENS, NULL));
  CHECK(memcmp(clear, solid, sizeof clear));
  memset(other, 128, sizeof other);
  image.format = SOFTDIMO_FORMAT_RGB8;
  image.capacity = sizeof other;
  OK(softdimo_encode(engine, &image, found, TOKENS, NULL));
  CHECK(!memcmp(found, solid, sizeof found));
  request.edit_image = &image;
  request.edit_keep = 1;
  run_tokens(engine, &request, found);
  CHECK(!memcmp(found, solid, sizeof found));
  softdimo_job_free(job);
  softdimo_engine_free(engine);
  return end();
}
