/* Bad input of every kind, one row per case: the exact status, a message that names the thing, what was
 * expected and what was found, and an engine that still makes the same picture afterwards.
 *
 * Arguments: the fixture model (student, teacher, labels), the folder of hostile model files, a folder to
 * write to. */
#include "check.h"

#include <math.h>
#include <stddef.h>

static softdimo_engine *engine;
static softdimo_job *done; /* finished, one picture */
static uint8_t pixels[PIXELS * 16], expected_pixels[PIXELS * 4];
static int cases, wrong;

static void still_works(int line, const char *what) {
  softdimo_request request = default_request(7);
  uint8_t found[PIXELS * 4];
  softdimo_image image = picture(found);
  int32_t status = softdimo_generate(engine, &request, &image, 1);
  if (status) fail(__FILE__, line, "after %s: %s: %s", what, softdimo_status_name(status), last_error());
  if (memcmp(found, expected_pixels, sizeof found)) fail(__FILE__, line, "after %s: another picture", what);
}

/* One row: what was tried, the status and the words its message must hold. */
static void refused(int line, const char *what, int32_t expected, const char *words, int32_t status) {
  const char *message = last_error();
  int good = status == expected && strstr(message, words);
  if (!good) {
    printf("%s:%d: %s: expected %s and a message with '%s', found %s: %s\n", __FILE__, line, what,
           softdimo_status_name(expected), words, softdimo_status_name(status), status ? message : "");
    wrong++;
    return;
  }
  printf("# %-60.60s %s: %s\n", what, softdimo_status_name(status) + strlen("SOFTDIMO_"), message);
  cases++;
  still_works(line, what);
}

#define REFUSED(status, words, call) refused(__LINE__, #call, SOFTDIMO_ERR_##status, words, call)

/* Model files that break one rule each; tests/capi/models.rs makes them. */
static void model_files(const char *folder) {
  static const struct {
    const char *file;
    int32_t status;
    const char *words;
  } rows[] = {
      {"none", SOFTDIMO_ERR_NOT_FOUND, "none' not found"},
      {"", SOFTDIMO_ERR_FORMAT, "file type: expected a regular file, found a directory"},
      {"empty", SOFTDIMO_ERR_FORMAT, "found an empty file"},
      {"cut_in_length", SOFTDIMO_ERR_FORMAT, "expected"},
      {"cut_in_header", SOFTDIMO_ERR_FORMAT, "header"},
      {"cut_after_header", SOFTDIMO_ERR_FORMAT, "expected"},
      {"cut_in_half", SOFTDIMO_ERR_FORMAT, "expected"},
      {"cut_by_one", SOFTDIMO_ERR_FORMAT, "expected"},
      {"longer_by_one", SOFTDIMO_ERR_FORMAT, "file size: expected"},
      {"magic", SOFTDIMO_ERR_FORMAT, "file format: expected a safetensors or PyTorch file"},
      {"lfs_pointer", SOFTDIMO_ERR_FORMAT, "Git LFS pointer"},
      {"overlap", SOFTDIMO_ERR_FORMAT, "overlap"},
      {"out_of_range", SOFTDIMO_ERR_FORMAT, "data_offsets"},
      {"offsets_overflow", SOFTDIMO_ERR_FORMAT, "data_offsets"},
      {"header_overflow", SOFTDIMO_ERR_FORMAT, "header length: expected at most"},
      {"missing_tensor", SOFTDIMO_ERR_MISSING_TENSOR, "tensor 'student.input_proj.weight': expected shape"},
      {"wrong_shape", SOFTDIMO_ERR_TENSOR_MISMATCH, "tensor 'student.input_proj.weight': expected"},
      {"wrong_rank", SOFTDIMO_ERR_TENSOR_MISMATCH, "tensor 'student.input_proj.weight': expected"},
      {"wrong_dtype", SOFTDIMO_ERR_TENSOR_MISMATCH, "tensor 'student.input_proj.weight': expected"},
      {"no_decoder", SOFTDIMO_ERR_CONFIG, "expected a decoder and a student or teacher"},
      {"no_format", SOFTDIMO_ERR_CONFIG, "config 'softdimo.format': expected a model file made by"},
      {"other_format", SOFTDIMO_ERR_CONFIG, "config 'softdimo.format': expected 1, 2 or 3, found 99"},
      {"no_config", SOFTDIMO_ERR_CONFIG, "config 'softdimo.config'"},
      {"config_is_not_json", SOFTDIMO_ERR_CONFIG, "config 'softdimo.config': expected a valid configuration"},
      {"config_other_family", SOFTDIMO_ERR_CONFIG, "unknown variant"},
      {"config_zero_size", SOFTDIMO_ERR_CONFIG, "hidden_dim"},
      {"config_huge_size", SOFTDIMO_ERR_CONFIG, "depth"},
      {"config_zero_heads", SOFTDIMO_ERR_CONFIG, "heads"},
      {"config_zero_stride", SOFTDIMO_ERR_CONFIG, "input_stride"},
      {"config_more_layers", SOFTDIMO_ERR_MISSING_TENSOR, "expected shape"},
      {"config_nan_default", SOFTDIMO_ERR_CONFIG, "softdimo.config"},
      {"labels_are_not_json", SOFTDIMO_ERR_CONFIG, "config 'softdimo.labels': expected a list of labels"},
      {"labels_too_few", SOFTDIMO_ERR_CONFIG, "config 'softdimo.labels': expected 10 labels, or none, found 3"},
      {"pytorch_file", SOFTDIMO_ERR_CONFIG, "config 'softdimo.format'"},
  };
  char path[4096];
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    softdimo_engine *opened = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, rows[i].file);
    refused(__LINE__, rows[i].file, rows[i].status, rows[i].words, softdimo_engine_open(path, NULL, &opened));
    CHECK(opened == NULL);
  }
}

