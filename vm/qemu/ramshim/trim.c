/* Gives back code that QEMU's emulator has translated. */
#include "ramshim.h"
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* Where QEMU's emulator keeps what it translated: its only memory that may be written and run. Nothing where the
 * processor runs the guest itself. */
static struct {
  struct range {
    char *at;
    size_t size;
  } part[1024];
  int count;
} code;

/* At the lowest address lies what enters and leaves translated code: made once, used for ever. */
#define CODE_KEPT (1u << 20)
/* QEMU's smallest part is of 2 MiB; libraries that make code of their own take a few pages. */
#define PART_AT_LEAST (1u << 20)
#define TRIM_TIMEOUT_MS 10000

static int find_code(void) {
  unsigned long from, to;
  char line[512], mode[5];
  FILE *maps = fopen("/proc/self/maps", "re");
  if (!maps) return errno;
  code.count = 0;
  while (code.count < 1024 && fgets(line, sizeof line, maps)) {
    if (sscanf(line, "%lx-%lx %4s", &from, &to, mode) != 3 || strcmp(mode, "rwxp") != 0) continue;
    if (to - from <= PART_AT_LEAST) continue;
    size_t kept = code.count == 0 ? CODE_KEPT : 0;
    code.part[code.count++] = (struct range){(char *)from + kept, to - from - kept};
  }
  fclose(maps);
  return 0;
}

/* How much of it there is, in pages. */
static size_t count_code(void) {
  size_t present = 0;
  int fd = open_pagemap();
  if (fd < 0) return 0;
  for (int i = 0; i < code.count; i++)
    for (size_t base = 0, pages = code.part[i].size / PAGE; base < pages; base += CHUNK) {
      size_t count = pages - base < CHUNK ? pages - base : CHUNK;
      if (read_pagemap(fd, code.part[i].at + base * PAGE, count, ram.entries) != 0) continue;
      for (size_t at = 0; at < count; at++) present += (ram.entries[at] & PRESENT) != 0;
    }
  close(fd);
  return present;
}

/* QEMU's own functions, which its program exports for its modules. */
static struct {
  void *(*first_cpu)(int);
  void (*run_alone)(void *cpu, void (*work)(void *, void *), void *data);
  void (*forget_code)(void *cpu);
} qemu;

static int find_qemu(void) {
  *(void **)&qemu.first_cpu = dlsym(RTLD_DEFAULT, "qemu_get_cpu");
  *(void **)&qemu.run_alone = dlsym(RTLD_DEFAULT, "async_safe_run_on_cpu");
  *(void **)&qemu.forget_code = dlsym(RTLD_DEFAULT, "tb_flush");
  return qemu.first_cpu && qemu.run_alone && qemu.forget_code ? 0 : ENOSYS;
}

/* Never closed: the work may come later than we wait. */
static int done = -1;

/* Runs in a thread of the emulator while no other one is in translated code. */
static void drop_code(void *cpu, void *unused) {
  (void)unused;
  qemu.forget_code(cpu);
  for (int i = 0; i < code.count; i++) madvise(code.part[i].at, code.part[i].size, MADV_DONTNEED);
  eventfd_write(done, 1);
}

/* By a clock that nobody sets; -1 with errno. */
static int wait_until_done(void) {
  struct pollfd event = {done, POLLIN, 0};
  int ready;
  while ((ready = poll(&event, 1, TRIM_TIMEOUT_MS)) < 0 && errno == EINTR) continue;
  if (ready == 0) errno = ETIMEDOUT;
  return ready > 0 ? 0 : -1;
}

int trim(size_t at_most_mib, int client) {
  char line[48];
  eventfd_t count;
  void *cpu;
  int failed = find_code();
  size_t mib = failed ? 0 : count_code() / (1024 * 1024 / PAGE);
  if (failed || mib <= at_most_mib) return failed;
  if (find_qemu() != 0 || (cpu = qemu.first_cpu(0)) == NULL) return ENOSYS;
  if (done < 0 && (done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) return errno;
  eventfd_read(done, &count); /* what came too late for an earlier trim */
  qemu.run_alone(cpu, drop_code, NULL);
  if (wait_until_done() != 0) return errno;
  malloc_trim(0);
  write_whole(client, line, (size_t)snprintf(line, sizeof line, "trimmed %zu\n", mib));
  return 0;
}
