/* Too little address space (RLIMIT_AS, as `ulimit -v` sets it) for what is asked: a picture or an error, and once there is
 * room again the same process makes pictures.
 *
 * Arguments: model file[, from, to, step in KiB]. Every limit is met by a process of its own, which is this program again. */
#include "check.h"

#include <sys/resource.h>
#include <sys/wait.h>

static const char *model;

/* SOFTDIMO_OK, or where it failed. */
static int32_t one_picture(const char **where) {
  softdimo_engine *engine = NULL;
  softdimo_request request = default_request(1);
  static uint8_t pixels[PIXELS * 4];
  softdimo_image image = picture(pixels);
  *where = "open";
  int32_t status = softdimo_engine_open(model, NULL, &engine);
  if (status == SOFTDIMO_OK) {
    *where = "generate";
    status = softdimo_generate(engine, &request, &image, 1);
  }
  softdimo_engine_free(engine);
  return status;
}

static int under(long kib) {
  end_within(60);
  struct rlimit limit;
  CHECK(!getrlimit(RLIMIT_AS, &limit));
  struct rlimit narrow = {(rlim_t)kib << 10, limit.rlim_max};
  CHECK(!setrlimit(RLIMIT_AS, &narrow));
  const char *where = NULL;
  int32_t status = one_picture(&where);
  /* Whoever is short of memory is told so, or that a thread or a file cannot be had. */
  if (status != SOFTDIMO_OK && status != SOFTDIMO_ERR_OUT_OF_MEMORY && status != SOFTDIMO_ERR_IO &&
      !(status == SOFTDIMO_ERR_RUNTIME && strstr(last_error(), "starting a thread")))
    fail(__FILE__, __LINE__, "%ld KiB: %s: %s: %s", kib, where, softdimo_status_name(status), last_error());
  if (status != SOFTDIMO_OK) CHECK(strlen(last_error()) > 10);
  CHECK(!setrlimit(RLIMIT_AS, &limit));
  int32_t again = one_picture(&where);
  if (again != SOFTDIMO_OK) fail(__FILE__, __LINE__, "%ld KiB: not usable again: %s: %s", kib, where, last_error());
  return status == SOFTDIMO_OK ? 0 : 77;
}

int main(int argc, char **argv) {
  CHECK(argc >= 2);
  model = argv[1];
  if (argc == 3) return under(atol(argv[2]));
  long from = argc > 4 ? atol(argv[2]) : 60000, to = argc > 4 ? atol(argv[3]) : 400000, step = argc > 4 ? atol(argv[4]) : 20000;
  int pictures = 0, errors = 0;
  long least = 0;
  for (long kib = from; kib <= to; kib += step) {
    char number[32];
    snprintf(number, sizeof number, "%ld", kib);
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      execl(argv[0], argv[0], model, number, (char *)NULL);
      end_now(2);
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
      pictures++;
      if (!least) least = kib;
    } else if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
      errors++;
    } else {
      fail(__FILE__, __LINE__, "%ld KiB: exit %d, signal %d", kib, WIFEXITED(status) ? WEXITSTATUS(status) : -1,
           WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
  }
  printf("# memory short: %d pictures, %d errors, 0 ends of the process; the first picture at %ld KiB\n", pictures, errors,
         least);
  CHECK(errors > 0 && pictures > 0);
  return end();
}
