/* Edits through the C ABI: encode, variations, inpainting. Arguments: model file. */
#include "check.h"

static void tokens_with(const softdimo_engine *engine, softdimo_request request, uint32_t tokens[TOKENS]) {
  run_tokens(engine, &request, tokens);
}

int main(int argc, char **argv) {
  (void)argc;
  begin();
  softdimo_engine *engine = open_engine(argv[1], NULL);
  static uint8_t pixels[PIXELS * 4];
  softdimo_image image = picture(pixels);
  softdimo_request plain = default_request(4);
  plain.class_labels = (const int32_t[]){3};
  plain.class_label_count = 1;
  OK(softdimo_generate(engine, &plain, &image, 1));

  /* The picture's tokens, by the array convention. */
  uint32_t known[TOKENS], found[TOKENS], none[TOKENS];
  uint64_t needed = 0;
  OK(softdimo_encode(engine, &image, NULL, 0, &needed));
  CHECK(needed == TOKENS);
  OK(softdimo_encode(engine, &image, known, TOKENS, &needed));
  CHECK(needed == TOKENS);
  for (int i = 0; i < TOKENS; i++) CHECK(known[i] < CODES);

  for (uint32_t steps = 1; steps <= 4; steps += 3) {
    softdimo_request request = default_request(9);
    request.steps = steps;
    tokens_with(engine, request, none);
    request.edit_image = &image;
    request.edit_keep = 1;
    tokens_with(engine, request, found);
    CHECK(!memcmp(found, known, sizeof found));
    request.edit_keep = 0;
    tokens_with(engine, request, found);
    CHECK(!memcmp(found, none, sizeof found));

    /* Inpainting: the left half is free. */
    static float mask[PIXELS];
    for (int i = 0; i < PIXELS; i++) mask[i] = i % SIDE < SIDE / 2 ? 1 : 0;
    request.edit_keep = -1;
    request.edit_mask = mask;
    request.edit_mask_count = PIXELS;
    tokens_with(engine, request, found);
    int changed = 0;
    for (int i = 0; i < TOKENS; i++) {
      if (i / 2 % 8 < 4) changed += found[i] != known[i];
      else CHECK(found[i] == known[i]);
    }
    printf("# %u steps: %d of %d tokens changed under the mask\n", steps, changed, TOKENS / 2);
    CHECK(changed > 8);
  }

  softdimo_layout layout;
  layout.struct_size = sizeof layout;
  OK(softdimo_engine_layout(engine, &layout));
  CHECK(layout.channels == 3);

  /* A picture upside down in memory is the same picture. */
  static uint8_t flipped[PIXELS * 4];
  for (int y = 0; y < SIDE; y++) memcpy(flipped + y * SIDE * 4, pixels + (SIDE - 1 - y) * SIDE * 4, SIDE * 4);
  softdimo_image bottom = picture(flipped);
  bottom.origin = SOFTDIMO_ORIGIN_BOTTOM_LEFT;
  OK(softdimo_encode(engine, &bottom, found, TOKENS, NULL));
  CHECK(!memcmp(found, known, sizeof found));

  /* As many pixels in another shape are another picture. */
  softdimo_image broad = picture(pixels);
  broad.width = SIDE * 2;
  broad.height = SIDE / 2;
  STATUS(SOFTDIMO_ERR_INVALID_ARGUMENT, softdimo_encode(engine, &broad, found, TOKENS, NULL));
  softdimo_engine_free(engine);
  return end();
}
