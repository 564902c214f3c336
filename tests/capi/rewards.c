/* Reward files: opening, refusing, climbing, and their lifetime.
 *
 * Arguments: model file, a folder with `clip`, `turned` (the same network with its text turned around) and `cut`
 * (half a file), and room for copies. */
#include "check.h"

enum { STEPS = 4 };

static softdimo_engine *engine;
static const char *folder;

static const char *path_of(const char *name) {
  static char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static softdimo_reward_options default_reward_options(void) {
  softdimo_reward_options options;
  OK(softdimo_reward_options_init(&options, sizeof options));
  CHECK(options.class_id == -1 && options.weights_mode == SOFTDIMO_WEIGHTS_MAP && !options.class_label);
  return options;
}

static softdimo_reward *open_reward(const char *name, uint32_t weights) {
  softdimo_reward_options options = default_reward_options();
  softdimo_reward *reward = NULL;
  options.weights_mode = weights;
  OK(softdimo_reward_open(path_of(name), &options, &reward));
  CHECK(reward);
  return reward;
}

static char *contents(const char *name, uint64_t *size) {
  FILE *file = fopen(path_of(name), "rb");
  CHECK(file && !fseek(file, 0, SEEK_END));
  long length = ftell(file);
  rewind(file);
  char *bytes = malloc((size_t)length);
  CHECK(bytes && fread(bytes, 1, (size_t)length, file) == (size_t)length);
  fclose(file);
  *size = (uint64_t)length;
  return bytes;
}

static void copy(const char *from, const char *to) {
  uint64_t size;
  char *bytes = contents(from, &size);
  FILE *file = fopen(path_of(to), "wb");
  CHECK(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
  free(bytes);
}

static softdimo_job *climb(softdimo_engine *on, const softdimo_reward *const rewards[], uint32_t count,
                           const char *prompt, uint32_t steps) {
  softdimo_reward_term terms[2];
  memset(terms, 0, sizeof terms);
  for (uint32_t i = 0; i < count; i++) {
    terms[i].reward = rewards[i];
    terms[i].weight = i ? 0.25f : 1;
  }
  softdimo_request request = default_request(5);
  request.rewards = terms;
  request.reward_count = count;
  request.optimize_steps = steps;
  request.prompt = prompt;
  request.clip = 1;
  request.lr = 0.05f;
  return submit(on, &request);
}

static char report[1 << 16];

/* The rewards of every iterate, [iterate][reward]; returns their number. */
static int rewards_of(const softdimo_job *job, float rewards[][2], int room, uint32_t count) {
  uint64_t needed;
  OK(softdimo_job_report(job, report, sizeof report, &needed));
  int n = 0;
  /* The reports' first list of this name holds the rewards' names. */
  for (const char *at = report; (at = strstr(at, "\"rewards\":[[")) != NULL; n++) {
    at += strlen("\"rewards\":[[");
    CHECK(n < room);
    if (count == 1)
      CHECK(sscanf(at, "%f]", &rewards[n][0]) == 1);
    else
      CHECK(sscanf(at, "%f],[%f]", &rewards[n][0], &rewards[n][1]) == 2);
  }
  return n;
}

static int near(float a, float b) { return a - b < 1e-3f && b - a < 1e-3f; }

static void opens(void) {
  softdimo_reward *reward = open_reward("clip", SOFTDIMO_WEIGHTS_MAP);
  char text[4096];
  uint64_t needed;
  OK(softdimo_reward_info(reward, NULL, 0, &needed));
  OK(softdimo_reward_info(reward, text, sizeof text, NULL));
  printf("# %s\n", text);
  CHECK(needed == strlen(text) + 1);
  CHECK(strstr(text, "\"name\":\"clip_score\"") && strstr(text, "\"reads_prompt\":true"));
  CHECK(strstr(text, "\"mapped\":true") && strstr(text, "\"family\":\"clip_score\""));
  FAILS(SOFTDIMO_ERR_BUFFER_TOO_SMALL, "expected at least", softdimo_reward_info(reward, text, 10, &needed));
  softdimo_reward_free(reward);

  reward = NULL;
  OK(softdimo_reward_closeness(&reward));
  OK(softdimo_reward_info(reward, text, sizeof text, NULL));
  CHECK(strstr(text, "\"file\":null") && strstr(text, "\"name\":\"closeness\""));
  softdimo_reward_free(reward);
}

static void refuses(const char *model) {
  softdimo_reward *none = NULL;
  softdimo_engine *no_engine = NULL;
  uint64_t size;
  FAILS(SOFTDIMO_ERR_NOT_FOUND, "nothing' not found", softdimo_reward_open(path_of("nothing"), NULL, &none));
  FAILS(SOFTDIMO_ERR_FORMAT, "found a directory", softdimo_reward_open(folder, NULL, &none));
  FAILS(SOFTDIMO_ERR_FORMAT, "expected", softdimo_reward_open(path_of("cut"), NULL, &none));
  FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "path: expected UTF-8", softdimo_reward_open("\xff", NULL, &none));
  /* A generator is no reward, and a reward no generator. */
  FAILS(SOFTDIMO_ERR_CONFIG, "found 'maskbit'; a generator is opened as an engine",
        softdimo_reward_open(model, NULL, &none));
  FAILS(SOFTDIMO_ERR_CONFIG, "found the reward 'clip_score', which is opened as a reward",
        softdimo_engine_open(path_of("clip"), NULL, &no_engine));

#define OPTIONS(status, words, change)                                                                       \
  do {                                                                                                       \
    softdimo_reward_options o = default_reward_options();                                                    \
    change;                                                                                                  \
    FAILS(SOFTDIMO_ERR_##status, words, softdimo_reward_open(path_of("clip"), &o, &none));                   \
  } while (0)
  OPTIONS(INVALID_ARGUMENT, "options.weights_mode: expected 0 (map), 1 (read) or 2 (guarded), found 3",
          o.weights_mode = 3);
  OPTIONS(INVALID_ARGUMENT, "options.class_id: expected -1 or more, found -2", o.class_id = -2);
  OPTIONS(INVALID_ARGUMENT, "options.class_id: expected -1 when class_label is set",
          (o.class_id = 1, o.class_label = "dog"));
  OPTIONS(UNSUPPORTED, "a class for the reward 'clip_score'", o.class_id = 1);
  OPTIONS(UNSUPPORTED, "a class for the reward 'clip_score'", o.class_label = "dog");
  OPTIONS(INVALID_ARGUMENT, "options.class_label: expected UTF-8", o.class_label = "\xff");
  OPTIONS(INVALID_ARGUMENT, "options.reserved0", o.reserved0 = 1);
  OPTIONS(INVALID_ARGUMENT, "options.reserved", o.reserved[9] = 1);
  OPTIONS(STRUCT_SIZE, "softdimo_reward_options", o.struct_size = 63);

  char *bytes = contents("clip", &size);
  FAILS(SOFTDIMO_ERR_FORMAT, "(memory)", softdimo_reward_open_memory(bytes, size - 1, NULL, NULL, NULL, &none));
  free(bytes);
  CHECK(!none && !no_engine);

  /* A prompt that a reward reads must be there; one that nothing reads must not. */
  softdimo_reward *reward = open_reward("clip", SOFTDIMO_WEIGHTS_MAP), *color = NULL;
  OK(softdimo_reward_color(1, 0, 0, NULL, 0, &color));
  softdimo_reward_term term;
  memset(&term, 0, sizeof term);
  term.weight = 1;
  softdimo_request request = default_request(5);
  softdimo_job *job = NULL;
  request.rewards = &term;
  request.reward_count = 1;
  request.optimize_steps = 1;
  term.reward = reward;
  FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "prompt: expected a text, which the reward 'clip_score' reads, found none",
        softdimo_submit(engine, &request, &job));
  request.prompt = "a dog";
  request.negative_prompt = "a cat";
  FAILS(SOFTDIMO_ERR_UNSUPPORTED, "request.negative_prompt", softdimo_submit(engine, &request, &job));
  request.negative_prompt = NULL;
  term.reward = color;
  FAILS(SOFTDIMO_ERR_UNSUPPORTED, "request.prompt", softdimo_submit(engine, &request, &job));
  CHECK(!job);
  softdimo_reward_free(reward);
  softdimo_reward_free(color);
}

static void climbs(void) {
  const softdimo_reward *rewards[2];
  float one[STEPS + 1][2], both[STEPS + 1][2];
  softdimo_reward *clip = open_reward("clip", SOFTDIMO_WEIGHTS_MAP);
  softdimo_reward *turned = open_reward("turned", SOFTDIMO_WEIGHTS_READ);
  rewards[0] = clip;
  rewards[1] = turned;
  softdimo_job *job = climb(engine, rewards, 1, "red apple", STEPS);
  OK(softdimo_job_wait(job, -1));
  CHECK(rewards_of(job, one, STEPS + 1, 1) == STEPS + 1);
  CHECK(strstr(report, "\"rewards\":[\"clip_score\"]") && strstr(report, "\"prompts\":[\"red apple\"]"));
  softdimo_job_free(job);
  printf("# clip_score from %.4f to %.4f\n", one[0][0], one[STEPS][0]);
  CHECK(one[STEPS][0] > one[0][0]);

  job = climb(engine, rewards, 2, "red apple", STEPS);
  OK(softdimo_job_wait(job, -1));
  CHECK(rewards_of(job, both, STEPS + 1, 2) == STEPS + 1);
  softdimo_job_free(job);
  CHECK(near(both[0][0], one[0][0]));
  for (int i = 0; i <= STEPS; i++) CHECK(near(both[i][0], -both[i][1]));
  softdimo_reward_free(clip);
  softdimo_reward_free(turned);
}

static int released;

static void on_release(void *user_data, const void *data, uint64_t length) {
  CHECK(data == user_data && length > 0);
  free(user_data);
  released++;
}

/* A reward may go while a job uses it; its bytes go with the job, and the engine with neither. */
static void lifetimes(const char *model) {
  for (uint32_t memory = 0; memory < 2; memory++) {
    softdimo_engine_options options = default_options();
    options.memory_mode = memory;
    softdimo_engine *own = open_engine(model, &options);
    uint64_t size;
    char *bytes = contents("clip", &size);
    softdimo_reward *reward = NULL;
    released = 0;
    OK(softdimo_reward_open_memory(bytes, size, on_release, bytes, NULL, &reward));
    const softdimo_reward *rewards[1] = {reward};
    softdimo_job *first = climb(own, rewards, 1, "red apple", 20);
    softdimo_job *second = climb(own, rewards, 1, "dog", 1);
    softdimo_reward_free(reward);
    OK(softdimo_job_wait(first, -1));
    OK(softdimo_job_wait(second, -1));
    softdimo_memory used;
    used.struct_size = sizeof used;
    OK(softdimo_engine_memory(own, &used)); /* the worker is done with both jobs */
    CHECK(released == 1);
    softdimo_job_free(first);
    softdimo_job_free(second);

    /* Cancelled and freed in the middle, with its reward gone already. */
    reward = open_reward("clip", SOFTDIMO_WEIGHTS_MAP);
    rewards[0] = reward;
    softdimo_job *job = climb(own, rewards, 1, "cat", 100000);
    softdimo_reward_free(reward);
    wait_until_running(job, 2);
    softdimo_engine_free(own);
    softdimo_job_free(job);
  }
}

static void truncated(void) {
  for (uint32_t weights = 0; weights < 3; weights++) {
    /* Its own: what has climbed it may still be kept, with its file. */
    char name[16], words[64];
    snprintf(name, sizeof name, "copy%u", (unsigned)weights);
    snprintf(words, sizeof words, "%s: file size: expected", name);
    copy("clip", name);
    softdimo_reward *reward = open_reward(name, weights);
    const softdimo_reward *rewards[1] = {reward};
    softdimo_job *job = climb(engine, rewards, 1, "red apple", 1);
    OK(softdimo_job_wait(job, -1));
    softdimo_job_free(job);
    int refused = cut_file(path_of(name), 4096);
#ifdef _WIN32 /* of a file that is mapped */
    CHECK(!refused || weights != SOFTDIMO_WEIGHTS_READ);
    CHECK(refused || weights != SOFTDIMO_WEIGHTS_MAP);
#else
    CHECK(!refused);
#endif
    softdimo_reward_term term;
    memset(&term, 0, sizeof term);
    term.reward = reward;
    term.weight = 1;
    softdimo_request request = default_request(5);
    request.rewards = &term;
    request.reward_count = 1;
    request.prompt = "red apple";
    job = NULL;
    if (refused || weights == SOFTDIMO_WEIGHTS_READ) {
      OK(softdimo_submit(engine, &request, &job));
      OK(softdimo_job_wait(job, -1));
      softdimo_job_free(job);
    } else {
      FAILS(SOFTDIMO_ERR_FORMAT, words, softdimo_submit(engine, &request, &job));
      CHECK(!job && strstr(last_error(), "found 4096 bytes"));
    }
    softdimo_reward_free(reward);

#ifndef _WIN32
    /* Replaced by rename, the documented way: an open reward keeps what it opened. */
    copy("clip", name);
    reward = open_reward(name, weights);
    copy("turned", "other");
    char other[4096];
    snprintf(other, sizeof other, "%s", path_of("other"));
    CHECK(rename(other, path_of(name)) == 0);
    rewards[0] = reward;
    float scores[1][2], expected[1][2];
    job = climb(engine, rewards, 1, "red apple", 0);
    OK(softdimo_job_wait(job, -1));
    CHECK(rewards_of(job, scores, 1, 1) == 1);
    softdimo_job_free(job);
    softdimo_reward_free(reward);
    reward = open_reward(name, weights);
    rewards[0] = reward;
    job = climb(engine, rewards, 1, "red apple", 0);
    OK(softdimo_job_wait(job, -1));
    CHECK(rewards_of(job, expected, 1, 1) == 1);
    softdimo_job_free(job);
    CHECK(near(scores[0][0], -expected[0][0]));
    softdimo_reward_free(reward);
#endif
  }
}

/* The colours of a picture, by the picture and by its shares. */
static void histograms(void) {
  uint8_t pixels[PIXELS * 4];
  softdimo_image image = picture(pixels), wrong = image;
  for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = i % 4 == 3 ? 255 : 0;
  float shares[2][3 * 16] = {{0}}, scores[2][1][2], mask[PIXELS] = {1};
  for (int c = 0; c < 3; c++) shares[0][16 * c] = 2; /* black; each channel is scaled */
  softdimo_reward *reward[2] = {NULL, NULL}, *none = NULL;
  OK(softdimo_reward_histogram(&image, NULL, 0, NULL, 0, &reward[0]));
  OK(softdimo_reward_histogram(NULL, shares[0], 48, NULL, 0, &reward[1]));
  for (int i = 0; i < 2; i++) {
    const softdimo_reward *rewards[1] = {reward[i]};
    softdimo_job *job = climb(engine, rewards, 1, NULL, 0);
    OK(softdimo_job_wait(job, -1));
    CHECK(rewards_of(job, scores[i], 1, 1) == 1);
    softdimo_job_free(job);
    softdimo_reward_free(reward[i]);
  }
  printf("# distance from black: %.4f\n", scores[0][0][0]);
  CHECK(near(scores[0][0][0], scores[1][0][0]) && scores[0][0][0] < 0 && scores[0][0][0] >= -1);

  FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "histogram: expected NULL when target is given",
        softdimo_reward_histogram(&image, shares[0], 48, NULL, 0, &none));
  FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "histogram: expected 48 elements, found NULL",
        softdimo_reward_histogram(NULL, NULL, 48, NULL, 0, &none));
  FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "mask: expected", softdimo_reward_histogram(&image, NULL, 0, mask, 0, &none));
  wrong.width = 0;
  FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, "image size: expected", softdimo_reward_histogram(&wrong, NULL, 0, NULL, 0, &none));
  CHECK(!none);
  /* What does not fit the model, or is no histogram, shows when a request uses it. */
  const struct {
    uint64_t count, mask;
    float share;
    const char *words;
  } rows[] = {
      {7, 0, 1, "reward histogram: expected 3 channels of 2 to 256 bins, found 7 floats"},
      {3, 0, 1, "reward histogram"},
      {48, 0, 0, "reward histogram: expected shares of 0 or more"},
      {48, 0, -1, "reward histogram: expected shares of 0 or more"},
      {48, 5, 1, "reward mask: expected 1024 floats"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    for (int k = 0; k < 48; k++) shares[1][k] = rows[i].share;
    OK(softdimo_reward_histogram(NULL, shares[1], rows[i].count, rows[i].mask ? mask : NULL, rows[i].mask, &none));
    softdimo_reward_term term;
    memset(&term, 0, sizeof term);
    term.reward = none;
    term.weight = 1;
    softdimo_request request = default_request(5);
    request.rewards = &term;
    request.reward_count = 1;
    softdimo_job *job = NULL;
    FAILS(SOFTDIMO_ERR_INVALID_ARGUMENT, rows[i].words, softdimo_submit(engine, &request, &job));
    CHECK(!job);
    softdimo_reward_free(none);
    none = NULL;
  }
}

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 3);
  folder = argv[2];
  engine = open_engine(argv[1], NULL);
  opens();
  refuses(argv[1]);
  climbs();
  lifetimes(argv[1]);
  truncated();
#ifdef _WIN32
  left_out("a reward file replaced by rename");
#endif
  histograms();
  softdimo_engine_free(engine);
  return end();
}
