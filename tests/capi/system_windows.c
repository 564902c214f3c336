#define PSAPI_VERSION 2 /* in kernel32 */
#define _WIN32_WINNT 0x0A00
#include "system.h"

#include <fcntl.h>
#include <io.h>
#include <process.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

#include <psapi.h>
#include <tlhelp32.h>

/* What goes on nobody expects: the tests see the message, and the status. */
static void must(int holds, const char *what) {
  if (holds) return;
  printf("%s: %s: error %lu\n", __FILE__, what, GetLastError());
  fflush(stdout);
  end_now(1);
}

double seconds(void) {
  LARGE_INTEGER now, each;
  must(QueryPerformanceFrequency(&each) && QueryPerformanceCounter(&now), "QueryPerformanceCounter");
  return (double)now.QuadPart / (double)each.QuadPart;
}

double cpu_seconds(void) {
  FILETIME created, exited, kernel, user;
  must(GetProcessTimes(GetCurrentProcess(), &created, &exited, &kernel, &user), "GetProcessTimes");
  double high = (double)kernel.dwHighDateTime + (double)user.dwHighDateTime;
  return (high * 4294967296.0 + (double)kernel.dwLowDateTime + (double)user.dwLowDateTime) * 1e-7;
}

void sleep_ms(long ms) { Sleep((DWORD)ms); }

static volatile LONG64 ends_at; /* milliseconds */

static DWORD WINAPI watch(LPVOID none) {
  (void)none;
  while ((LONG64)GetTickCount64() < ends_at) Sleep(100);
  static const char words[] = "the program has not ended in the time it may take\n";
  DWORD written;
  WriteFile(GetStdHandle(STD_OUTPUT_HANDLE), words, sizeof words - 1, &written, NULL);
  end_now(142);
  return 0;
}

void end_within(unsigned seconds) {
  LONG64 before = InterlockedExchange64(&ends_at, (LONG64)GetTickCount64() + 1000 * (LONG64)seconds);
  if (before) return;
  HANDLE thread = CreateThread(NULL, 1 << 16, watch, NULL, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
  must(thread != NULL, "CreateThread");
  CloseHandle(thread);
}

/* ExitProcess, which _exit() is, would call the libraries. */
void end_now(int status) {
  TerminateProcess(GetCurrentProcess(), (UINT)status);
  abort();
}

static PROCESS_MEMORY_COUNTERS_EX memory_now(void) {
  PROCESS_MEMORY_COUNTERS_EX counters;
  memset(&counters, 0, sizeof counters);
  counters.cb = sizeof counters;
  must(GetProcessMemoryInfo(GetCurrentProcess(), (PROCESS_MEMORY_COUNTERS *)(void *)&counters, sizeof counters),
       "GetProcessMemoryInfo");
  return counters;
}

/* wine 8 leaves PrivateUsage empty, Windows 7 the other. */
uint64_t anonymous(void) {
  PROCESS_MEMORY_COUNTERS_EX now = memory_now();
  return now.PrivateUsage > now.PagefileUsage ? now.PrivateUsage : now.PagefileUsage;
}

uint64_t resident(void) { return memory_now().WorkingSetSize; }

/* A thread's name, where it has one, starts so. */
static int is_named(DWORD id, const char *start) {
  HRESULT(WINAPI * description)(HANDLE, PWSTR *) = NULL;
  FARPROC found = GetProcAddress(GetModuleHandleA("kernel32.dll"), "GetThreadDescription");
  must(found != NULL, "GetThreadDescription");
  memcpy(&description, &found, sizeof found);
  HANDLE thread = OpenThread(THREAD_QUERY_LIMITED_INFORMATION, FALSE, id);
  if (!thread) return 0; /* has ended */
  PWSTR name = NULL;
  int same = SUCCEEDED(description(thread, &name)) && name;
  for (size_t i = 0; same && start[i]; i++) same = name[i] == (WCHAR)start[i];
  LocalFree(name);
  CloseHandle(thread);
  return same;
}

static unsigned count_threads(const char *start) {
  HANDLE all = CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0);
  must(all != INVALID_HANDLE_VALUE, "CreateToolhelp32Snapshot");
  THREADENTRY32 entry;
  entry.dwSize = sizeof entry;
  unsigned found = 0;
  for (BOOL more = Thread32First(all, &entry); more; more = Thread32Next(all, &entry))
    found += entry.th32OwnerProcessID == GetCurrentProcessId() && (!start || is_named(entry.th32ThreadID, start));
  CloseHandle(all);
  return found;
}

