/* A host that is not linked to the library: dlopen, use, dlclose, as often as it likes, with the engine freed
 * before each dlclose. The library stays mapped (-z nodelete), so nothing dangles.
 *
 * Arguments: model file, the shared library. */
#include "check.h"

#include <dlfcn.h>

/* Object pointer to function pointer: what POSIX asks for and ISO C has no cast for. */
#define LOAD(library, name)                                                                                  \
  do {                                                                                                       \
    void *symbol = dlsym(library, #name);                                                                    \
    if (!symbol) fail_loading(dlerror());                                                                    \
    memcpy(&p_##name, &symbol, sizeof symbol);                                                               \
  } while (0)

static void fail_loading(const char *message) {
  printf("%s\n", message);
  exit(1);
}

static __typeof__(softdimo_engine_open) *p_softdimo_engine_open;
static __typeof__(softdimo_engine_free) *p_softdimo_engine_free;
static __typeof__(softdimo_request_init) *p_softdimo_request_init;
static __typeof__(softdimo_submit) *p_softdimo_submit;
static __typeof__(softdimo_job_wait) *p_softdimo_job_wait;
static __typeof__(softdimo_job_tokens) *p_softdimo_job_tokens;
static __typeof__(softdimo_job_free) *p_softdimo_job_free;

int main(int argc, char **argv) {
  end_within(100);
  if (argc != 3) return 2;
  uint32_t first[TOKENS], tokens[TOKENS];
  uint64_t needed;
  void *where = NULL;
  for (int i = 0; i < 5; i++) {
    void *library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
    if (!library) fail_loading(dlerror());
    LOAD(library, softdimo_engine_open);
    LOAD(library, softdimo_engine_free);
    LOAD(library, softdimo_request_init);
    LOAD(library, softdimo_submit);
    LOAD(library, softdimo_job_wait);
    LOAD(library, softdimo_job_tokens);
    LOAD(library, softdimo_job_free);
    softdimo_engine *engine = NULL;
    softdimo_job *job = NULL;
    softdimo_request request;
    if (p_softdimo_engine_open(argv[1], NULL, &engine)) return 3;
    if (p_softdimo_request_init(&request, sizeof request)) return 4;
    if (p_softdimo_submit(engine, &request, &job)) return 5;
    if (p_softdimo_job_wait(job, -1)) return 6;
    if (p_softdimo_job_tokens(job, 0, i ? tokens : first, TOKENS, &needed)) return 7;
    if (i && memcmp(tokens, first, sizeof first)) return 8;
    p_softdimo_job_free(job);
    p_softdimo_engine_free(engine);
    dlclose(library);
    void *symbol;
    memcpy(&symbol, &p_softdimo_engine_open, sizeof symbol);
    if (where && where != symbol) return 9; /* the same mapping every time */
    where = symbol;
  }
  printf("ok\n");
  return 0;
}
