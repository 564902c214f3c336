/* What shim.c makes fail. */
#ifndef SHIM_H
#define SHIM_H

enum {
  FAULT_NONE,
  FAULT_MALLOC,
  FAULT_LARGE_MALLOC, /* of FAULT_LARGE bytes and more */
  FAULT_MMAP,
  FAULT_OPEN,
  FAULT_READ,
  FAULT_WRITE,
  FAULT_THREAD,
};

enum { FAULT_LARGE = 1 << 14 };

/* Call `number` of a kind fails from now on, counted from 1, or each from there on; 0: they are only counted. */
typedef void fault_arm_fn(int kind, long number, int only_once);
/* Nothing fails any more. How many calls there were, and how many of them failed. */
typedef long fault_disarm_fn(long *failed);

#endif
