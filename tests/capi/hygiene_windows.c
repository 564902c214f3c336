/* What the host owns is as it was: before and after every phase of the library's use, what a Windows process can look at is
 * compared.
 *
 * Arguments: model file. */
#include "check.h"

#include <float.h>
#include <locale.h>
#include <windows.h>

typedef struct {
  unsigned float_mode; /* of SSE: rounding, traps, flush-to-zero, denormals-are-zero */
  unsigned short x87;  /* the same of the x87, with its precision */
  char locale[256];
  LCID thread_locale;
  UINT code_pages[2], error_mode;
  DWORD thread_error_mode, process_priority;
  int thread_priority;
  LPTOP_LEVEL_EXCEPTION_FILTER filter;
  WCHAR folder[1024], libraries[1024];
  uint64_t environment; /* of all variables and their values */
} state;

static unsigned short x87_control(void) {
  unsigned short word;
  __asm__ volatile("fnstcw %0" : "=m"(word));
  return word;
}

static void set_x87_control(unsigned short word) { __asm__ volatile("fldcw %0" : : "m"(word)); }

static LONG WINAPI of_the_host(EXCEPTION_POINTERS *exception) {
  (void)exception;
  return EXCEPTION_CONTINUE_SEARCH;
}

static state look(void) {
  static state s;
  memset(&s, 0, sizeof s);
  s.float_mode = __builtin_ia32_stmxcsr() & 0xffc0u;
  s.x87 = x87_control();
  snprintf(s.locale, sizeof s.locale, "%s", setlocale(LC_ALL, NULL));
  s.thread_locale = GetThreadLocale();
  s.code_pages[0] = GetConsoleCP();
  s.code_pages[1] = GetConsoleOutputCP();
  s.error_mode = GetErrorMode();
  s.thread_error_mode = GetThreadErrorMode();
  s.process_priority = GetPriorityClass(GetCurrentProcess());
  s.thread_priority = GetThreadPriority(GetCurrentThread());
  s.filter = SetUnhandledExceptionFilter(of_the_host);
  SetUnhandledExceptionFilter(s.filter);
  CHECK(GetCurrentDirectoryW(1024, s.folder) > 0);
  GetDllDirectoryW(1024, s.libraries);
  WCHAR *all = GetEnvironmentStringsW();
  CHECK(all);
  s.environment = 14695981039346656037u;
  for (const WCHAR *c = all; c[0] || c[1]; c++) s.environment = (s.environment ^ *c) * 1099511628211u;
  FreeEnvironmentStringsW(all);
  return s;
}

static state first;

