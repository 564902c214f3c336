/* The model file changes under an open engine.
 *
 * Arguments: model file, a folder to write copies to. */
#include "check.h"

#include <signal.h>
#include <sys/stat.h>

static char path[4096], other[4096];

static void copy(const char *from, const char *to) {
  FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
  CHECK(in && out);
  char block[65536];
  for (size_t n; (n = fread(block, 1, sizeof block, in)) > 0;) CHECK(fwrite(block, 1, n, out) == n);
  fclose(in);
  CHECK(fclose(out) == 0);
}

static softdimo_engine *open_copy(const char *model, uint32_t weights, uint32_t memory) {
  copy(model, path);
  softdimo_engine_options options = default_options();
  options.weights_mode = weights;
  options.memory_mode = memory;
  return open_engine(path, &options);
}

static int32_t generate(softdimo_engine *engine) {
  softdimo_request request = default_request(3);
  uint8_t pixels[PIXELS * 4];
  softdimo_image image = picture(pixels);
  return softdimo_generate(engine, &request, &image, 1);
}

static void handler_of_the_host(int number) { (void)number; }

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 3);
  snprintf(path, sizeof path, "%s/copy.safetensors", argv[2]);
  snprintf(other, sizeof other, "%s/other.safetensors", argv[2]);
  struct sigaction action, found;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler_of_the_host;
  CHECK(sigaction(SIGBUS, &action, NULL) == 0);
  uint64_t needed;
  const long cut[] = {0, 4096, 100000};

  for (uint32_t memory = 0; memory < 2; memory++) {
    /* Truncated between two jobs: refused before anything is read, mapped with a guard or without. */
    for (uint32_t weights = SOFTDIMO_WEIGHTS_MAP; weights <= SOFTDIMO_WEIGHTS_MAP_GUARDED; weights += 2) {
      for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        softdimo_engine *engine = open_copy(argv[1], weights, memory);
        if (i) OK(generate(engine));
        CHECK(truncate(path, cut[i]) == 0);
        char size[64];
        snprintf(size, sizeof size, "found %ld bytes", cut[i]);
        FAILS(SOFTDIMO_ERR_FORMAT, "file size: expected", generate(engine));
        CHECK(strstr(last_error(), size) && strstr(last_error(), "copy.safetensors"));
        FAILS(SOFTDIMO_ERR_FORMAT, size, softdimo_engine_warmup(engine, 2));
        FAILS(SOFTDIMO_ERR_FORMAT, size, softdimo_engine_trim(engine));
        OK(softdimo_engine_info(engine, NULL, 0, &needed));
        softdimo_engine_free(engine);
      }
    }

    /* Truncated while a job computes: with the guard the job fails, and nothing else happens. */
    for (int i = 0; i < 5; i++) {
      softdimo_engine *engine = open_copy(argv[1], SOFTDIMO_WEIGHTS_MAP_GUARDED, memory);
      softdimo_request request = long_request();
      request.steps = 300;
      softdimo_job *job = submit(engine, &request);
      wait_until_running(job, (uint32_t)i);
      CHECK(truncate(path, cut[i % 3]) == 0);
      FAILS(SOFTDIMO_ERR_FORMAT, "file size: expected", softdimo_job_wait(job, -1));
      char text[1024];
      OK(softdimo_job_error(job, text, sizeof text, &needed));
      CHECK(strstr(text, "copy.safetensors: file size: expected"));
      if (i == 0) printf("# %s\n", text);
      softdimo_job_free(job);
      FAILS(SOFTDIMO_ERR_FORMAT, "file size", generate(engine));
      softdimo_engine_free(engine);
      CHECK(sigaction(SIGBUS, NULL, &found) == 0);
      CHECK(found.sa_handler == handler_of_the_host);
    }

    /* Emptied and filled again between two jobs, or while one computes: with the guard the job fails, whatever the pages
     * hold, and so does every later one. */
    for (int i = 0; i < 4; i++) {
      softdimo_engine *engine = open_copy(argv[1], SOFTDIMO_WEIGHTS_MAP_GUARDED, memory);
      OK(generate(engine));
      struct stat whole;
      CHECK(stat(path, &whole) == 0);
      softdimo_request request = long_request();
      request.steps = 300;
      softdimo_job *job = i % 2 ? submit(engine, &request) : NULL;
      if (job) wait_until_running(job, (uint32_t)i);
      CHECK(truncate(path, 0) == 0);
      if (i < 2) copy(argv[1], path);
      CHECK(truncate(path, whole.st_size) == 0);
      if (job) {
        CHECK(softdimo_job_wait(job, -1) == SOFTDIMO_ERR_FORMAT);
        softdimo_job_free(job);
      }
      CHECK(generate(engine) == SOFTDIMO_ERR_FORMAT);
      CHECK(strstr(last_error(), "copy.safetensors: "));
      if (!i && !memory) printf("# %s\n", last_error());
      CHECK(softdimo_engine_warmup(engine, 2) == SOFTDIMO_ERR_FORMAT);
      softdimo_engine_free(engine);
    }

    /* Read once: the file may go. */
    softdimo_engine *engine = open_copy(argv[1], SOFTDIMO_WEIGHTS_READ, memory);
    CHECK(truncate(path, 0) == 0);
    OK(generate(engine));
    CHECK(unlink(path) == 0);
    OK(generate(engine));
    softdimo_engine_free(engine);

    /* Replaced by rename, the documented way: the open engine keeps what it opened. */
    for (uint32_t weights = 0; weights < 3; weights++) {
      uint32_t before[TOKENS], after[TOKENS];
      softdimo_request request = default_request(3);
      engine = open_copy(argv[1], weights, memory);
      run_tokens(engine, &request, before);
      copy("/proc/self/exe", other);
      CHECK(rename(other, path) == 0);
      run_tokens(engine, &request, after);
      CHECK(!memcmp(before, after, sizeof before));
      CHECK(unlink(path) == 0);
      OK(softdimo_engine_trim(engine));
      run_tokens(engine, &request, after);
      CHECK(!memcmp(before, after, sizeof before));
      softdimo_engine_free(engine);
    }
  }

  /* The handler goes with the last guarded engine, not the first. */
  softdimo_engine *one = open_copy(argv[1], SOFTDIMO_WEIGHTS_MAP_GUARDED, 0);
  softdimo_engine *two = open_copy(argv[1], SOFTDIMO_WEIGHTS_MAP_GUARDED, 0);
  softdimo_engine_free(one);
  CHECK(sigaction(SIGBUS, NULL, &found) == 0 && found.sa_handler != handler_of_the_host);
  CHECK(truncate(path, 10) == 0);
  FAILS(SOFTDIMO_ERR_FORMAT, "file size", generate(two));
  softdimo_engine_free(two);
  CHECK(sigaction(SIGBUS, NULL, &found) == 0 && found.sa_handler == handler_of_the_host);
  return end();
}
