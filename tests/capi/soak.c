/* A host that runs for days: pictures and optimisations at mixed batch sizes, on one engine and with a second one opened and
 * freed beside it now and then. Anonymous memory after a trim is in the end, in the mean of the last three tenths, what it was
 * in the beginning, in that of the second to fourth, within 10 %: heaps of threads fill up first.
 *
 * Arguments: model file[, pictures[, optimisations]]. */
#include "check.h"

static void work(const softdimo_engine *engine, uint64_t seed, uint32_t batch, uint32_t steps,
                 const softdimo_reward *reward) {
  softdimo_request request = default_request(seed);
  softdimo_reward_term term;
  memset(&term, 0, sizeof term);
  request.batch = batch;
  if (reward) {
    term.reward = reward;
    term.weight = 1;
    request.rewards = &term;
    request.reward_count = 1;
    request.optimize_steps = steps;
  }
  softdimo_job *job = submit(engine, &request);
  OK(softdimo_job_wait(job, -1));
  softdimo_job_free(job);
}

int main(int argc, char **argv) {
  CHECK(argc >= 2);
  long pictures = argc > 2 ? atol(argv[2]) : 600, optimisations = argc > 3 ? atol(argv[3]) : 40;
  enum { PARTS = 10 };
  static const uint32_t batches[] = {1, 1, 2, 1, 4, 1, 3, 8};
  double early = 0, late = 0;
  double began = seconds();
  softdimo_engine *engine = open_engine(argv[1], NULL);
  softdimo_reward *reward = NULL;
  OK(softdimo_reward_color(-1, -1, 1, NULL, 0, &reward));
  for (int part = 0; part < PARTS; part++) {
    int k = 0;
    for (long made = 0; made < pictures / PARTS; k++) {
      uint32_t batch = batches[k % 8];
      work(engine, (uint64_t)k, batch, 0, NULL);
      made += batch;
    }
    for (long made = 0; made < optimisations / PARTS; made++)
      work(engine, (uint64_t)made, batches[made % 8], 1 + (uint32_t)made % 3, reward);
    softdimo_engine *other = open_engine(argv[1], NULL);
    work(other, 1, 2, 0, NULL);
    softdimo_engine_free(other);
    OK(softdimo_engine_trim(engine));
    uint64_t now = anonymous() / 1024;
    printf("# after %ld pictures, %ld optimisations: %lu KiB\n", pictures / PARTS * (part + 1),
           optimisations / PARTS * (part + 1), (unsigned long)now);
    fflush(stdout);
    if (part >= 1 && part < 4) early += (double)now / 3;
    if (part >= PARTS - 3) late += (double)now / 3;
  }
  softdimo_reward_free(reward);
  softdimo_engine_free(engine);
  printf("# memory after trim: %.0f KiB, then %.0f KiB (%+.1f %%), %.0f s\n", early, late, 100 * (late - early) / early,
         seconds() - began);
  CHECK(late <= 1.10 * early);
  return end();
}
