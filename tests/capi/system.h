/* What programs need of the system beside C99 and POSIX threads, which mingw has too: system_unix.c and system_windows.c. */
#ifndef SYSTEM_H
#define SYSTEM_H

#include <stddef.h>
#include <stdint.h>

#ifndef _WIN32
#define SYSTEM_FORKS /* fork(), and what children inherit of it */
#endif

/* A clock that only goes on, the same in every process. */
double seconds(void);

/* CPU seconds of all threads of this process: unlike the clock, they stand still while other programs compute. */
double cpu_seconds(void);

void sleep_ms(long ms);

/* The program is ended unless it has by then; the last call counts. On Windows it says so, elsewhere SIGALRM does. */
void end_within(unsigned seconds);

/* The end of this process, at once: nothing of what runs at an exit does. */
void end_now(int status) __attribute__((noreturn));

/* Bytes of anonymous memory of this process. */
uint64_t anonymous(void);

/* Bytes of this process in memory. */
uint64_t resident(void);

/* Threads of this process, and those of them whose name starts so. */
unsigned threads_now(void);
unsigned threads_named(const char *start);

/* Run a function to its end on a thread with so many bytes of stack. */
void on_a_stack_of(size_t bytes, void (*run)(void));

/* `size` bytes that end where nothing may be read or written. */
void *before_the_unreadable(size_t size);

/* The file becomes `size` bytes long: 0, or the system refuses. */
int cut_file(const char *path, uint64_t size);

/* How a process ended. */
typedef struct {
  int status;      /* its exit status; below 0: the signal, or what Windows says of a crash */
  double at;       /* when that was, by seconds() */
  char said[1024]; /* what it wrote to standard output */
} process_end;

/* A program with arguments, which end with NULL, run to its end. */
process_end run_program(const char *program, const char *const *arguments);

#endif
