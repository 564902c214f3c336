/* fork() and exit() at bad moments, and loading twice.
 *
 * Arguments: model file, the shared library. */
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>

static const char *model;
static softdimo_engine *engine;
static softdimo_job *job;

/* Run `body` in a child; its exit status must be 0, and it must end before its alarm, with less than `limit` CPU seconds
 * spent: a job that an exit leaves running takes many more. Returns the seconds it took. */
static double child(void (*body)(void), double limit) {
  fflush(stdout);
  double start = seconds();
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    end_within(60);
    body();
    end_now(0);
  }
  int status = 0;
  struct rusage used;
  CHECK(wait4(pid, &status, 0, &used) == pid);
  if (!WIFEXITED(status) || WEXITSTATUS(status))
    fail(__FILE__, __LINE__, "a child ended with exit %d, signal %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1,
         WIFSIGNALED(status) ? WTERMSIG(status) : 0);
  double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec);
  if (cpu >= limit) fail(__FILE__, __LINE__, "a child computed for %.0f s", cpu);
  return seconds() - start;
}

/* In a fork of a process with a live engine and a running job: every call says so. */
static void forked(void) {
  uint64_t needed = 0;
  uint32_t number = 77;
  float value;
  char text[16];
  const char *label = NULL;
  uint8_t pixels[PIXELS * 4];
  softdimo_image image;
  memset(&image, 0, sizeof image);
  image.struct_size = sizeof image;
  image.width = image.height = SIDE;
  image.data = pixels;
  image.capacity = sizeof pixels;
  softdimo_request request;
  memset(&request, 0, sizeof request);
  request.struct_size = sizeof request;
  request.batch = 1;
  softdimo_memory memory = {sizeof memory, 0, 0, 0, 0, 0};
  softdimo_progress progress = {sizeof progress, 0, 0, 0, 0, 0};
  softdimo_engine *other = NULL;
  softdimo_job *made = NULL;
  softdimo_opening *opening = NULL;
#define FORKED(call) FAILS(SOFTDIMO_ERR_FORKED, "this process was forked", call)
  FORKED(softdimo_engine_open(model, NULL, &other));
  FORKED(softdimo_engine_open_memory("x", 1, NULL, NULL, NULL, &other));
  FORKED(softdimo_provider_info(0, text, sizeof text, &needed));
  FORKED(softdimo_engine_info(engine, text, sizeof text, &needed));
  FORKED(softdimo_engine_label_count(engine, &number));
  FORKED(softdimo_engine_label(engine, 0, &label));
  FORKED(softdimo_engine_memory(engine, &memory));
  FORKED(softdimo_engine_warmup(engine, 1));
  FORKED(softdimo_engine_trim(engine));
  FORKED(softdimo_engine_cancel_pending(engine, &number));
  FORKED(softdimo_engine_pause(engine));
  FORKED(softdimo_engine_resume(engine));
  FORKED(softdimo_engine_set_cpu_share(engine, 50));
  FORKED(softdimo_engine_open_async(model, NULL, NULL, &opening));
  FORKED(softdimo_job_free_all(engine));
  FORKED(softdimo_engine_verify(engine, model, text, sizeof text, &needed));
  FORKED(softdimo_generate(engine, &request, &image, 1));
  FORKED(softdimo_submit(engine, &request, &made));
  FORKED(softdimo_job_poll(job, &number));
  FORKED(softdimo_job_wait(job, -1));
  FORKED(softdimo_job_cancel(job));
  FORKED(softdimo_job_progress(job, &progress));
  FORKED(softdimo_job_image(job, 0, &image));
  FORKED(softdimo_job_image_f32(job, 0, &value, 1, &needed));
  FORKED(softdimo_job_tokens(job, 0, &number, 1, &needed));
  FORKED(softdimo_job_max_probability(job, 0, &value, 1, &needed));
  FORKED(softdimo_job_embedding(job, 0, &value, 1, &needed));
  FORKED(softdimo_job_report(job, text, sizeof text, &needed));
  FORKED(softdimo_job_error(job, text, sizeof text, &needed));
  CHECK(other == NULL && made == NULL && label == NULL && number == 77 && needed == 0);
  softdimo_job_free(job);
  softdimo_engine_free(engine);
}

static void forked_and_exits(void) {
  softdimo_job_free(job);
  softdimo_engine_free(engine);
  exit(0); /* runs the exit handlers the child inherited */
}

/* From here on: children that use the library themselves; their parent has not. */
static void start(void) {
  softdimo_engine_options options = default_options();
  options.threads = 2;
  engine = open_engine(model, &options);
  softdimo_request request = long_request();
  job = submit(engine, &request);
  wait_until_running(job, 2);
}

static void exits_while_running(void) {
  start();
  exit(0);
}

static int moment; /* of a case that is tried several times */

