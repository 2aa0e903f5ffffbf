/* Writes a new layer: a forked child has the memory as it was, and the VMM's own thread waits for it. */
#include "ramshim.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- in the child, which may only make system calls ---- */

static int is_zero(const char *page) {
  const uint64_t *word = (const uint64_t *)page;
  for (size_t i = 0; i < PAGE / 8; i += 8)
    if (word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] | word[i + 5] | word[i + 6] | word[i + 7]) return 0;
  return 1;
}

/* A page is written when it is the VMM's own (changed since it was mapped) or of a layer that will not be there. */
static int is_wanted(size_t page, uint64_t entry, enum below below) {
  int own = (entry & (PRESENT | SWAPPED)) != 0 && (entry & FILE_PAGE) == 0;
  int gone = (below != ALL_LAYERS && has(ram.above, page)) || (below == NOTHING && has(ram.bottom, page));
  if (!own && !gone) return 0;
  int covered = (below != NOTHING && has(ram.bottom, page)) || (below == ALL_LAYERS && has(ram.above, page));
  /* Nothing below means zeros below. */
  return covered || !is_zero(ram.base + page * PAGE);
}

static int find_wanted(enum below below) {
  int fd = open_pagemap();
  if (fd < 0) return errno;
  for (size_t base = 0; base < ram.pages; base += CHUNK) {
    size_t count = ram.pages - base < CHUNK ? ram.pages - base : CHUNK;
    if (read_pagemap(fd, ram.base + base * PAGE, count, ram.entries) != 0) return errno;
    for (size_t i = 0; i < count; i++)
      if (is_wanted(base + i, ram.entries[i], below)) ram.wanted[(base + i) / 8] |= (uint8_t)(1u << (base + i) % 8);
  }
  close(fd);
  return 0;
}

static uint32_t list_extents(void) {
  uint32_t count = 0;
  for (size_t page = 0; page < ram.pages; page++) {
    if (!has(ram.wanted, page)) continue;
    struct extent *last = count ? &ram.extents[count - 1] : NULL;
    if (last && page - (last->first + last->count) <= GAP) last->count = (uint32_t)(page + 1 - last->first);
    else ram.extents[count++] = (struct extent){(uint32_t)page, 1};
  }
  return count;
}

static int write_layer(int fd, uint32_t count) {
  static const char padding[LARGEST_PAGE];
  struct header h = {"", (uint32_t)PAGE, count, ram.size};
  memcpy(h.magic, "GWRAMLR1", 8);
  size_t index = sizeof h + count * sizeof(struct extent);
  int result = write_whole(fd, &h, sizeof h);
  if (result == 0) result = write_whole(fd, ram.extents, count * sizeof(struct extent));
  if (result == 0) result = write_whole(fd, padding, (PAGE - index % PAGE) % PAGE);
  for (uint32_t i = 0; i < count && result == 0; i++)
    result = write_whole(fd, ram.base + (size_t)ram.extents[i].first * PAGE, (size_t)ram.extents[i].count * PAGE);
  return result;
}

/* Pipe ends of the child. What else the VMM has open is not its: a disk's lock would live on here after the VMM gave it
 * up. */
#define TELL 3
#define HEAR 4

static void give_up_files(int tell, int hear) {
  int high = fcntl(hear, F_DUPFD, 16);
  if (high < 0 || dup2(tell, TELL) != TELL || dup2(high, HEAR) != HEAR) _exit(errno);
  if (syscall(SYS_close_range, HEAR + 1u, ~0u, 0u) != 0)
    for (int fd = HEAR + 1; fd < 65536; fd++) close(fd);
}

static void save_child(const char *path, enum below below, int tell, int hear) {
  char byte = 0;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  give_up_files(tell, hear);
  if (write(TELL, "", 1) != 1) _exit(errno);
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  int result = fd < 0 ? errno : find_wanted(below);
  if (result == 0) result = write_layer(fd, list_extents());
  if (result != 0 && fd >= 0) unlink(path);
  /* As long as it lives, what the guest has not changed is mapped twice. */
  if (result == 0 && write(TELL, "", 1) == 1 && read(HEAR, &byte, 1) < 0) result = errno;
  _exit(result);
}

/* ---- in the VMM ---- */

/* What is done when the file is whole, as long as the child lives. */
static int offer_adoption(const char *path, int client) {
  char line[32];
  write_whole(client, "written\n", 8);
  return read_line(client, line, sizeof line) && strcmp(line, "adopt") == 0 ? adopt(path) : 0;
}

/* Pipes to and from the child of a save. */
struct pipes {
  int hear[2], tell[2];
};

static int fork_child(const char *path, enum below below, struct pipes *pipes, long *child) {
  memset(ram.wanted, 0, ram.pages / 8 + 1);
  /* The VMM keeps its guest's memory out of forks; this one is for it. */
  int failed = madvise(ram.base, ram.size, MADV_DOFORK) == 0 ? 0 : errno;
  /* No exit signal: the VMM knows nothing of this child. */
  *child = failed ? -1 : syscall(SYS_clone, 0, 0, 0, 0, 0);
  if (*child == 0) save_child(path, below, pipes->hear[1], pipes->tell[0]);
  if (*child < 0 && !failed) failed = errno;
  madvise(ram.base, ram.size, MADV_DONTFORK);
  close(pipes->hear[1]);
  close(pipes->tell[0]);
  return failed;
}

int fork_and_save(const char *path, enum below below, int adopting, int client) {
  struct pipes pipes;
  long child;
  char byte;
  int adopted = 0;
  if (pipe2(pipes.hear, O_CLOEXEC) != 0) return errno;
  if (pipe2(pipes.tell, O_CLOEXEC) != 0) {
    int failed = errno;
    close(pipes.hear[0]);
    close(pipes.hear[1]);
    return failed;
  }
  int failed = fork_child(path, below, &pipes, &child);
  /* Nothing comes when the child ended; its exit code tells why. */
  if (!failed && read(pipes.hear[0], &byte, 1) == 1) {
    write_whole(client, "forked\n", 7);
    if (read(pipes.hear[0], &byte, 1) == 1 && adopting) adopted = offer_adoption(path, client);
  }
  close(pipes.tell[1]);
  close(pipes.hear[0]);
  if (failed) return failed;
  int status = 0;
  while (waitpid((pid_t)child, &status, __WALL) < 0)
    if (errno != EINTR) return errno;
  failed = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
  return failed ? failed : adopted;
}
