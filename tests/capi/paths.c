/* Paths are UTF-8 text on every system, whatever the code page and the locale of the host.
 *
 * Arguments: a folder, in which FOLDER lies with the model and ONNX Runtime, and the name of the latter's file. */
#include "check.h"

/* "Модели-模型-é", of which no code page has all. */
#define FOLDER "\320\234\320\276\320\264\320\265\320\273\320\270-\346\250\241\345\236\213-\303\251"
/* "яблоко-蘋果". */
#define NAME "\321\217\320\261\320\273\320\276\320\272\320\276-\350\230\213\346\236\234"

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 3);
  char model[4096], png[4096], missing[4096], runtime[4096];
  snprintf(model, sizeof model, "%s/%s/%s.softdimo.safetensors", argv[1], FOLDER, NAME);
  snprintf(png, sizeof png, "%s/%s/%s.png", argv[1], FOLDER, NAME);
  snprintf(missing, sizeof missing, "%s/%s/%s.none", argv[1], FOLDER, NAME);
  snprintf(runtime, sizeof runtime, "%s/%s/%s", argv[1], FOLDER, argv[2]);

  softdimo_engine_options options = default_options();
  softdimo_engine *none = NULL;
  options.ort_library = runtime;
  FAILS(SOFTDIMO_ERR_NOT_FOUND, NAME ".none", softdimo_engine_open(missing, &options, &none));
  for (uint32_t weights = SOFTDIMO_WEIGHTS_MAP; weights <= SOFTDIMO_WEIGHTS_READ; weights++) {
    options.weights_mode = weights;
    softdimo_engine *engine = open_engine(model, &options);
    softdimo_request request = default_request(3);
    uint8_t pixels[PIXELS * 4];
    softdimo_image image = picture(pixels);
    OK(softdimo_generate(engine, &request, &image, 1));
    OK(softdimo_image_write_png(&image, png, NULL, 0));
    char report[1024];
    uint64_t needed = 0;
    FAILS(SOFTDIMO_ERR_NOT_FOUND, NAME ".none", softdimo_engine_verify(engine, missing, report, sizeof report, &needed));
    softdimo_engine_free(engine);
  }
  return end();
}