static void exits_while_preparing(void) {
  engine = open_engine(model, NULL);
  softdimo_request request = long_request();
  request.batch = 3;
  job = submit(engine, &request);
  sleep_ms(2 * moment); /* at any point of preparing and of the first steps */
  exit(0);
}

static void exits_with_a_queue(void) {
  start();
  softdimo_request request = long_request();
  for (int i = 0; i < 10; i++) submit(engine, &request);
  exit(0);
}

static void exits_with_engines(void) {
  for (int i = 0; i < 4; i++) start();
  exit(0);
}

static void *exit_thread(void *argument) {
  (void)argument;
  sleep_ms(20);
  exit(0);
}

static void exits_from_another_thread(void) {
  start();
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, exit_thread, NULL) == 0);
  /* This thread sits in a wait when the other one ends the process. */
  softdimo_job_wait(job, -1);
  for (;;) sleep_ms(1000);
}

static void free_at_exit(void) {
  softdimo_job_free(job);
  softdimo_engine_free(engine);
}

static void frees_in_an_early_handler(void) {
  CHECK(atexit(free_at_exit) == 0); /* runs after the library's own handler */
  start();
  exit(0);
}

static void frees_in_a_late_handler(void) {
  start();
  CHECK(atexit(free_at_exit) == 0); /* runs before it */
  exit(0);
}

static void generate_at_exit(void) {
  softdimo_request request = default_request(1);
  uint8_t pixels[PIXELS * 4];
  softdimo_image image = picture(pixels);
  int32_t status = softdimo_generate(engine, &request, &image, 1);
  if (status != SOFTDIMO_OK && status != SOFTDIMO_ERR_CANCELLED) end_now(3);
}

static void generates_in_an_early_handler(void) {
  CHECK(atexit(generate_at_exit) == 0);
  engine = open_engine(model, NULL);
  exit(0);
}

static void generates_in_a_late_handler(void) {
  engine = open_engine(model, NULL);
  CHECK(atexit(generate_at_exit) == 0);
  exit(0);
}

static void exits_after_free(void) {
  start();
  free_at_exit();
  exit(0);
}

static void returns_quickly(void) {
  start();
  quick_exit(0);
}

static int mapped(const char *name) {
  FILE *maps = fopen("/proc/self/maps", "r");
  CHECK(maps);
  char line[4096];
  int found = 0;
  while (fgets(line, sizeof line, maps)) found |= strstr(line, name) != NULL;
  fclose(maps);
  return found;
}

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 3);
  model = argv[1];

  static const struct {
    const char *name;
    void (*body)(void);
    int times;
  } exits[] = {
      {"exit while a job runs", exits_while_running, 20},
      {"exit while sessions are prepared", exits_while_preparing, 20},
      {"exit with jobs queued", exits_with_a_queue, 3},
      {"exit with four engines at work", exits_with_engines, 3},
      {"exit from another thread", exits_from_another_thread, 10},
      {"free in an exit handler that runs last", frees_in_an_early_handler, 5},
      {"free in an exit handler that runs first", frees_in_a_late_handler, 5},
      {"generate in an exit handler that runs last", generates_in_an_early_handler, 3},
      {"generate in an exit handler that runs first", generates_in_a_late_handler, 3},
      {"exit after free", exits_after_free, 3},
      {"quick_exit while a job runs", returns_quickly, 3},
  };
  for (size_t i = 0; i < sizeof exits / sizeof *exits; i++) {
    double longest = 0;
    for (int k = 0; k < exits[i].times; k++) {
      moment = k;
      double took = child(exits[i].body, 10);
      if (took > longest) longest = took;
    }
    printf("# %-46s %2d times, at most %.2f s\n", exits[i].name, exits[i].times, longest);
  }

  start();
  for (int i = 0; i < 5; i++) child(forked, 10);
  for (int i = 0; i < 5; i++) child(forked_and_exits, 10);
  /* The parent's job ran on through all that, and its engine still works. */
  uint32_t state;
  OK(softdimo_job_poll(job, &state));
  CHECK(state == SOFTDIMO_JOB_RUNNING);
  softdimo_job_free(job);
  softdimo_request request = default_request(4);
  uint32_t tokens[TOKENS], again[TOKENS];
  run_tokens(engine, &request, tokens);

  /* Loaded a second time by a plugin host, closed, and loaded again: it stays mapped, and works. */
  for (int i = 0; i < 3; i++) {
    void *library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
    if (!library) fail(__FILE__, __LINE__, "%s", dlerror());
    CHECK(dlsym(library, "softdimo_engine_open"));
    CHECK(dlclose(library) == 0);
    CHECK(mapped("libsoftdimo"));
    run_tokens(engine, &request, again);
    CHECK(!memcmp(tokens, again, sizeof tokens));
  }
  softdimo_engine_free(engine);
  return end();
}
