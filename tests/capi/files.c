/* Open files run out while an engine is opened and used, at every moment: an error, or a picture; never a crash, and nothing
 * is printed.
 *
 * Argument: model file. */
#include "check.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* In a process of its own with `spare` descriptors left. What it returns: 0 a picture, else the status. */
static int with_files(const char *model, int spare) {
  fflush(stdout);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    struct rlimit limit = {3 + (rlim_t)spare, 3 + (rlim_t)spare};
    for (int fd = 3; fd < 64; fd++) close(fd);
    if (setrlimit(RLIMIT_NOFILE, &limit)) end_now(100);
    softdimo_engine *engine = NULL;
    int32_t status = softdimo_engine_open(model, NULL, &engine);
    uint8_t pixels[PIXELS * 4];
    softdimo_image image = picture(pixels);
    softdimo_request request = default_request(3);
    if (status == SOFTDIMO_OK) status = softdimo_generate(engine, &request, &image, 1);
    if (status != SOFTDIMO_OK && spare % 8 == 0) printf("# %d files: %s\n", spare, last_error());
    softdimo_engine_free(engine);
    fflush(stdout);
    end_now(status);
  }
  int how;
  CHECK(waitpid(child, &how, 0) == child);
  if (!WIFEXITED(how)) fail(__FILE__, __LINE__, "with %d files: signal %d", spare, WTERMSIG(how));
  return WEXITSTATUS(how);
}

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 2);
  int pictures = 0, errors = 0;
  for (int spare = 0; spare <= 40; spare++) {
    int status = with_files(argv[1], spare);
    CHECK(status == 0 || status == SOFTDIMO_ERR_IO || status == SOFTDIMO_ERR_RUNTIME);
    /* Once there are enough, more do no harm. */
    CHECK(!pictures || status == 0);
    *(status ? &errors : &pictures) += 1;
  }
  CHECK(pictures && errors);
  printf("# %d errors, then %d pictures\n", errors, pictures);
  return end();
}
