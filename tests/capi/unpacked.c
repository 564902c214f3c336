/* A model in int4, which opening unpacks: MODEL. Its bytes are given back as soon as it is open, and what it is unpacked to does not
 * depend on the mode in which the host computes. */
#include "check.h"

#include <fenv.h>

#define EQUAL(a, b) CHECK(!memcmp(a, b, TOKENS * sizeof *(a)))

static int released;

static void on_release(void *user_data, const void *data, uint64_t length) {
  CHECK(user_data && data && length);
  released++;
}

static void *read_file(const char *path, uint64_t *length) {
  FILE *file = fopen(path, "rb");
  CHECK(file && fseek(file, 0, SEEK_END) == 0);
  *length = (uint64_t)ftell(file);
  rewind(file);
  void *data = malloc(*length);
  CHECK(data && fread(data, 1, *length, file) == *length);
  fclose(file);
  return data;
}

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 2);
  uint32_t expected[TOKENS], tokens[TOKENS];
  softdimo_request request = default_request(3);
  softdimo_engine *engine = open_engine(argv[1], NULL);
  run_tokens(engine, &request, expected);
  softdimo_engine_free(engine);

  uint64_t length, held;
  void *data = read_file(argv[1], &length);
  STATUS(SOFTDIMO_ERR_FORMAT, softdimo_engine_open_memory(data, length / 2, on_release, data, NULL, &engine));
  CHECK(released == 0);
  OK(softdimo_engine_open_memory(data, length, on_release, data, NULL, &engine));
  CHECK(released == 1);
  memset(data, 0xff, length);
  free(data);
  OK(softdimo_memory_in_use(&held));
  CHECK(held > 0); /* the budget knows what was unpacked, before anything runs */
  run_tokens(engine, &request, tokens);
  EQUAL(tokens, expected);
  softdimo_engine_free(engine);
  CHECK(released == 1);

  const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST};
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    CHECK(fesetround(modes[i]) == 0);
#if defined(__GLIBC__) && defined(__x86_64__)
    feclearexcept(FE_ALL_EXCEPT);
    feenableexcept(FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW);
#endif
    int32_t status = softdimo_engine_open(argv[1], NULL, &engine);
    CHECK(fegetround() == modes[i]);
#if defined(__GLIBC__) && defined(__x86_64__)
    CHECK(fegetexcept() == (FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW));
    fedisableexcept(FE_ALL_EXCEPT);
#endif
    CHECK(fesetround(FE_TONEAREST) == 0);
    OK(status);
    run_tokens(engine, &request, tokens);
    EQUAL(tokens, expected);
    softdimo_engine_free(engine);
  }
  return end();
}
