/* Threads as hosts have them: cancelled while they are inside a call, with a small stack, and under a limit of a file's size.
 *
 * Arguments: model file, folder. */
#include "check.h"

#ifndef _WIN32
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#endif

/* What docs/embedding.md says a thread that calls in should have. */
enum { STACK = 256 << 10 };

static const char *model;
static char path[600];

#ifndef _WIN32
static softdimo_engine *engine;

/* A thread is cancelled during a call: the call goes on to its end, and the thread ends behind it. */

static atomic_int returned;

static void *waits(void *job) {
  STATUS(SOFTDIMO_ERR_CANCELLED, softdimo_job_wait(job, -1));
  returned = 1;
  for (int i = 0; i < 10000; i++) sleep_ms(1);
  return NULL;
}

/* Opening, reading, writing and syncing files are where the C library ends a thread that was cancelled. */
static void *works(void *unused) {
  static uint8_t pixels[PIXELS * 4];
  softdimo_image image = picture(pixels);
  softdimo_request request = default_request(1);
  int before = -1;
  (void)unused;
  CHECK(!pthread_cancel(pthread_self()));
  softdimo_engine *own = open_engine(model, NULL);
  OK(softdimo_generate(own, &request, &image, 1));
  OK(softdimo_image_write_png(&image, path, NULL, 0));
  softdimo_engine_free(own);
  returned = 2;
  CHECK(!pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &before) && before == PTHREAD_CANCEL_ENABLE);
  pthread_testcancel();
  return NULL;
}

static void cancelled_inside_a_call(void) {
  softdimo_request request = long_request();
  softdimo_job *job = submit(engine, &request);
  pthread_t thread;
  CHECK(!pthread_create(&thread, NULL, waits, job));
  wait_until_running(job, 1);
  CHECK(!pthread_cancel(thread));
  sleep_ms(300);
  CHECK(!returned);
  OK(softdimo_job_cancel(job));
  void *result = NULL;
  CHECK(!pthread_join(thread, &result));
  CHECK(returned && result == PTHREAD_CANCELED);
  softdimo_job_free(job);
  CHECK(!pthread_create(&thread, NULL, works, NULL));
  CHECK(!pthread_join(thread, &result));
  CHECK(returned == 2 && result == PTHREAD_CANCELED);
}

/* A file may not become as long as it should: an error, no signal, no file; mask and handler are the host's. */

static atomic_int signals;

static void on_signal(int number) {
  (void)number;
  signals++;
}

static int files_in(const char *folder) {
  DIR *open = opendir(folder);
  CHECK(open);
  int n = 0;
  for (struct dirent *entry; (entry = readdir(open)) != NULL;) n += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
  closedir(open);
  return n;
}

static void file_too_long(const char *folder) {
  uint8_t pixels[PIXELS * 4];
  for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * i >> 3);
  softdimo_image image = picture(pixels);
  struct rlimit limit;
  CHECK(!getrlimit(RLIMIT_FSIZE, &limit));
  struct rlimit narrow = {100, limit.rlim_max};
  CHECK(!setrlimit(RLIMIT_FSIZE, &narrow));
  int before = files_in(folder);
  FAILS(SOFTDIMO_ERR_IO, "picture.png", softdimo_image_write_png(&image, path, NULL, 0));

  struct sigaction action, found;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  CHECK(!sigaction(SIGXFSZ, &action, NULL));
  FAILS(SOFTDIMO_ERR_IO, "picture.png", softdimo_image_write_png(&image, path, NULL, 0));
  sigset_t mask;
  CHECK(!pthread_sigmask(SIG_BLOCK, NULL, &mask) && !sigismember(&mask, SIGXFSZ));
  CHECK(!sigaction(SIGXFSZ, NULL, &found) && found.sa_handler == on_signal && !signals);

  /* One that the host has blocked and not taken stays. */
  sigset_t blocked, pending;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGXFSZ);
  CHECK(!pthread_sigmask(SIG_BLOCK, &blocked, NULL) && !pthread_kill(pthread_self(), SIGXFSZ));
  FAILS(SOFTDIMO_ERR_IO, "picture.png", softdimo_image_write_png(&image, path, NULL, 0));
  CHECK(!sigpending(&pending) && sigismember(&pending, SIGXFSZ));
  CHECK(!pthread_sigmask(SIG_UNBLOCK, &blocked, NULL) && signals == 1);
  CHECK(files_in(folder) == before);
  CHECK(!setrlimit(RLIMIT_FSIZE, &limit));
  OK(softdimo_image_write_png(&image, path, NULL, 0));
}

#endif

/* A whole life on a thread with little stack. */

static void life(void) {
  static uint8_t pixels[PIXELS * 4];
  static char text[1 << 16];
  static uint32_t tokens[TOKENS];
  uint64_t needed = 0;
  softdimo_engine *own = open_engine(model, NULL);
  OK(softdimo_engine_info(own, text, sizeof text, &needed));
  softdimo_request request = default_request(1);
  softdimo_image image = picture(pixels);
  OK(softdimo_generate(own, &request, &image, 1));
  OK(softdimo_image_write_png(&image, path, NULL, 0));
  OK(softdimo_encode(own, &image, tokens, TOKENS, &needed));
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_from_callback(likes, NULL, &reward));
  softdimo_reward_term term;
  memset(&term, 0, sizeof term);
  term.reward = reward;
  term.weight = 1;
  request.rewards = &term;
  request.reward_count = 1;
  request.optimize_steps = 1;
  softdimo_job *job = submit(own, &request);
  OK(softdimo_job_wait(job, -1));
  OK(softdimo_job_report(job, text, sizeof text, &needed));
  softdimo_job_free(job);
  softdimo_reward_free(reward);
  softdimo_engine_free(own);
}

int main(int argc, char **argv) {
  CHECK(argc == 3 || argc == 4);
  begin();
  model = argv[1];
  snprintf(path, sizeof path, "%s/picture.png", argv[2]);
  if (argc == 4) {
    /* To measure how small a stack may be. */
    on_a_stack_of((size_t)atol(argv[3]), life);
    return end();
  }
#ifndef _WIN32
  engine = open_engine(model, NULL);
  file_too_long(argv[2]);
  cancelled_inside_a_call();
  softdimo_engine_free(engine);
#else
  left_out("a thread cancelled inside a call, and files that may not become long");
#endif
  on_a_stack_of(STACK, life);
  return end();
}
