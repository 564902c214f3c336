/* No usable ONNX Runtime: the status, and a message that lists every place tried. Then, in the same process,
 * a usable one.
 *
 * Arguments: model file, the option ort_library ("-" for none), a usable library, words of the message. */
#include "check.h"

int main(int argc, char **argv) {
  begin();
  CHECK(argc > 4);
  char text[256];
  uint64_t needed;
  OK(softdimo_provider_info(0, text, sizeof text, &needed));
  CHECK(strstr(text, "\"available\":false") && strstr(text, "open an engine first"));

  softdimo_engine_options options = default_options();
  if (strcmp(argv[2], "-")) options.ort_library = argv[2];
  softdimo_engine *engine = NULL;
  for (int i = 0; i < 3; i++) {
    STATUS(SOFTDIMO_ERR_RUNTIME_NOT_FOUND, softdimo_engine_open(argv[1], &options, &engine));
    CHECK(engine == NULL);
    for (int k = 4; k < argc; k++)
      if (!strstr(last_error(), argv[k])) fail(__FILE__, __LINE__, "no '%s' in '%s'", argv[k], last_error());
  }
  printf("# %s\n", last_error());

  options.ort_library = argv[3];
  engine = open_engine(argv[1], &options);
  OK(softdimo_provider_info(0, text, sizeof text, &needed));
  CHECK(strstr(text, "\"available\":true"));
  softdimo_engine_free(engine);
  return end();
}
