/* Faults on demand, to be preloaded: calls that libsoftdimo makes of the C library fail as the system's would. Those of ONNX
 * Runtime and of the host never do. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "shim.h"

#define PUBLIC __attribute__((visibility("default")))
#define CALLER ((uintptr_t)__builtin_return_address(0))

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static uintptr_t from, to;
static atomic_int kind = FAULT_NONE;
static atomic_long at, calls, injected;
static atomic_int once;

static int find(struct dl_phdr_info *info, size_t size, void *data) {
  (void)size, (void)data;
  if (!strstr(info->dlpi_name, "libsoftdimo.so")) return 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    if (info->dlpi_phdr[i].p_type != PT_LOAD || !(info->dlpi_phdr[i].p_flags & PF_X)) continue;
    from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
    to = from + info->dlpi_phdr[i].p_memsz;
  }
  return 1;
}

fault_arm_fn fault_arm __attribute__((visibility("default")));
fault_disarm_fn fault_disarm __attribute__((visibility("default")));

void fault_arm(int which, long number, int only_once) {
  dl_iterate_phdr(find, NULL);
  at = number;
  once = only_once;
  calls = injected = 0;
  kind = which;
}

long fault_disarm(long *failed) {
  kind = FAULT_NONE;
  *failed = injected;
  return calls;
}

/* Whether this call is to fail. */
static int faulty(int which, uintptr_t caller) {
  if (kind != which || caller < from || caller >= to) return 0;
  long number = ++calls;
  if (at == 0 || (once ? number != at : number < at)) return 0;
  injected++;
  return 1;
}

static int faulty_block(size_t size, uintptr_t caller) {
  return faulty(FAULT_MALLOC, caller) || (size >= FAULT_LARGE && faulty(FAULT_LARGE_MALLOC, caller));
}

#define FAIL(error, value) return errno = (error), (value)

PUBLIC void *malloc(size_t size) {
  if (faulty_block(size, CALLER)) FAIL(ENOMEM, NULL);
  return __libc_malloc(size);
}

PUBLIC void *calloc(size_t count, size_t size) {
  if (faulty_block(count * size, CALLER)) FAIL(ENOMEM, NULL);
  return __libc_calloc(count, size);
}

PUBLIC void *realloc(void *block, size_t size) {
  if (faulty_block(size, CALLER)) FAIL(ENOMEM, NULL);
  return __libc_realloc(block, size);
}

PUBLIC int posix_memalign(void **block, size_t alignment, size_t size) {
  if (faulty_block(size, CALLER)) return ENOMEM;
  *block = __libc_memalign(alignment, size);
  return *block ? 0 : ENOMEM;
}

/* The next definition of a function, found before anything can fail. */
#define NEXT(result, name, ...)                                    \
  static result (*next_##name)(__VA_ARGS__);                       \
  __attribute__((constructor)) static void find_##name(void) {     \
    void *found = dlsym(RTLD_NEXT, #name);                         \
    memcpy(&next_##name, &found, sizeof found);                    \
  }

NEXT(void *, mmap, void *, size_t, int, int, int, off_t)
PUBLIC void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
  if (faulty(FAULT_MMAP, CALLER)) FAIL(ENOMEM, MAP_FAILED);
  return next_mmap(address, length, protection, flags, fd, offset);
}

NEXT(void *, mmap64, void *, size_t, int, int, int, off64_t)
PUBLIC void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset) {
  if (faulty(FAULT_MMAP, CALLER)) FAIL(ENOMEM, MAP_FAILED);
  return next_mmap64(address, length, protection, flags, fd, offset);
}

NEXT(int, open, const char *, int, ...)
PUBLIC int open(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  int mode = va_arg(rest, int);
  va_end(rest);
  if (faulty(FAULT_OPEN, CALLER)) FAIL(EMFILE, -1);
  return next_open(path, flags, mode);
}

NEXT(int, open64, const char *, int, ...)
PUBLIC int open64(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  int mode = va_arg(rest, int);
  va_end(rest);
  if (faulty(FAULT_OPEN, CALLER)) FAIL(EMFILE, -1);
  return next_open64(path, flags, mode);
}

NEXT(ssize_t, read, int, void *, size_t)
PUBLIC ssize_t read(int fd, void *data, size_t size) {
  if (faulty(FAULT_READ, CALLER)) FAIL(EIO, -1);
  return next_read(fd, data, size);
}

NEXT(ssize_t, write, int, const void *, size_t)
PUBLIC ssize_t write(int fd, const void *data, size_t size) {
  if (faulty(FAULT_WRITE, CALLER)) FAIL(ENOSPC, -1);
  return next_write(fd, data, size);
}

NEXT(ssize_t, writev, int, const struct iovec *, int)
PUBLIC ssize_t writev(int fd, const struct iovec *parts, int count) {
  if (faulty(FAULT_WRITE, CALLER)) FAIL(ENOSPC, -1);
  return next_writev(fd, parts, count);
}

NEXT(int, fsync, int)
PUBLIC int fsync(int fd) {
  if (faulty(FAULT_WRITE, CALLER)) FAIL(EIO, -1);
  return next_fsync(fd);
}

NEXT(int, pthread_create, pthread_t *, const pthread_attr_t *, void *(*)(void *), void *)
PUBLIC int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
  if (faulty(FAULT_THREAD, CALLER)) return EAGAIN;
  return next_pthread_create(thread, attributes, run, argument);
}