/* Who joins a thread of the library waits until it has nothing left to do, and not for its end (src/runtime/threads/windows.rs),
 * which follows in a moment: the least of several looks. */
static unsigned least_threads(const char *start, unsigned expected) {
  unsigned least = count_threads(start);
  for (int looks = 0; least > expected && looks < 30; looks++) {
    sleep_ms(10);
    unsigned now = count_threads(start);
    if (now < least) least = now;
  }
  return least;
}

/* The watching thread is none of the program's. */
unsigned threads_now(void) {
  unsigned watching = ends_at ? 1 : 0;
  return least_threads(NULL, 1 + watching) - watching;
}

unsigned threads_named(const char *start) { return least_threads(start, 0); }

static DWORD WINAPI runs(LPVOID run) {
  (*(void (**)(void))run)();
  return 0;
}

/* Of mingw's threads none has less stack than the program says. */
void on_a_stack_of(size_t bytes, void (*run)(void)) {
  HANDLE thread = CreateThread(NULL, bytes, runs, &run, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
  must(thread != NULL, "CreateThread");
  must(WaitForSingleObject(thread, INFINITE) == WAIT_OBJECT_0, "WaitForSingleObject");
  CloseHandle(thread);
}

void *before_the_unreadable(size_t size) {
  SYSTEM_INFO system;
  GetSystemInfo(&system);
  size_t page = system.dwPageSize, pages = (size + page - 1) / page * page;
  char *memory = VirtualAlloc(NULL, pages + page, MEM_RESERVE, PAGE_NOACCESS);
  must(memory && VirtualAlloc(memory, pages, MEM_COMMIT, PAGE_READWRITE), "VirtualAlloc");
  return memory + pages - size;
}

int cut_file(const char *path, uint64_t size) {
  FILE *file = fopen(path, "r+b");
  if (!file) return -1;
  int cut = _chsize_s(_fileno(file), (long long)size);
  fclose(file);
  return cut ? -1 : 0;
}

process_end run_program(const char *program, const char *const *arguments) {
  process_end end;
  memset(&end, 0, sizeof end);
  char line[4096];
  int used = snprintf(line, sizeof line, "\"%s\"", program);
  for (size_t i = 0; arguments[i] && used < (int)sizeof line; i++)
    used += snprintf(line + used, sizeof line - (size_t)used, " \"%s\"", arguments[i]);
  must(used < (int)sizeof line, "arguments of a program");

  SECURITY_ATTRIBUTES inherited = {sizeof inherited, NULL, TRUE};
  HANDLE from, to;
  must(CreatePipe(&from, &to, &inherited, 0), "CreatePipe");
  must(SetHandleInformation(from, HANDLE_FLAG_INHERIT, 0), "SetHandleInformation");
  STARTUPINFOA start;
  memset(&start, 0, sizeof start);
  start.cb = sizeof start;
  start.dwFlags = STARTF_USESTDHANDLES;
  start.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
  start.hStdOutput = to;
  start.hStdError = GetStdHandle(STD_ERROR_HANDLE);
  PROCESS_INFORMATION process;
  fflush(stdout);
  must(CreateProcessA(NULL, line, NULL, NULL, TRUE, 0, NULL, NULL, &start, &process), "CreateProcess");
  CloseHandle(to);
  DWORD length = 0, room = (DWORD)sizeof end.said - 1, got;
  while (length < room && ReadFile(from, end.said + length, room - length, &got, NULL) && got) length += got;
  must(WaitForSingleObject(process.hProcess, INFINITE) == WAIT_OBJECT_0, "WaitForSingleObject");
  end.at = seconds();
  DWORD status = 0;
  must(GetExitCodeProcess(process.hProcess, &status), "GetExitCodeProcess");
  CloseHandle(from);
  CloseHandle(process.hThread);
  CloseHandle(process.hProcess);
  end.status = (int)status; /* 0xC0000005 and the like of crashes are below 0 */
  return end;
}
