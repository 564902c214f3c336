/* A host that is not linked to the library: LoadLibrary and FreeLibrary, before any engine is opened and after. The DLL finds
 * onnxruntime.dll in its own folder, which is not the program's; once it has threads it stays mapped, so nothing dangles.
 *
 * Arguments: model file, the DLL. SOFTDIMO_ORT_LIBRARY is not set. */
#include "check.h"

#include <windows.h>

/* Function pointer to function pointer of another type: through memory, as one of either kind has no cast in ISO C. */
#define LOAD(library, name)                                                                                  \
  do {                                                                                                       \
    FARPROC found_ = GetProcAddress(library, #name);                                                         \
    if (!found_) stop("GetProcAddress of " #name);                                                           \
    memcpy(&p_##name, &found_, sizeof found_);                                                               \
  } while (0)

static void stop(const char *what) {
  printf("%s: error %lu\n", what, GetLastError());
  fflush(stdout);
  end_now(1);
}

static __typeof__(softdimo_abi_version) *p_softdimo_abi_version;
static __typeof__(softdimo_last_error) *p_softdimo_last_error;
static __typeof__(softdimo_engine_open) *p_softdimo_engine_open;
static __typeof__(softdimo_engine_free) *p_softdimo_engine_free;
static __typeof__(softdimo_request_init) *p_softdimo_request_init;
static __typeof__(softdimo_submit) *p_softdimo_submit;
static __typeof__(softdimo_job_wait) *p_softdimo_job_wait;
static __typeof__(softdimo_job_tokens) *p_softdimo_job_tokens;
static __typeof__(softdimo_job_free) *p_softdimo_job_free;

/* Of the library's functions this program has only what it loads. */
#define GOES(call)                                                                                           \
  do {                                                                                                       \
    int32_t status_ = (call);                                                                                \
    char why_[2048];                                                                                         \
    if (!status_) break;                                                                                     \
    p_softdimo_last_error(why_, sizeof why_);                                                                \
    printf("%s: %d: %s\n", #call, status_, why_);                                                            \
    fflush(stdout);                                                                                          \
    end_now(1);                                                                                              \
  } while (0)

static HMODULE load(const char *path) {
  HMODULE library = LoadLibraryA(path);
  if (!library) stop(path);
  LOAD(library, softdimo_abi_version);
  LOAD(library, softdimo_last_error);
  LOAD(library, softdimo_engine_open);
  LOAD(library, softdimo_engine_free);
  LOAD(library, softdimo_request_init);
  LOAD(library, softdimo_submit);
  LOAD(library, softdimo_job_wait);
  LOAD(library, softdimo_job_tokens);
  LOAD(library, softdimo_job_free);
  return library;
}

int main(int argc, char **argv) {
  begin();
  if (argc != 3) return 2;

  /* Nothing of it is used: it comes and goes. */
  for (int i = 0; i < 3; i++) {
    HMODULE library = load(argv[2]);
    if (p_softdimo_abi_version() != SOFTDIMO_ABI_VERSION) stop("the version of the ABI");
    if (!FreeLibrary(library)) stop("FreeLibrary before any engine");
    if (GetModuleHandleA("softdimo.dll")) stop("a DLL that nobody uses is still there");
  }
  if (threads_now() != 1) stop("threads that nobody started");

  uint32_t first[TOKENS], tokens[TOKENS];
  uint64_t needed;
  HMODULE where = NULL;
  for (int i = 0; i < 5; i++) {
    HMODULE library = load(argv[2]);
    if (where && where != library) stop("another mapping");
    where = library;
    softdimo_engine *engine = NULL;
    softdimo_job *job = NULL;
    softdimo_request request;
    GOES(p_softdimo_engine_open(argv[1], NULL, &engine));
    GOES(p_softdimo_request_init(&request, sizeof request));
    GOES(p_softdimo_submit(engine, &request, &job));
    GOES(p_softdimo_job_wait(job, -1));
    GOES(p_softdimo_job_tokens(job, 0, i ? tokens : first, TOKENS, &needed));
    if (i && memcmp(tokens, first, sizeof first)) stop("other tokens");
    p_softdimo_job_free(job);
    p_softdimo_engine_free(engine);
    if (!FreeLibrary(library)) stop("FreeLibrary");
    if (GetModuleHandleA("softdimo.dll") != where) stop("a DLL that had threads was unmapped");
  }

  /* Unloaded with a job under way: it goes on, and the process ends as usual. */
  HMODULE library = load(argv[2]);
  softdimo_engine *engine = NULL;
  softdimo_job *job = NULL;
  softdimo_request request;
  GOES(p_softdimo_engine_open(argv[1], NULL, &engine));
  GOES(p_softdimo_request_init(&request, sizeof request));
  request.steps = MANY_STEPS;
  GOES(p_softdimo_submit(engine, &request, &job));
  sleep_ms(300);
  if (!FreeLibrary(library)) stop("FreeLibrary while a job runs");
  sleep_ms(100);
  printf("ok\n");
  fflush(stdout);
  return 0;
}
