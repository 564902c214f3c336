/* Pictures as games use them: seeds from places, an engine beside a game's threads, sizes, palettes, a background taken
 * away, an atlas. Arguments: model file. */
#include "check.h"

static void places(void) {
  /* The test vectors of docs/embedding.md. */
  CHECK(softdimo_seed(0, 0, 0, 0) == 0x2130748AAAC80268);
  CHECK(softdimo_seed(0, 1, 0, 0) == 0xD100827AA323C935);
  CHECK(softdimo_seed(0, 0, 1, 0) == 0x62A4ED4055D278DB);
  CHECK(softdimo_seed(0, 0, 0, 1) == 0x698DFBA9F1FC1B53);
  CHECK(softdimo_seed(7, -1, 2, 0) == 0xE42C80F9F3B5D023);
  CHECK(softdimo_seed(UINT64_MAX, INT64_MIN, INT64_MAX, -1) == 0xB48ECFB71D1658D2);
}

/* An engine beside a game's threads: another priority, the same pictures. */
static void game(const char *model, const softdimo_engine *engine) {
  softdimo_engine_options plain = default_options(), options;
  OK(softdimo_engine_options_init_game(&options, sizeof options));
  CHECK(options.threads == 1 && options.niceness == 10);
  options.threads = plain.threads;
  options.niceness = plain.niceness;
  CHECK(!memcmp(&options, &plain, sizeof plain));

  OK(softdimo_engine_options_init_game(&options, sizeof options));
  softdimo_engine *beside = open_engine(model, &options);
  softdimo_request request = default_request(softdimo_seed(1, 2, 3, 4));
  uint32_t expected[TOKENS], found[TOKENS];
  run_tokens(engine, &request, expected);
  run_tokens(beside, &request, found);
  CHECK(!memcmp(found, expected, sizeof found));
  softdimo_engine_free(beside);
}

enum { LARGE = 8 * SIDE, EDGE = 64 };

/* A whole multiple along each axis repeats pixels, in every format, from either end, at any address. */
static void multiples(const softdimo_job *job, const uint8_t *small) {
  static uint8_t memory[EDGE + LARGE * (LARGE * 16 + EDGE)];
  static const struct {
    uint32_t format, bytes;
    int order[4];
  } formats[] = {{SOFTDIMO_FORMAT_RGBA8, 4, {0, 1, 2, 3}},
                 {SOFTDIMO_FORMAT_RGB8, 3, {0, 1, 2, 3}},
                 {SOFTDIMO_FORMAT_BGRA8, 4, {2, 1, 0, 3}}};
  static const uint32_t factors[][2] = {{1, 1}, {2, 2}, {3, 1}, {1, 5}, {8, 8}};
  for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
    for (size_t k = 0; k < sizeof factors / sizeof *factors; k++) {
      for (uint32_t origin = 0; origin < 2; origin++) {
        softdimo_image image = picture(memory + 1);
        const uint32_t columns = factors[k][0], rows = factors[k][1], bytes = formats[f].bytes;
        image.width = SIDE * columns;
        image.height = SIDE * rows;
        image.format = formats[f].format;
        image.origin = origin;
        image.stride = image.width * bytes + 13;
        image.capacity = (uint64_t)(image.height - 1) * image.stride + image.width * bytes;
        memset(memory, 0x5a, sizeof memory);
        OK(softdimo_job_image(job, 0, &image));
        for (uint32_t y = 0; y < image.height; y++) {
          const uint32_t row = origin ? image.height - 1 - y : y;
          const uint8_t *line = memory + 1 + (size_t)row * image.stride;
          for (uint32_t x = 0; x < image.width; x++)
            for (uint32_t c = 0; c < bytes; c++)
              CHECK(line[x * bytes + c] == small[((y / rows) * SIDE + x / columns) * 4 + formats[f].order[c]]);
          if (row + 1 < image.height)
            for (uint32_t i = image.width * bytes; i < image.stride; i++) CHECK(line[i] == 0x5a);
        }
        CHECK(memory[0] == 0x5a && memory[1 + image.capacity] == 0x5a);
      }
    }
  }
}