/* Every row changes one thing of a good request; generate and submit refuse it alike. */
#define REQUEST(status, words, change)                                                                       \
  do {                                                                                                       \
    softdimo_request r = default_request(7);                                                                 \
    softdimo_image image = picture(pixels);                                                                  \
    softdimo_job *job = NULL;                                                                                \
    change;                                                                                                  \
    refused(__LINE__, #change, SOFTDIMO_ERR_##status, words, softdimo_submit(engine, &r, &job));             \
    CHECK(job == NULL);                                                                                      \
    if (r.batch == 1)                                                                                        \
      refused(__LINE__, #change, SOFTDIMO_ERR_##status, words, softdimo_generate(engine, &r, &image, 1));    \
  } while (0)

static void request_fields(void) {
  static uint32_t start[TOKENS + 1];
  static float e_in[64 * 48 + 1];
  const int32_t classes[3] = {1, 11, -1};
  static softdimo_reward_term terms[64];
  softdimo_image edited = picture(pixels);

  REQUEST(UNKNOWN_LABEL, "label 'aple': expected one of the model's 10 labels", r.label = "aple");
  REQUEST(UNKNOWN_LABEL, "(close: red apple, green apple, apple pie), found no match", r.label = "blue apple");
  REQUEST(UNKNOWN_LABEL, "label ''", r.label = "");
  REQUEST(INVALID_ARGUMENT, "request.label: expected UTF-8 text, found an invalid byte at 2", r.label = "ab\xff");
  REQUEST(INVALID_ARGUMENT, "NULL when class_labels is set",
          (r.label = "red apple", r.class_labels = classes, r.class_label_count = 1));
  REQUEST(INVALID_ARGUMENT, "class: expected 0 to 10 (10 = no label), found 11",
          (r.class_labels = classes + 1, r.class_label_count = 1));
  REQUEST(INVALID_ARGUMENT, "request.class_labels: expected ids of 0 or more, found -1",
          (r.class_labels = classes + 2, r.class_label_count = 1));
  REQUEST(INVALID_ARGUMENT, "labels: expected 1 or 4 (one per picture), found 2",
          (r.batch = 4, r.class_labels = classes, r.class_label_count = 2, r.class_labels = (int32_t[]){1, 2}));
  REQUEST(INVALID_ARGUMENT, "request.class_labels: expected 1, found 4294967295",
          (r.class_labels = classes, r.class_label_count = UINT32_MAX));
  REQUEST(INVALID_ARGUMENT, "request.class_labels: expected 1 or 256 (one per picture), found 257",
          (r.batch = 256, r.class_labels = classes, r.class_label_count = 257));
  REQUEST(INVALID_ARGUMENT, "batch: expected 1 to 256, found 4294967295",
          (r.batch = UINT32_MAX, r.class_labels = classes, r.class_label_count = UINT32_MAX));
  REQUEST(INVALID_ARGUMENT, "request.class_labels: expected 1 elements, found NULL", r.class_label_count = 1);
  REQUEST(INVALID_ARGUMENT, "request.class_labels: expected a length above 0", r.class_labels = classes);
  REQUEST(INVALID_ARGUMENT, "request.class_labels: expected a pointer aligned to 4",
          (r.class_labels = (const int32_t *)((const char *)classes + 1), r.class_label_count = 1));
  REQUEST(INVALID_ARGUMENT, "request.batch: expected 1 to 256, found 0", r.batch = 0);
  REQUEST(INVALID_ARGUMENT, "batch: expected 1 to 256, found 257", r.batch = 257);
  REQUEST(INVALID_ARGUMENT, "batch: expected 1 to 256, found 4294967295", r.batch = UINT32_MAX);
  REQUEST(INVALID_ARGUMENT, "steps: expected 0 to 10000, found 10001", r.steps = 10001);
  REQUEST(UNSUPPORTED, "soft decoding with steps > 1", (r.steps = 4, r.decode = SOFTDIMO_DECODE_SOFT));
  REQUEST(UNSUPPORTED, "top_k and top_p with steps > 1", (r.steps = 4, r.top_k = 3));
  REQUEST(UNSUPPORTED, "a start embedding with steps > 1", (r.steps = 4, r.e_in = e_in, r.e_in_count = 64 * 48));
  REQUEST(INVALID_ARGUMENT, "temperature: expected more than 0 with steps > 1",
          (r.steps = 4, r.temperature = 0));
  REQUEST(UNSUPPORTED, "request.prompt is not supported: this model is conditioned on class labels",
          r.prompt = "an apple");
  REQUEST(UNSUPPORTED, "request.negative_prompt", r.negative_prompt = "");
  REQUEST(INVALID_ARGUMENT, "request.prompt: expected UTF-8", r.prompt = "\x80");
  REQUEST(UNSUPPORTED, "request.aesthetic_score is not supported: maskbit", r.aesthetic_score = 6);
  REQUEST(UNSUPPORTED, "request.crop", (r.crop_left = 0, r.crop_top = 0));
  REQUEST(INVALID_ARGUMENT, "request.crop_left, _top: expected two numbers of 0 or more, or -1 and -1",
          r.crop_left = 3);
  REQUEST(INVALID_ARGUMENT, "request.original_width, _height", (r.original_width = -5, r.original_height = 3));
  REQUEST(INVALID_ARGUMENT, "request.edit_image: expected a picture with edit_keep, found NULL", r.edit_keep = 0.5f);
  REQUEST(INVALID_ARGUMENT, "request.edit_image: expected a picture with edit_mask, found NULL",
          (r.edit_mask = e_in, r.edit_mask_count = PIXELS));
  REQUEST(INVALID_ARGUMENT, "request.edit_keep: expected 0 to 1 with edit_image, or edit_mask, found -1",
          r.edit_image = &edited);
  REQUEST(INVALID_ARGUMENT, "request.edit_keep: expected -1 with edit_mask, found 1",
          (r.edit_image = &edited, r.edit_keep = 1, r.edit_mask = e_in, r.edit_mask_count = PIXELS));
  REQUEST(INVALID_ARGUMENT, "edit.keep: expected 0 to 1, found 2", (r.edit_image = &edited, r.edit_keep = 2));
  REQUEST(INVALID_ARGUMENT, "edit.mask: expected 1024 floats for 32x32, found 7",
          (r.edit_image = &edited, r.edit_mask = e_in, r.edit_mask_count = 7));
  REQUEST(INVALID_ARGUMENT, "edit.mask: expected 1024 floats for 32x32, found 4294967295",
          (r.edit_image = &edited, r.edit_mask = e_in, r.edit_mask_count = UINT32_MAX));
  REQUEST(INVALID_ARGUMENT, "request.edit_image: expected a picture of the model's size, 32x32, found 1x32",
          (edited.width = 1, r.edit_image = &edited, r.edit_keep = 1));
  /* As many pixels, and another picture. */
  REQUEST(INVALID_ARGUMENT, "request.edit_image: expected a picture of the model's size, 32x32, found 64x16",
          (edited.width = 64, edited.height = 16, r.edit_image = &edited, r.edit_keep = 1));
  edited.width = edited.height = SIDE;
  REQUEST(INVALID_ARGUMENT, "image.format", (edited.format = 77, r.edit_image = &edited, r.edit_keep = 1));
  REQUEST(INVALID_ARGUMENT, "request.decode: expected 0 (hard) or 1 (soft), found 2", r.decode = 2);
  REQUEST(INVALID_ARGUMENT, "request.report_gap: expected 0 or 1, found 2", r.report_gap = 2);
  REQUEST(INVALID_ARGUMENT, "request.reserved0: expected 0, found 5", r.reserved0 = 5);
  REQUEST(INVALID_ARGUMENT, "request.reserved: expected 0, found 1", r.reserved[0] = 1);
  REQUEST(INVALID_ARGUMENT, "request.reserved: expected 0, found 1", r.reserved[5] = 1);
  REQUEST(INVALID_ARGUMENT, "request.top_k: expected -1 or more, found -2", r.top_k = -2);
  REQUEST(INVALID_ARGUMENT, "start_tokens: expected 128 (1 × 64 × 2), found 129 tokens",
          (r.start_tokens = start, r.start_token_count = TOKENS + 1));
  REQUEST(INVALID_ARGUMENT, "start_tokens: expected 256 (2 × 64 × 2), found 128 tokens",
          (r.batch = 2, r.start_tokens = start, r.start_token_count = TOKENS));
  REQUEST(INVALID_ARGUMENT, "start_tokens: expected none with e_in, which is made of them, found some",
          (r.start_tokens = start, r.start_token_count = TOKENS, r.e_in = e_in, r.e_in_count = 64 * 48));
  REQUEST(INVALID_ARGUMENT, "request.start_tokens: expected a pointer aligned to 4",
          (r.start_tokens = (const uint32_t *)((const char *)start + 1), r.start_token_count = TOKENS));
  REQUEST(INVALID_ARGUMENT, "request.e_in: expected a pointer aligned to 4",
          (r.e_in = (const float *)((const char *)e_in + 2), r.e_in_count = 64 * 48));
  REQUEST(INVALID_ARGUMENT, "request.edit_mask: expected a pointer aligned to 4",
          (r.edit_image = &edited, r.edit_mask = (const float *)((const char *)e_in + 1), r.edit_mask_count = PIXELS));
  REQUEST(INVALID_ARGUMENT, "request.start_tokens: expected 128 elements, found NULL",
          r.start_token_count = TOKENS);
  REQUEST(INVALID_ARGUMENT, "request.start_tokens: expected a length above 0", r.start_tokens = start);
  REQUEST(INVALID_ARGUMENT, "start_tokens: expected ids 0 to 128 (128 = mask), found 129",
          (start[5] = CODES + 1, r.start_tokens = start, r.start_token_count = TOKENS));
  REQUEST(INVALID_ARGUMENT, "request.start_tokens: expected a length that fits",
          (r.start_tokens = start, r.start_token_count = UINT64_MAX));
  REQUEST(INVALID_ARGUMENT, "start_tokens: expected 128 (1 × 64 × 2), found 4294967295 tokens",
          (r.start_tokens = start, r.start_token_count = UINT32_MAX));
  REQUEST(INVALID_ARGUMENT, "e_in: expected 3072 floats (1 × 64 × 48), found 4294967295",
          (r.e_in = e_in, r.e_in_count = UINT32_MAX));
  REQUEST(INVALID_ARGUMENT, "request.rewards: expected at most 64 rewards, found 4294967295",
          (r.rewards = terms, r.reward_count = UINT32_MAX));
  REQUEST(INVALID_ARGUMENT, "request.rewards: expected at most 64 rewards, found 65",
          (r.rewards = terms, r.reward_count = 65));
  REQUEST(NULL_ARGUMENT, "request.rewards[..].reward", (r.rewards = terms, r.reward_count = 64));
  REQUEST(INVALID_ARGUMENT, "e_in: expected 3072 floats (1 × 64 × 48), found 3073",
          (r.e_in = e_in, r.e_in_count = 64 * 48 + 1));
  REQUEST(INVALID_ARGUMENT, "request.e_in: expected 3072 elements, found NULL", r.e_in_count = 64 * 48);
  REQUEST(INVALID_ARGUMENT, "request.e_in: expected a length above 0", r.e_in = e_in);
  REQUEST(INVALID_ARGUMENT, "e_in: expected finite floats, found NaN at index 9",
          (e_in[9] = NAN, r.e_in = e_in, r.e_in_count = 64 * 48));
  REQUEST(INVALID_ARGUMENT, "e_in: expected finite floats, found -inf at index 9",
          (e_in[9] = -INFINITY, r.e_in = e_in, r.e_in_count = 64 * 48));
  REQUEST(INVALID_ARGUMENT, "request.e_in: expected a length that fits", (r.e_in = e_in, r.e_in_count = UINT64_MAX));

  /* Every float field, with every value that is none. */
  static const struct {
    const char *name;
    size_t at;
    float too_large;
  } fields[] = {
      {"temperature", offsetof(softdimo_request, temperature), 1.1e4f},
      {"top_p", offsetof(softdimo_request, top_p), 1.01f},
      {"mask_ratio", offsetof(softdimo_request, mask_ratio), 1.01f},
      {"sigma", offsetof(softdimo_request, sigma), 1.01f},
      {"guidance_scale", offsetof(softdimo_request, guidance_scale), 1.1e4f},
      {"randomize_temperature", offsetof(softdimo_request, randomize_temperature), 1.1e4f},
  };
  const float values[] = {NAN, -NAN, INFINITY, -INFINITY, -2, -0.5f, 3e38f};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
    for (size_t k = 0; k <= sizeof values / sizeof *values; k++) {
      softdimo_request r = default_request(7);
      softdimo_job *job = NULL;
      float value = k < sizeof values / sizeof *values ? values[k] : fields[i].too_large;
      memcpy((char *)&r + fields[i].at, &value, sizeof value);
      char words[64];
      snprintf(words, sizeof words, "%s: expected ", fields[i].name);
      refused(__LINE__, fields[i].name, SOFTDIMO_ERR_INVALID_ARGUMENT, words, softdimo_submit(engine, &r, &job));
    }
  }
}

/* Every row changes one thing of a good picture buffer. */
#define IMAGE(status, words, change)                                                                         \
  do {                                                                                                       \
    softdimo_request r = default_request(7);                                                                 \
    softdimo_image v = picture(pixels);                                                                      \
    v.capacity = sizeof pixels;                                                                              \
    memset(pixels, 0x5a, sizeof pixels);                                                                     \
    change;                                                                                                  \
    refused(__LINE__, #change, SOFTDIMO_ERR_##status, words, softdimo_generate(engine, &r, &v, 1));          \
    refused(__LINE__, #change, SOFTDIMO_ERR_##status, words, softdimo_job_image(done, 0, &v));               \
    for (size_t i = 0; i < sizeof pixels; i++) CHECK(pixels[i] == 0x5a);                                     \
  } while (0)

static void images(const char *folder) {
  IMAGE(INVALID_ARGUMENT, "image.width", v.width = 0);
  IMAGE(INVALID_ARGUMENT, "image.height", v.height = 0);
  IMAGE(INVALID_ARGUMENT, "expected 32", v.width = 33);
  IMAGE(INVALID_ARGUMENT, "expected 32", v.height = 31);
  IMAGE(INVALID_ARGUMENT, "expected 32", v.height = UINT32_MAX);
  IMAGE(NULL_ARGUMENT, "image.data", v.data = NULL);
  IMAGE(BUFFER_TOO_SMALL, "expected at least 4096 bytes, found 4095", v.capacity = 4095);
  IMAGE(BUFFER_TOO_SMALL, "expected at least", v.capacity = 0);
  IMAGE(BUFFER_TOO_SMALL, "expected at least 16384 bytes, found 4096",
        (v.format = SOFTDIMO_FORMAT_RGBA32F, v.capacity = 4096));
  IMAGE(INVALID_ARGUMENT, "image.capacity", v.capacity = UINT64_MAX);
  IMAGE(INVALID_ARGUMENT, "image.stride: expected", v.stride = 127);
  IMAGE(BUFFER_TOO_SMALL, "expected at least", v.stride = UINT32_MAX);
  IMAGE(INVALID_ARGUMENT, "image.format: expected 0 (RGBA8)", v.format = 4);
  IMAGE(BUFFER_TOO_SMALL, "image.data: expected at least 4194304 bytes, found 16384",
        (v.width = v.height = 32 * 32));
  IMAGE(INVALID_ARGUMENT, "image size: expected one that fits", (v.width = v.height = UINT32_MAX / 32 * 32));
  IMAGE(INVALID_ARGUMENT, "image.width: expected 32 or a multiple of it (nearest: 4294967264 or 4294967296)",
        v.width = UINT32_MAX);
  IMAGE(INVALID_ARGUMENT, "image.stride: expected 0 or at least 256 bytes, found 128", (v.width = 64, v.stride = 128));
  IMAGE(INVALID_ARGUMENT, "image.origin: expected 0 (top left) or 1 (bottom left), found 2", v.origin = 2);

  /* Styles. */
#define STYLE(status, words, change)                                                                         \
  do {                                                                                                       \
    softdimo_picture_style s;                                                                                \
    OK(softdimo_picture_style_init(&s, sizeof s));                                                           \
    IMAGE(status, words, (v.style = &s, change));                                                            \
  } while (0)
  static const uint8_t colors[257 * 4];
  STYLE(STRUCT_SIZE, "softdimo_picture_style.struct_size: expected at least", s.struct_size = 79);
  STYLE(STRUCT_SIZE, "softdimo_picture_style.struct_size: expected at least", s.struct_size = UINT32_MAX);
  STYLE(INVALID_ARGUMENT, "style.reserved: expected 0, found 3", s.reserved[8] = 3);
  STYLE(INVALID_ARGUMENT, "style.scaling: expected 0 (nearest) or 1 (smooth), found 2", s.scaling = 2);
  STYLE(INVALID_ARGUMENT, "style.palette_count: expected 0 for no palette, or 2 to 256 colours, found 1",
        s.palette_count = 1);
  STYLE(INVALID_ARGUMENT, "found 4294967295", s.palette_count = UINT32_MAX);
  STYLE(INVALID_ARGUMENT, "style.palette_count: expected 0 for no palette, or 2 to 256 colours, found 0 with a palette",
        s.palette = colors);
  STYLE(INVALID_ARGUMENT, "found 257", (s.palette = colors, s.palette_count = 257));
  STYLE(INVALID_ARGUMENT, "found 4294967295", (s.palette = colors, s.palette_count = UINT32_MAX));
  STYLE(INVALID_ARGUMENT, "style.palette: expected 2 colours of an alpha above 0, found 0",
        (s.palette = colors, s.palette_count = 256));
  STYLE(INVALID_ARGUMENT, "style.palette_format: expected 0 (RGBA8) or 1 (RGB8), found 2",
        (s.palette = colors, s.palette_count = 2, s.palette_format = SOFTDIMO_FORMAT_BGRA8));
  STYLE(INVALID_ARGUMENT, "style.dither: expected 0 (none), 1 (4x4) or 2 (8x8), found 3",
        (s.palette_count = 4, s.dither = 3));
  STYLE(INVALID_ARGUMENT, "dither: expected a palette with it, found none", s.dither = SOFTDIMO_DITHER_BAYER4);
  const float none[] = {NAN, -NAN, INFINITY, -INFINITY, -0.5f, 1.5f, 3e38f};
  for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
    STYLE(INVALID_ARGUMENT, "dither_strength: expected 0 to 1, found",
          (s.palette_count = 4, s.dither = SOFTDIMO_DITHER_BAYER8, s.dither_strength = none[i]));
    STYLE(INVALID_ARGUMENT, "matte_tolerance: expected 0 to 1, found", (s.matte = 1, s.matte_tolerance = none[i]));
    STYLE(INVALID_ARGUMENT, "style.matte_tolerance: expected -1 without a matte, found", s.matte_tolerance = none[i]);
  }
  STYLE(INVALID_ARGUMENT, "style.matte: expected 0 or 1, found 2", s.matte = 2);
  STYLE(INVALID_ARGUMENT, "style.matte_hole_area: expected 0 without a matte, found 9", s.matte_hole_area = 9);
  STYLE(INVALID_ARGUMENT, "image.format: expected one with alpha for a matte, found 1 (RGB8)",
        (s.matte = 1, v.format = SOFTDIMO_FORMAT_RGB8));

  softdimo_request r = default_request(7);
  softdimo_image two[2];
  two[0] = picture(pixels);
  two[1] = picture(pixels + PIXELS * 4);
  REFUSED(INVALID_ARGUMENT, "image_count: expected request.batch = 1, found 2", softdimo_generate(engine, &r, two, 2));
  REFUSED(INVALID_ARGUMENT, "image_count: expected request.batch = 1, found 0", softdimo_generate(engine, &r, two, 0));
  r.batch = 2;
  REFUSED(INVALID_ARGUMENT, "image_count: expected request.batch = 2, found 1", softdimo_generate(engine, &r, two, 1));
  two[1].capacity = 1;
  memset(pixels, 0x5a, sizeof pixels);
  REFUSED(BUFFER_TOO_SMALL, "expected at least 4096 bytes, found 1", softdimo_generate(engine, &r, two, 2));
  CHECK(pixels[0] == 0x5a);
  two[1] = picture(pixels + PIXELS * 4);
  two[1].struct_size = sizeof two[1] + 8;
  REFUSED(INVALID_ARGUMENT, "struct_size: expected 48 in all, found 56", softdimo_generate(engine, &r, two, 2));

  /* PNG files. */
  softdimo_image image = picture(expected_pixels);
  const char *pair[4] = {"k", "v", "k", NULL}, *bad[2] = {"k", "\xff"}, *empty[2] = {"", "v"};
  char path[4096];
  snprintf(path, sizeof path, "%s/no/such/folder/x.png", folder);
  REFUSED(NOT_FOUND, "x.png", softdimo_image_write_png(&image, path, NULL, 0));
  snprintf(path, sizeof path, "%s/labels.json/x.png", folder); /* a file is no folder */
#ifdef _WIN32 /* which says no more than that there is no such path */
  REFUSED(NOT_FOUND, "labels.json/x.png'", softdimo_image_write_png(&image, path, NULL, 0));
#else
  REFUSED(IO, "labels.json/x.png'", softdimo_image_write_png(&image, path, NULL, 0));
#endif
  REFUSED(IO, folder, softdimo_image_write_png(&image, folder, NULL, 0));
  REFUSED(INVALID_ARGUMENT, "path: expected UTF-8", softdimo_image_write_png(&image, "\xff.png", NULL, 0));
  snprintf(path, sizeof path, "%s/x.png", folder);
  REFUSED(INVALID_ARGUMENT, "text: expected 2 elements, found NULL", softdimo_image_write_png(&image, path, NULL, 1));
  REFUSED(INVALID_ARGUMENT, "text: expected a length above 0", softdimo_image_write_png(&image, path, pair, 0));
  REFUSED(NULL_ARGUMENT, "text value", softdimo_image_write_png(&image, path, pair, 2));
  REFUSED(INVALID_ARGUMENT, "text value: expected UTF-8", softdimo_image_write_png(&image, path, bad, 1));
  REFUSED(INVALID_ARGUMENT, "expected", softdimo_image_write_png(&image, path, empty, 1));
  image.width = 0;
  REFUSED(INVALID_ARGUMENT, "image.width", softdimo_image_write_png(&image, path, NULL, 0));
  CHECK(!fopen(path, "rb")); /* nothing of all that left a file */
  image = picture(expected_pixels);
  OK(softdimo_image_write_png(&image, path, pair, 1));
}

#ifdef _WIN32
#define PROVIDER_FILE "\\onnxruntime_providers_cuda.dll"
#else
#define PROVIDER_FILE "libonnxruntime_providers_cuda.so"
#endif

/* Every row changes one thing of good options. */
#define OPTIONS(status, words, change)                                                                       \
  do {                                                                                                       \
    softdimo_engine_options o = default_options();                                                           \
    softdimo_engine *opened = NULL;                                                                          \
    change;                                                                                                  \
    refused(__LINE__, #change, SOFTDIMO_ERR_##status, words, softdimo_engine_open(model, &o, &opened));      \
    CHECK(opened == NULL);                                                                                   \
  } while (0)

static void options(const char *model) {
  OPTIONS(INVALID_ARGUMENT, "provider: expected 'cpu' or 'cuda' or 'openvino', found 'gpu'", o.provider = "gpu");
  OPTIONS(INVALID_ARGUMENT, "provider: expected 'cpu' or 'cuda' or 'openvino', found ''", o.provider = "");
  OPTIONS(INVALID_ARGUMENT, "options.provider: expected UTF-8", o.provider = "\xc3");
  OPTIONS(PROVIDER, PROVIDER_FILE "' not found: expected the GPU build", o.provider = "cuda");
  OPTIONS(INVALID_ARGUMENT, "options.memory_mode: expected 0 (lean) or 1 (fast), found 2", o.memory_mode = 2);
  OPTIONS(INVALID_ARGUMENT, "options.weights_mode: expected 0 (map), 1 (read) or 2 (guarded), found 3",
          o.weights_mode = 3);
  OPTIONS(INVALID_ARGUMENT, "threads: expected 0 (automatic) to 256, found 257", o.threads = 257);
  OPTIONS(INVALID_ARGUMENT, "threads: expected 0 (automatic) to 256", o.threads = UINT32_MAX);
  OPTIONS(INVALID_ARGUMENT, "niceness: expected 0 to 19, found 20", o.niceness = 20);
  OPTIONS(INVALID_ARGUMENT, "niceness: expected 0 to 19, found -1", o.niceness = -1);
  OPTIONS(INVALID_ARGUMENT, "options.device_id: expected 0 or more, found -1", o.device_id = -1);
  OPTIONS(INVALID_ARGUMENT, "options.log_level: expected 1 (error) to 3 (info), found 4", o.log_level = 4);
  OPTIONS(INVALID_ARGUMENT, "options.log_level", o.log_level = 0);
  OPTIONS(INVALID_ARGUMENT, "options.reserved: expected 0, found 1", o.reserved[0] = 1);
  OPTIONS(INVALID_ARGUMENT, "options.reserved: expected 0, found 1", o.reserved[2] = 1);
  OPTIONS(INVALID_ARGUMENT, "options.untuned: expected 0 or 1, found 2", o.untuned = 2);
  OPTIONS(INVALID_ARGUMENT, "options.arithmetic: expected 0 (auto) or 1 (f32), found 2", o.arithmetic = 2);
  OPTIONS(INVALID_ARGUMENT, "options.yielding: expected 0 or 1, found 2", o.yielding = 2);
  OPTIONS(UNSUPPORTED, "expected at most 0 nodes (work_limit / 2), found", o.work_limit = 1);
  OPTIONS(UNSUPPORTED, "expected at most 10 nodes (work_limit / 2), found", o.work_limit = 20);
  OPTIONS(INVALID_ARGUMENT, "ort_library: expected the library this process already loaded",
          o.ort_library = "/nowhere/libonnxruntime.so");
  OPTIONS(INVALID_ARGUMENT, "options.ort_library: expected UTF-8", o.ort_library = "\xff");

  softdimo_engine *opened = NULL;
  REFUSED(INVALID_ARGUMENT, "path: expected UTF-8 text", softdimo_engine_open("/\xc0\xaf", NULL, &opened));
  REFUSED(NOT_FOUND, "file '' not found", softdimo_engine_open("", NULL, &opened));
  REFUSED(INVALID_ARGUMENT, "length: expected", softdimo_engine_open_memory("", UINT64_MAX, NULL, NULL, NULL, &opened));
  REFUSED(FORMAT, "(memory): file format: expected", softdimo_engine_open_memory("", 0, NULL, NULL, NULL, &opened));
  REFUSED(FORMAT, "(memory)", softdimo_engine_open_memory("12345678{\"a\":", 13, NULL, NULL, NULL, &opened));
  CHECK(opened == NULL);

  /* A memory limit stops the work before it starts, every time, and harms nothing else. */
  softdimo_engine_options o = default_options();
  o.memory_limit = 100;
  softdimo_engine *small = open_engine(model, &o);
  softdimo_request r = default_request(7);
  softdimo_image image = picture(pixels);
  REFUSED(OUT_OF_MEMORY, "the buffers of 1 pictures: needs", softdimo_generate(small, &r, &image, 1));
  REFUSED(OUT_OF_MEMORY, "expected at most the memory limit of 100 bytes", softdimo_generate(small, &r, &image, 1));
  REFUSED(OUT_OF_MEMORY, "preparing", softdimo_engine_warmup(small, 1));
  REFUSED(UNSUPPORTED, "no convolution for int8 arithmetic", softdimo_engine_tune(small, NULL, NULL, NULL));
  REFUSED(NULL_ARGUMENT, "argument 'engine' is NULL", softdimo_engine_tune(NULL, NULL, NULL, NULL));
  softdimo_memory memory;
  memory.struct_size = sizeof memory;
  OK(softdimo_engine_memory(small, &memory));
  CHECK(memory.sessions == 0 && memory.weights == 0 && memory.activations == 0 && memory.transient == 0);
  softdimo_engine_free(small);

  /* A limit that one picture fits under and 64 do not: the engine goes on with one. */
  OK(softdimo_engine_memory(engine, &memory));
  o.memory_limit = 4 * memory.activations;
  small = open_engine(model, &o);
  OK(softdimo_generate(small, &r, &image, 1));
  REFUSED(OUT_OF_MEMORY, "needs", softdimo_engine_warmup(small, 256));
  OK(softdimo_generate(small, &r, &image, 1));
  CHECK(!memcmp(pixels, expected_pixels, sizeof expected_pixels));
  softdimo_engine_free(small);
}

static void null_arguments(const char *model) {
  softdimo_engine *opened = NULL;
  softdimo_request r = default_request(7);
  softdimo_image image = picture(pixels);
  softdimo_job *job = NULL;
  softdimo_memory memory = {sizeof memory, 0, 0, 0, 0, 0};
  softdimo_progress progress = {sizeof progress, 0, 0, 0, 0, 0};
  softdimo_layout layout = {sizeof layout, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  softdimo_reward *reward = NULL;
  softdimo_opening *opening = NULL;
  const char *label;
  char text[16];
  float f[4];
  uint32_t u[4];
  uint64_t needed = 0;
#define NULLS(words, call) REFUSED(NULL_ARGUMENT, "argument '" words "' is NULL", call)
  NULLS("buffer", softdimo_provider_info(0, NULL, 0, NULL));
  NULLS("buffer", softdimo_provider_info(0, NULL, 16, &needed));
  NULLS("options", softdimo_engine_options_init(NULL, sizeof(softdimo_engine_options)));
  NULLS("options", softdimo_engine_options_init_game(NULL, sizeof(softdimo_engine_options)));
  NULLS("path", softdimo_engine_open(NULL, NULL, &opened));
  NULLS("engine", softdimo_engine_open(model, NULL, NULL));
  NULLS("data", softdimo_engine_open_memory(NULL, 10, NULL, NULL, NULL, &opened));
  NULLS("engine", softdimo_engine_open_memory(text, 10, NULL, NULL, NULL, NULL));
  NULLS("engine", softdimo_engine_info(NULL, text, sizeof text, &needed));
  NULLS("buffer", softdimo_engine_info(engine, NULL, 0, NULL));
  NULLS("buffer", softdimo_engine_info(engine, NULL, 16, &needed));
  NULLS("engine", softdimo_engine_label_count(NULL, u));
  NULLS("count", softdimo_engine_label_count(engine, NULL));
  NULLS("engine", softdimo_engine_label(NULL, 0, &label));
  NULLS("label", softdimo_engine_label(engine, 0, NULL));
  NULLS("engine", softdimo_engine_memory(NULL, &memory));
  NULLS("softdimo_memory", softdimo_engine_memory(engine, NULL));
  NULLS("engine", softdimo_engine_layout(NULL, &layout));
  NULLS("softdimo_layout", softdimo_engine_layout(engine, NULL));
  NULLS("engine", softdimo_engine_warmup(NULL, 1));
  NULLS("engine", softdimo_engine_trim(NULL));
  NULLS("engine", softdimo_engine_warmup_request(NULL, &r));
  NULLS("softdimo_request", softdimo_engine_warmup_request(engine, NULL));
  NULLS("bytes", softdimo_memory_in_use(NULL));
  OK(softdimo_set_memory_budget(UINT64_MAX));
  OK(softdimo_set_memory_budget(0));
  NULLS("engine", softdimo_engine_cancel_pending(NULL, u));
  OK(softdimo_engine_cancel_pending(engine, NULL));
  NULLS("engine", softdimo_engine_pause(NULL));
  NULLS("engine", softdimo_engine_resume(NULL));
  NULLS("engine", softdimo_engine_set_cpu_share(NULL, 50));
  REFUSED(INVALID_ARGUMENT, "percent: expected 0 (no limit) to ", softdimo_engine_set_cpu_share(engine, UINT32_MAX));
  NULLS("path", softdimo_engine_open_async(NULL, NULL, NULL, &opening));
  NULLS("opening", softdimo_engine_open_async(model, NULL, NULL, NULL));
  NULLS("opening", softdimo_opening_progress(NULL, &progress));
  NULLS("opening", softdimo_opening_wait(NULL, 0));
  NULLS("opening", softdimo_opening_cancel(NULL));
  NULLS("opening", softdimo_opening_error(NULL, text, sizeof text, &needed));
  NULLS("opening", softdimo_opening_engine(NULL, &opened));
  OK(softdimo_engine_open_async(model, NULL, NULL, &opening));
  NULLS("softdimo_progress", softdimo_opening_progress(opening, NULL));
  NULLS("buffer", softdimo_opening_error(opening, NULL, 16, &needed));
  NULLS("engine", softdimo_opening_engine(opening, NULL));
  softdimo_opening_free(opening);
  opening = NULL;
  NULLS("engine", softdimo_job_free_all(NULL));
  NULLS("engine", softdimo_engine_verify(NULL, model, text, sizeof text, &needed));
  NULLS("golden", softdimo_engine_verify(engine, NULL, text, sizeof text, &needed));
  NULLS("engine", softdimo_encode(NULL, &image, u, TOKENS, &needed));
  NULLS("softdimo_image", softdimo_encode(engine, NULL, u, TOKENS, &needed));
  NULLS("request", softdimo_request_init(NULL, sizeof(softdimo_request)));
  NULLS("image", softdimo_image_init(NULL, sizeof(softdimo_image)));
  NULLS("style", softdimo_picture_style_init(NULL, sizeof(softdimo_picture_style)));
  NULLS("engine", softdimo_generate(NULL, &r, &image, 1));
  NULLS("softdimo_request", softdimo_generate(engine, NULL, &image, 1));
  NULLS("softdimo_image", softdimo_generate(engine, &r, NULL, 1));
  NULLS("engine", softdimo_submit(NULL, &r, &job));
  NULLS("softdimo_request", softdimo_submit(engine, NULL, &job));
  NULLS("job", softdimo_submit(engine, &r, NULL));
  NULLS("job", softdimo_job_poll(NULL, u));
  NULLS("state", softdimo_job_poll(done, NULL));
  NULLS("job", softdimo_job_wait(NULL, 0));
  NULLS("job", softdimo_job_cancel(NULL));
  NULLS("job", softdimo_job_progress(NULL, &progress));
  NULLS("softdimo_progress", softdimo_job_progress(done, NULL));
  NULLS("job", softdimo_job_image(NULL, 0, &image));
  NULLS("softdimo_image", softdimo_job_image(done, 0, NULL));
  NULLS("job", softdimo_job_image_f32(NULL, 0, f, 4, &needed));
  NULLS("buffer", softdimo_job_image_f32(done, 0, NULL, 4, &needed));
  NULLS("job", softdimo_job_tokens(NULL, 0, u, 4, &needed));
  NULLS("tokens", softdimo_job_tokens(done, 0, NULL, 4, &needed));
  NULLS("job", softdimo_job_max_probability(NULL, 0, f, 4, &needed));
  NULLS("buffer", softdimo_job_max_probability(done, 0, NULL, 0, NULL));
  NULLS("job", softdimo_job_embedding(NULL, 0, f, 4, &needed));
  NULLS("buffer", softdimo_job_embedding(done, 0, NULL, 0, NULL));
  NULLS("job", softdimo_job_report(NULL, text, sizeof text, &needed));
  NULLS("buffer", softdimo_job_report(done, NULL, 16, &needed));
  NULLS("job", softdimo_job_error(NULL, text, sizeof text, &needed));
  NULLS("buffer", softdimo_job_error(done, NULL, 16, NULL));
  NULLS("softdimo_image", softdimo_image_write_png(NULL, model, NULL, 0));
  NULLS("path", softdimo_image_write_png(&image, NULL, NULL, 0));
  NULLS("softdimo_image", softdimo_reward_target(NULL, NULL, 0, &reward));
  NULLS("reward", softdimo_reward_target(&image, NULL, 0, NULL));
  NULLS("reward", softdimo_reward_color(1, 0, 0, NULL, 0, NULL));
  NULLS("reward", softdimo_reward_prior(0, NULL));
  NULLS("reward", softdimo_reward_closeness(NULL));
  NULLS("callback", softdimo_reward_from_callback(NULL, NULL, &reward));
  NULLS("reward", softdimo_reward_histogram(&image, NULL, 0, NULL, 0, NULL));
  NULLS("target", softdimo_reward_histogram(NULL, NULL, 0, NULL, 0, &reward));
  NULLS("options", softdimo_reward_options_init(NULL, sizeof(softdimo_reward_options)));
  NULLS("path", softdimo_reward_open(NULL, NULL, &reward));
  NULLS("reward", softdimo_reward_open(model, NULL, NULL));
  NULLS("data", softdimo_reward_open_memory(NULL, 10, NULL, NULL, NULL, &reward));
  NULLS("reward", softdimo_reward_open_memory(text, 10, NULL, NULL, NULL, NULL));
  NULLS("reward", softdimo_reward_info(NULL, text, sizeof text, &needed));
  CHECK(opened == NULL && job == NULL && needed == 0 && reward == NULL);

  /* No pointer to be NULL, or NULL is fine. */
  softdimo_engine_free(NULL);
  softdimo_job_free(NULL);
  softdimo_opening_free(NULL);
  softdimo_reward_free(NULL);
  CHECK(softdimo_last_error(NULL, 0) > 1 && softdimo_last_error(NULL, 100) > 1);
  CHECK(softdimo_abi_version() == SOFTDIMO_ABI_VERSION);
  CHECK(softdimo_version()[0] && softdimo_provider_count() == 3);
  CHECK(!strcmp(softdimo_status_name(21), "SOFTDIMO_ERR_INTERNAL"));
  CHECK(!strcmp(softdimo_status_name(22), "SOFTDIMO_ERR_UNKNOWN"));
  CHECK(!strcmp(softdimo_status_name(-1), "SOFTDIMO_ERR_UNKNOWN"));
}

/* Memory for a struct of any size: the struct, then bytes of a version that is to come. */
static union {
  uint32_t struct_size;
  char bytes[65536 + 8];
  softdimo_engine_options options;
  softdimo_request request;
  softdimo_image image;
  softdimo_memory memory;
  softdimo_progress progress;
  softdimo_layout layout;
  softdimo_reward_options reward_options;
} any;

#define SIZES(type, smallest, value, call, undo)                                                                       \
  do {                                                                                                       \
    const uint32_t sizes[] = {0, 1, 3, 4, 8, (smallest) - 1, 65537, 1u << 31, UINT32_MAX};                 \
    const uint32_t larger[] = {sizeof(type) + 1, sizeof(type) + 8, 1024, 65536};                             \
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {                                              \
      memset(&any, 0, sizeof any);                                                                           \
      value;                                                                                                 \
      any.struct_size = sizes[i];                                                                            \
      REFUSED(STRUCT_SIZE, #type ".struct_size: expected at least", call);                                   \
    }                                                                                                        \
    for (size_t i = 0; i < sizeof larger / sizeof *larger; i++) {                                            \
      memset(&any, 0, sizeof any);                                                                           \
      value;                                                                                                 \
      any.struct_size = larger[i];                                                                           \
      OK(call);                                                                                              \
      undo;                                                                                                  \
    }                                                                                                        \
  } while (0)

/* Bytes this version does not know must be zero in what the library reads. */
#define TAIL(type, value, call)                                                                              \
  do {                                                                                                       \
    memset(&any, 0, sizeof any);                                                                             \
    value;                                                                                                   \
    any.struct_size = 1024;                                                                                  \
    any.bytes[1023] = 1;                                                                                     \
    REFUSED(INVALID_ARGUMENT, #type ": expected zeros after the", call);                                     \
  } while (0)

static void struct_sizes(const char *model, const char *folder) {
  softdimo_engine *opened = NULL;
  softdimo_job *job = NULL;
  softdimo_image one = picture(pixels);
  softdimo_request r = default_request(7);
  char path[4096];
  snprintf(path, sizeof path, "%s/sizes.png", folder);

  SIZES(softdimo_engine_options, 96, any.options = default_options(), softdimo_engine_open(model, &any.options, &opened),
        softdimo_engine_free(opened));
  TAIL(softdimo_engine_options, any.options = default_options(), softdimo_engine_open(model, &any.options, &opened));
  SIZES(softdimo_request, 280, any.request = default_request(7), softdimo_submit(engine, &any.request, &job),
        softdimo_job_free(job));
  TAIL(softdimo_request, any.request = default_request(7), softdimo_submit(engine, &any.request, &job));
  SIZES(softdimo_request, 280, any.request = default_request(7), softdimo_generate(engine, &any.request, &one, 1), );
  TAIL(softdimo_request, any.request = default_request(7), softdimo_generate(engine, &any.request, &one, 1));
  SIZES(softdimo_image, 40, any.image = picture(pixels), softdimo_generate(engine, &r, &any.image, 1), );
  TAIL(softdimo_image, any.image = picture(pixels), softdimo_generate(engine, &r, &any.image, 1));
  SIZES(softdimo_image, 40, any.image = picture(pixels), softdimo_job_image(done, 0, &any.image), );
  TAIL(softdimo_image, any.image = picture(pixels), softdimo_job_image(done, 0, &any.image));
  SIZES(softdimo_image, 40, any.image = picture(pixels), softdimo_image_write_png(&any.image, path, NULL, 0), );
  TAIL(softdimo_image, any.image = picture(pixels), softdimo_image_write_png(&any.image, path, NULL, 0));
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_options_init(&any.reward_options, sizeof any.reward_options));
  const softdimo_reward_options plain = any.reward_options;
  const uint32_t bad_sizes[] = {0, 1, 4, sizeof plain - 1, 65537, UINT32_MAX};
  for (size_t i = 0; i < sizeof bad_sizes / sizeof *bad_sizes; i++) {
    memset(&any, 0, sizeof any);
    any.reward_options = plain;
    any.struct_size = bad_sizes[i];
    REFUSED(STRUCT_SIZE, "softdimo_reward_options.struct_size: expected at least",
            softdimo_reward_open("none", &any.reward_options, &reward));
    REFUSED(STRUCT_SIZE, "options.struct_size: expected at least",
            softdimo_reward_options_init(&any.reward_options, bad_sizes[i]));
  }
  memset(&any, 0, sizeof any);
  any.reward_options = plain;
  any.struct_size = 1024;
  REFUSED(NOT_FOUND, "none' not found", softdimo_reward_open("none", &any.reward_options, &reward));
  TAIL(softdimo_reward_options, any.reward_options = plain, softdimo_reward_open("none", &any.reward_options, &reward));
  CHECK(reward == NULL);
  SIZES(softdimo_memory, 32, , softdimo_engine_memory(engine, &any.memory), CHECK(any.memory.mapped > 0));
  SIZES(softdimo_progress, 16, , softdimo_job_progress(done, &any.progress),
        CHECK(any.progress.state == SOFTDIMO_JOB_DONE));

  /* What the library writes has no garbage in fields of a newer header. */
  memset(&any, 0x77, sizeof any);
  any.struct_size = sizeof(softdimo_progress) + 16;
  OK(softdimo_job_progress(done, &any.progress));
  CHECK(any.struct_size == sizeof(softdimo_progress) + 16);
  for (size_t i = sizeof(softdimo_progress); i < sizeof(softdimo_progress) + 16; i++) CHECK(any.bytes[i] == 0);
  CHECK(any.bytes[sizeof(softdimo_progress) + 16] == 0x77);

  /* An array of pictures of a newer header: its elements are that far apart. */
  enum { APART = sizeof(softdimo_image) + 24 };
  memset(&any, 0, sizeof any);
  any.image = picture(pixels);
  any.image.struct_size = APART;
  softdimo_image second = picture(pixels + PIXELS * 4);
  second.struct_size = APART;
  memcpy(any.bytes + APART, &second, sizeof second);
  r.batch = 2;
  OK(softdimo_generate(engine, &r, &any.image, 2));
  for (size_t i = 0; i < sizeof expected_pixels; i++) CHECK(abs(pixels[i] - expected_pixels[i]) <= 1);
  CHECK(memcmp(pixels, pixels + PIXELS * 4, PIXELS * 4));
}

/* What the library writes to, and pixels, may lie at any address. */
static void misaligned(void) {
  static float expected[3 * PIXELS];
  static uint8_t bytes[sizeof expected + 1], count[sizeof(uint64_t) + 1];
  uint64_t *needed = (uint64_t *)(void *)(count + 1);
  const uint64_t room = 3 * PIXELS;
  void *any = bytes + 1;
#define SAME(function, values)                                                                               \
  do {                                                                                                       \
    uint64_t found = 0;                                                                                      \
    OK(function(done, 0, (void *)expected, room, &found));                                                   \
    OK(function(done, 0, any, room, needed));                                                                \
    CHECK(found == (values) && !memcmp(needed, &found, sizeof found));                                       \
    CHECK(!memcmp(any, expected, (values) * sizeof *expected));                                              \
  } while (0)
  SAME(softdimo_job_image_f32, 3 * PIXELS);
  SAME(softdimo_job_tokens, TOKENS);
  SAME(softdimo_job_max_probability, TOKENS);
  SAME(softdimo_job_embedding, 64 * 48);

  softdimo_progress progress;
  progress.struct_size = sizeof progress;
  OK(softdimo_job_progress(done, &progress));
  memcpy(any, &progress.struct_size, sizeof progress.struct_size);
  OK(softdimo_job_progress(done, any));
  CHECK(!memcmp(any, &progress, sizeof progress));

  softdimo_reward *reward;
  OK(softdimo_reward_prior(0, any));
  memcpy(&reward, any, sizeof reward);
  softdimo_reward_free(reward);

  /* A picture of floats, written and read. */
  static uint8_t floats[PIXELS * 16 + 1];
  softdimo_image image = picture(floats + 1);
  image.format = SOFTDIMO_FORMAT_RGBA32F;
  image.capacity = PIXELS * 16;
  OK(softdimo_job_image(done, 0, &image));
  softdimo_image aligned = image;
  aligned.data = pixels;
  OK(softdimo_job_image(done, 0, &aligned));
  CHECK(!memcmp(floats + 1, pixels, PIXELS * 16));
  memcpy(any, &image, sizeof image);
  OK(softdimo_reward_target(any, NULL, 0, &reward));
  softdimo_reward_free(reward);
}

static void results(const char *model) {
  CHECK(softdimo_seed(UINT64_MAX, INT64_MIN, INT64_MAX, -1) != softdimo_seed(0, 0, 0, 0)); /* takes anything */
  char text[8];
  float f[8];
  uint32_t u[8], state = 99;
  uint64_t needed = 0;
  const char *label = NULL;
  softdimo_image image = picture(pixels);

  misaligned();

  /* A finished job of one picture. */
  REFUSED(INVALID_ARGUMENT, "picture index: expected below 1, found 1", softdimo_job_image(done, 1, &image));
  REFUSED(INVALID_ARGUMENT, "picture index", softdimo_job_image_f32(done, 1, f, 8, &needed));
  REFUSED(INVALID_ARGUMENT, "picture index", softdimo_job_tokens(done, UINT32_MAX, u, 8, &needed));
  REFUSED(INVALID_ARGUMENT, "picture index", softdimo_job_max_probability(done, 1, f, 8, &needed));
  REFUSED(INVALID_ARGUMENT, "picture index", softdimo_job_embedding(done, 1, f, 8, &needed));
  CHECK(needed == 0);
  REFUSED(BUFFER_TOO_SMALL, "expected at least 12288 bytes, found 32", softdimo_job_image_f32(done, 0, f, 8, &needed));
  CHECK(needed == 3 * PIXELS);
  REFUSED(BUFFER_TOO_SMALL, "expected at least 512 bytes, found 32", softdimo_job_tokens(done, 0, u, 8, &needed));
  CHECK(needed == TOKENS);
  REFUSED(BUFFER_TOO_SMALL, "expected at least", softdimo_job_max_probability(done, 0, f, 8, NULL));
  REFUSED(BUFFER_TOO_SMALL, "expected at least", softdimo_job_embedding(done, 0, f, 8, NULL));
  REFUSED(BUFFER_TOO_SMALL, "expected at least", softdimo_job_report(done, text, sizeof text, &needed));
  CHECK(needed > 100);
  REFUSED(BUFFER_TOO_SMALL, "expected at least", softdimo_engine_info(engine, text, sizeof text, &needed));
  REFUSED(BUFFER_TOO_SMALL, "expected at least", softdimo_provider_info(0, text, sizeof text, &needed));
  REFUSED(BUFFER_TOO_SMALL, "expected at least 1 bytes, found 0", softdimo_job_error(done, text, 0, NULL));
  OK(softdimo_job_error(done, text, 1, &needed));
  CHECK(needed == 1 && text[0] == 0);
  OK(softdimo_job_report(done, NULL, 0, &needed));
  REFUSED(INVALID_ARGUMENT, "label index: expected below 10, found 10", softdimo_engine_label(engine, 10, &label));
  REFUSED(INVALID_ARGUMENT, "provider index: expected below 3, found 3", softdimo_provider_info(3, text, 8, &needed));
  CHECK(label == NULL);
  REFUSED(NOT_FOUND, "golden.none' not found", softdimo_engine_verify(engine, "/golden.none", NULL, 0, &needed));
  REFUSED(FORMAT, "golden file: expected tensors 'b0/in/tokens'", softdimo_engine_verify(engine, model, NULL, 0, &needed));
  REFUSED(INVALID_ARGUMENT, "batch: expected 1 to 256, found 0", softdimo_engine_warmup(engine, 0));
  REFUSED(INVALID_ARGUMENT, "batch: expected 1 to 256, found 257", softdimo_engine_warmup(engine, 257));

  /* One that runs, and then is cancelled. */
  softdimo_request r = long_request();
  softdimo_job *job = submit(engine, &r);
  wait_until_running(job, 1);
  FAILS(SOFTDIMO_ERR_NOT_READY, "job result: expected a finished job, found one that is running",
        softdimo_job_image(job, 0, &image));
  FAILS(SOFTDIMO_ERR_NOT_READY, "running", softdimo_job_image_f32(job, 0, f, 8, &needed));
  FAILS(SOFTDIMO_ERR_NOT_READY, "running", softdimo_job_tokens(job, 0, u, 8, &needed));
  FAILS(SOFTDIMO_ERR_NOT_READY, "running", softdimo_job_max_probability(job, 0, f, 8, &needed));
  FAILS(SOFTDIMO_ERR_NOT_READY, "running", softdimo_job_embedding(job, 0, f, 8, &needed));
  FAILS(SOFTDIMO_ERR_NOT_READY, "running", softdimo_job_report(job, text, 8, &needed));
  OK(softdimo_job_error(job, text, sizeof text, &needed));
  CHECK(needed == 1);
  FAILS(SOFTDIMO_ERR_TIMEOUT, "the job did not finish within 5 ms", softdimo_job_wait(job, 5));
  FAILS(SOFTDIMO_ERR_TIMEOUT, "within 0 ms", softdimo_job_wait(job, 0));
  OK(softdimo_job_cancel(job));
  REFUSED(CANCELLED, "the job was cancelled", softdimo_job_wait(job, -1));
  OK(softdimo_job_poll(job, &state));
  CHECK(state == SOFTDIMO_JOB_CANCELLED);
  REFUSED(CANCELLED, "cancelled", softdimo_job_image(job, 0, &image));
  REFUSED(CANCELLED, "cancelled", softdimo_job_tokens(job, 0, u, 8, &needed));
  REFUSED(CANCELLED, "cancelled", softdimo_job_report(job, text, 8, &needed));
  softdimo_job_free(job);

  /* The teacher has neither start embedding nor probabilities. */
  r.steps = 2;
  job = submit(engine, &r);
  OK(softdimo_job_wait(job, -1));
  REFUSED(UNSUPPORTED, "multi-step", softdimo_job_embedding(job, 0, f, 8, &needed));
  REFUSED(UNSUPPORTED, "multi-step", softdimo_job_max_probability(job, 0, f, 8, &needed));
  softdimo_job_free(job);
}

/* The last error belongs to its thread, is cut between characters and is never written past capacity. */
static void last_errors(void) {
  softdimo_request r = default_request(0);
  softdimo_job *job = NULL;
  r.label = "\xc3\xa9\xc3\xa9\xc3\xa9";
  STATUS(SOFTDIMO_ERR_UNKNOWN_LABEL, softdimo_submit(engine, &r, &job));
  char text[64];
  uint64_t whole = softdimo_last_error(NULL, 0);
  for (uint64_t capacity = 0; capacity < sizeof text; capacity++) {
    memset(text, 0x55, sizeof text);
    CHECK(softdimo_last_error(text, capacity) == whole);
    if (capacity) CHECK(strlen(text) < capacity);
    for (uint64_t i = capacity; i < sizeof text; i++) CHECK(text[i] == 0x55);
    size_t n = capacity ? strlen(text) : 0;
    CHECK(n == 0 || (text[n - 1] & 0xc0) != 0xc0); /* no lead byte without its tail */
  }
}

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 4);
  char empty[4] = "xxx";
  CHECK(softdimo_last_error(empty, sizeof empty) == 1 && empty[0] == 0);
  engine = open_engine(argv[1], NULL);
  softdimo_request request = default_request(7);
  done = submit(engine, &request);
  OK(softdimo_job_wait(done, -1));
  softdimo_image image = picture(expected_pixels);
  OK(softdimo_job_image(done, 0, &image));

  model_files(argv[2]);
  request_fields();
  images(argv[3]);
  options(argv[1]);
  null_arguments(argv[1]);
  struct_sizes(argv[1], argv[3]);
  results(argv[1]);
  last_errors();

  softdimo_job_free(done);
  softdimo_engine_free(engine);
  printf("# %d cases\n", cases);
  return wrong ? 1 : end();
}
