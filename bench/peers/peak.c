// What one core can multiply at most: GOP/s (multiplications and additions) of the widest instructions it has, on numbers that never
// leave its registers. No program that multiplies with these instructions takes less than its operations over this.
//
// usage: peak     prints a line of JSON: {"f32": …, "bf16": …, "int8": …}; a kind that the processor has no instruction for is left out
#include <immintrin.h>
#include <stdio.h>
#include <time.h>

#define SUMS 24     // independent sums, more than are under way at once
#define ROUNDS 4000 // a few tens of microseconds
#define TRIES 3000  // the fastest counts: a core is rarely another's for all of them

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec + at.tv_nsec * 1e-9;
}

// The asm statement is opaque: sums are neither joined nor dropped.
#define PEAK(NAME, TARGET, SUM, INSTRUCTION, PRODUCTS)                                                      \
  __attribute__((target(TARGET))) static double NAME(void) {                                               \
    double best = 1e9;                                                                                      \
    SUM sums[SUMS] = {{0}}, x = {0};                                                                        \
    for (int try = 0; try < TRIES; try++) {                                                                 \
      double began = now();                                                                                 \
      for (int round = 0; round < ROUNDS; round++)                                                          \
        _Pragma("GCC unroll 24") for (int i = 0; i < SUMS; i++)                                             \
          __asm__ volatile(INSTRUCTION " %1, %1, %0" : "+v"(sums[i]) : "v"(x));                             \
      double took = now() - began;                                                                          \
      if (took < best) best = took;                                                                         \
    }                                                                                                       \
    return 2.0 * PRODUCTS * SUMS * ROUNDS / best * 1e-9;                                                    \
  }

PEAK(f32_avx512, "avx512f", __m512, "vfmadd231ps", 16)
PEAK(bf16_avx512, "avx512f", __m512, "vdpbf16ps", 32)
PEAK(int8_avx512, "avx512f", __m512i, "vpdpbusd", 64)
#undef SUMS
#define SUMS 12 // there are 16 registers
PEAK(f32_fma, "avx2,fma", __m256, "vfmadd231ps", 8)
PEAK(int8_avx_vnni, "avx2", __m256i, "%{vex%} vpdpbusd", 32)
// Pairs are added in 16 bits: the widening and the addition to 32 come on top.
PEAK(int8_avx2, "avx2", __m256i, "vpmaddubsw", 32)

int main(void) {
  __builtin_cpu_init();
  int wide = __builtin_cpu_supports("avx512f"), fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!fma) return printf("{}\n"), 0;
  printf("{\"f32\": %.0f", wide ? f32_avx512() : f32_fma());
  if (__builtin_cpu_supports("avx512bf16")) printf(", \"bf16\": %.0f", bf16_avx512());
  double int8 = __builtin_cpu_supports("avx512vnni") ? int8_avx512()
                : __builtin_cpu_supports("avxvnni")  ? int8_avx_vnni()
                                                     : int8_avx2();
  printf(", \"int8\": %.0f}\n", int8);
  return 0;
}