static void same(const char *when) {
  state now = look();
#define SAME(what)                                                                                           \
  if (memcmp(&now.what, &first.what, sizeof now.what)) fail(__FILE__, __LINE__, "%s: another %s", when, #what)
  SAME(float_mode);
  SAME(x87);
  SAME(locale);
  SAME(thread_locale);
  SAME(code_pages);
  SAME(error_mode);
  SAME(thread_error_mode);
  SAME(process_priority);
  SAME(thread_priority);
  SAME(filter);
  SAME(folder);
  SAME(libraries);
  SAME(environment);
}

static DWORD handles(void) {
  DWORD count = 0;
  CHECK(GetProcessHandleCount(GetCurrentProcess(), &count));
  return count;
}

static uint32_t expected[TOKENS];

static void use(const char *model, uint32_t weights, uint32_t memory) {
  softdimo_engine_options options = default_options();
  options.threads = 2;
  options.weights_mode = weights;
  options.memory_mode = memory;
  softdimo_engine *engine = open_engine(model, &options);
  same("after open");
  softdimo_request request = default_request(5);
  uint32_t tokens[TOKENS];
  run_tokens(engine, &request, tokens);
  same("after a job");
  CHECK(!memcmp(tokens, expected, sizeof tokens));
  uint8_t pixels[PIXELS * 4];
  softdimo_image image = picture(pixels);
  OK(softdimo_generate(engine, &request, &image, 1));
  same("after generate");
  request = long_request();
  softdimo_job *job = submit(engine, &request);
  wait_until_running(job, 3);
  same("while running");
  CHECK(threads_named("softdimo-") > 0);
  OK(softdimo_job_cancel(job));
  softdimo_job_free(job);
  OK(softdimo_engine_trim(engine));
  same("after trim");
  softdimo_engine_free(engine);
  same("after engine_free");
  CHECK(threads_named("softdimo-") == 0);
}

/* Handles, threads and memory of many lives. */
static void cycles(const char *model) {
  enum { WARM = 10, CYCLES = 30 };
  DWORD handles_before = 0;
  unsigned threads_before = 0;
  uint64_t before = 0;
  for (int i = 0; i < WARM + CYCLES; i++) {
    softdimo_engine *engine = open_engine(model, NULL);
    softdimo_request request = default_request((uint64_t)i);
    uint8_t pixels[PIXELS * 4];
    softdimo_image image = picture(pixels);
    OK(softdimo_generate(engine, &request, &image, 1));
    softdimo_engine_free(engine);
    if (i != WARM - 1) continue;
    handles_before = handles();
    threads_before = threads_now();
    before = anonymous();
  }
  double grown = (double)anonymous() - (double)before;
  printf("# %d cycles of open, generate, free: %+.0f KiB, %+ld handles, %+d threads\n", CYCLES, grown / 1024,
         (long)handles() - (long)handles_before, (int)threads_now() - (int)threads_before);
  CHECK(handles() <= handles_before + 3);
  CHECK(threads_now() <= threads_before);
  CHECK(grown < 4 * 1048576.0);
  same("after the cycles");
}

int main(int argc, char **argv) {
  begin();
  CHECK(argc == 2);
  const unsigned usual = __builtin_ia32_stmxcsr();
  const unsigned short usual_x87 = x87_control();

  /* A host with its own locale, folder, handler, code page, error mode, precision of the x87, and flushed denormals. */
  CHECK(setlocale(LC_ALL, "") && setlocale(LC_NUMERIC, "C"));
  WCHAR folder[1024];
  CHECK(GetTempPathW(1024, folder) > 0 && SetCurrentDirectoryW(folder));
  SetErrorMode(SEM_FAILCRITICALERRORS);
  SetUnhandledExceptionFilter(of_the_host);
  CHECK(SetEnvironmentVariableA("SOFTDIMO_TEST_OF_THE_HOST", "1"));
  CHECK(SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_ABOVE_NORMAL));
  set_x87_control(0x027f); /* 53 bits, as Direct3D 9 and old compilers leave it */
  __builtin_ia32_ldmxcsr(0x9fc0);

  first = look();
  CHECK(first.x87 == 0x027f && first.filter == of_the_host);
  softdimo_engine *engine = open_engine(argv[1], NULL);
  softdimo_request request = default_request(5);
  run_tokens(engine, &request, expected);
  same("after the first job");
  softdimo_engine_free(engine);
  same("after the first engine");

  for (uint32_t memory = 0; memory < 2; memory++)
    for (uint32_t weights = SOFTDIMO_WEIGHTS_MAP; weights <= SOFTDIMO_WEIGHTS_READ; weights++) use(argv[1], weights, memory);
  /* The same numbers by a host that changes nothing, rounds upwards, or computes with 24 bits. */
  const struct {
    unsigned sse;
    unsigned short x87;
  } modes[] = {{0x1f80, usual_x87}, {0x5f80, 0x0b7f}, {0x1f80, 0x007f}};
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    __builtin_ia32_ldmxcsr(modes[i].sse);
    set_x87_control(modes[i].x87);
    first = look();
    use(argv[1], SOFTDIMO_WEIGHTS_MAP, SOFTDIMO_MEMORY_LEAN);
  }
  __builtin_ia32_ldmxcsr(usual);
  set_x87_control(usual_x87);
  first = look();
  softdimo_engine *none = NULL;
  STATUS(SOFTDIMO_ERR_NOT_FOUND, softdimo_engine_open("Z:/nowhere/model", NULL, &none));
  same("after a failed open");
  cycles(argv[1]);
  return end();
}