/* An array of images shares a style; images of the ABI 1.1, which have none, still do. */
static void styles(const softdimo_engine *engine) {
  static uint8_t plain[2][PIXELS * 4], cut[2][PIXELS * 4 * 4];
  softdimo_request request = default_request(3);
  request.label = "red apple";
  request.batch = 2;
  softdimo_image images[2];
  for (int i = 0; i < 2; i++) images[i] = picture(plain[i]);
  OK(softdimo_generate(engine, &request, images, 2));

  static const uint8_t colors[] = {255, 0, 0, 10, 10, 10, 0, 160, 0};
  softdimo_picture_style style;
  OK(softdimo_picture_style_init(&style, sizeof style));
  style.palette = colors;
  style.palette_count = 3;
  style.palette_format = SOFTDIMO_FORMAT_RGB8;
  style.matte = 1;
  for (int i = 0; i < 2; i++) {
    images[i] = picture(cut[i]);
    images[i].width = images[i].height = 2 * SIDE;
    images[i].capacity = sizeof cut[i];
    images[i].style = &style;
  }
  OK(softdimo_generate(engine, &request, images, 2));
  for (int i = 0; i < 2; i++) {
    int clear = 0, solid = 0, soft = 0;
    for (int at = 0; at < 4 * PIXELS; at++) {
      const uint8_t *pixel = cut[i] + at * 4;
      int known = 0;
      for (int c = 0; c < 3; c++) known += !memcmp(pixel, colors + 3 * c, 3);
      CHECK(known == 1);
      clear += pixel[3] == 0;
      solid += pixel[3] == 255;
      soft += pixel[3] > 0 && pixel[3] < 255;
    }
    CHECK(cut[i][3] == 0 && solid > PIXELS && clear > PIXELS / 2 && soft > 40 && soft < PIXELS);
    printf("# an apple: %d clear, %d soft, %d solid of %d pixels\n", clear / 4, soft / 4, solid / 4, PIXELS);
  }

  /* The same picture found by itself, of as many colours as are asked for; smoothly enlarged, more. */
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  for (uint32_t count = 2; count <= 256; count *= 2) {
    OK(softdimo_picture_style_init(&style, sizeof style));
    style.palette_count = count;
    style.dither = count == 4 ? SOFTDIMO_DITHER_BAYER8 : SOFTDIMO_DITHER_NONE;
    images[0].style = &style;
    OK(softdimo_job_image(job, 0, &images[0]));
    uint8_t seen[256][4];
    uint32_t colors_seen = 0;
    for (int at = 0; at < 4 * PIXELS; at++) {
      uint32_t k = 0;
      while (k < colors_seen && memcmp(seen[k], cut[0] + at * 4, 4)) k++;
      CHECK(k < count);
      if (k == colors_seen) memcpy(seen[colors_seen++], cut[0] + at * 4, 4);
    }
    CHECK(4 * colors_seen >= 3 * count);
  }
  OK(softdimo_picture_style_init(&style, sizeof style));
  style.scaling = SOFTDIMO_SCALING_SMOOTH;
  OK(softdimo_job_image(job, 0, &images[0]));
  int between = 0;
  for (int at = 0; at + 1 < 4 * PIXELS; at++) between += memcmp(cut[0] + at * 4, cut[0] + at * 4 + 4, 4) != 0;
  CHECK(between > 2 * PIXELS);

  /* What a style costs on the calling thread, at the model's size and eight times as large. */
  static uint8_t large[LARGE * LARGE * 4];
  static const struct {
    const char *name;
    uint32_t side, scaling, colors, dither, matte;
  } costs[] = {{"plain", SIDE, 0, 0, 0, 0},       {"matte", SIDE, 0, 0, 0, 1},
               {"16 colours", SIDE, 0, 16, 0, 0}, {"256 colours, dithered", SIDE, 0, 256, 2, 0},
               {"8 times, nearest", LARGE, 0, 0, 0, 0}, {"8 times, smooth", LARGE, 1, 0, 0, 0}};
  for (size_t k = 0; k < sizeof costs / sizeof *costs; k++) {
    OK(softdimo_picture_style_init(&style, sizeof style));
    style.scaling = costs[k].scaling;
    style.palette_count = costs[k].colors;
    style.dither = costs[k].dither;
    style.matte = costs[k].matte;
    softdimo_image image = picture(large);
    image.width = image.height = costs[k].side;
    image.capacity = sizeof large;
    image.style = &style;
    const double began = cpu_seconds();
    for (int i = 0; i < 20; i++) OK(softdimo_job_image(job, 0, &image));
    printf("# %s: %.2f ms\n", costs[k].name, (cpu_seconds() - began) / 20 * 1e3);
  }

  /* A style is not read where the picture is; where one is NULL or the struct is older, there is none. */
  style.scaling = 99;
  images[0] = picture(plain[0]);
  images[0].style = &style;
  uint32_t tokens[TOKENS];
  OK(softdimo_encode(engine, &images[0], tokens, TOKENS, NULL));
  images[0].struct_size = 40;
  images[0].data = cut[0];
  OK(softdimo_job_image(job, 0, &images[0]));
  CHECK(!memcmp(cut[0], plain[0], sizeof plain[0]));
  softdimo_job_free(job);
}

