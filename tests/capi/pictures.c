/* Pictures as games use them: seeds from places, an engine beside a game's threads. Arguments: model file. */
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

int main(int argc, char **argv) {
  (void)argc;
  begin();
  softdimo_engine *engine = open_engine(argv[1], NULL);
  places();
  game(argv[1], engine);
  softdimo_engine_free(engine);
  return end();
}