/* Several pictures in one buffer: cells are those pictures, and what lies between them is not touched. */
static void atlas(const softdimo_engine *engine) {
  enum { COLUMNS = 3, ROWS = 2, GAP = 2, CELL = 2 * SIDE, PITCH = CELL + GAP, CELLS = COLUMNS * ROWS };
  enum { STRIDE = COLUMNS * PITCH * 4, HEIGHT = ROWS * PITCH };
  static uint8_t sheet[HEIGHT * STRIDE], single[CELL * CELL * 4];
  softdimo_request request = default_request(20);
  softdimo_image cells[CELLS];
  request.batch = CELLS;
  memset(sheet, 0x5a, sizeof sheet);
  for (int i = 0; i < CELLS; i++) {
    const size_t start = (size_t)(i / COLUMNS) * PITCH * STRIDE + (size_t)(i % COLUMNS) * PITCH * 4;
    OK(softdimo_image_init(&cells[i], sizeof cells[i]));
    cells[i].width = cells[i].height = CELL;
    cells[i].stride = STRIDE;
    cells[i].data = sheet + start;
    cells[i].capacity = sizeof sheet - start;
  }
  OK(softdimo_generate(engine, &request, cells, CELLS));
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  size_t touched = 0;
  for (int i = 0; i < CELLS; i++) {
    softdimo_image image = cells[i];
    image.stride = 0;
    image.data = single;
    image.capacity = sizeof single;
    OK(softdimo_job_image(job, (uint32_t)i, &image));
    for (int y = 0; y < CELL; y++) {
      const size_t start = (size_t)(i / COLUMNS * PITCH + y) * STRIDE + (size_t)(i % COLUMNS) * PITCH * 4;
      CHECK(!memcmp(sheet + start, single + (size_t)y * CELL * 4, CELL * 4));
      memset(sheet + start, 0x5a, CELL * 4);
      touched += CELL * 4;
    }
  }
  for (size_t i = 0; i < sizeof sheet; i++) CHECK(sheet[i] == 0x5a);
  CHECK(touched == (size_t)CELLS * CELL * CELL * 4);

  /* A cell of the last row needs no more than its own last row. */
  cells[CELLS - 1].capacity = (uint64_t)(CELL - 1) * STRIDE + CELL * 4;
  OK(softdimo_job_image(job, CELLS - 1, &cells[CELLS - 1]));
  cells[CELLS - 1].capacity--;
  FAILS(SOFTDIMO_ERR_BUFFER_TOO_SMALL, "image.data", softdimo_job_image(job, CELLS - 1, &cells[CELLS - 1]));
  softdimo_job_free(job);
}

int main(int argc, char **argv) {
  (void)argc;
  begin();
  softdimo_engine *engine = open_engine(argv[1], NULL);
  places();
  game(argv[1], engine);
  static uint8_t small[PIXELS * 4];
  softdimo_image image = picture(small);
  softdimo_request request = default_request(5);
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  OK(softdimo_job_image(job, 0, &image));
  multiples(job, small);
  softdimo_job_free(job);
  styles(engine);
  atlas(engine);
  softdimo_engine_free(engine);
  return end();
}
