/* Adopts a layer that was just written: maps it where the guest has not changed anything since, while it stands still. */
#include "ramshim.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* What was changed after the fork is in a page of the VMM's alone; all else is what the child wrote to the file. */
static int is_unchanged(uint64_t entry) {
  if (entry & SWAPPED) return 0;
  return !(entry & PRESENT) || (entry & FILE_PAGE) || !(entry & MAPPED_ONCE);
}

/* Whether this kernel tells pages of one process from shared ones: a page just made is of one. */
static int tells_shared(int pagemap) {
  uint64_t entry = 0;
  char *page = map_pages(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return 0;
  *(volatile char *)page = 1;
  int failed = read_pagemap(pagemap, page, 1, &entry);
  munmap(page, PAGE);
  return !failed && (entry & (PRESENT | MAPPED_ONCE | FILE_PAGE)) == (PRESENT | MAPPED_ONCE);
}

/* Shorter runs stay as they are: each one is a mapping more, and a process may have 65530 of them. */
#define RUN_AT_LEAST 4u
#define MAPPINGS_AT_MOST 20000u

static int adopt_run(int fd, struct extent run, off_t offset) {
  char *at = ram.base + (uint64_t)run.first * PAGE;
  size_t size = (size_t)run.count * PAGE;
  void *mapped = map_pages(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, offset);
  return mapped == MAP_FAILED ? errno : 0;
}

/* Maps what is unchanged of one extent, whose pages lie in the file from offset on. */
static int adopt_extent(int fd, int pagemap, struct extent e, off_t offset, uint32_t *mappings) {
  for (uint32_t base = 0; base < e.count; base += CHUNK) {
    uint32_t count = e.count - base < CHUNK ? e.count - base : CHUNK;
    if (read_pagemap(pagemap, ram.base + ((uint64_t)e.first + base) * PAGE, count, ram.entries) != 0) return errno;
    for (uint32_t from = 0, to; from < count; from = to + 1) {
      for (to = from; to < count && is_unchanged(ram.entries[to]); to++) continue;
      if (to - from < RUN_AT_LEAST) continue;
      if (++*mappings > MAPPINGS_AT_MOST) return 0;
      struct extent run = {e.first + base + from, to - from};
      int failed = adopt_run(fd, run, offset + (off_t)(base + from) * PAGE);
      if (failed) return failed;
    }
  }
  return 0;
}

static int adopt_file(int fd, int pagemap) {
  struct layer layer;
  uint32_t mappings = 0;
  if (!tells_shared(pagemap)) return ENOTSUP;
  if (read_layer(fd, ram.size, &layer) != 0) return errno;
  int result = 0;
  off_t offset = layer.pages;
  for (uint32_t i = 0; i < layer.count && result == 0; i++) {
    /* Who starts from this file has all of its pages, also those that are not mapped here: a later layer has to say what
     * is in them now, even if that is zeros. */
    mark(ram.above, layer.list[i]);
    result = adopt_extent(fd, pagemap, layer.list[i], offset, &mappings);
    offset += (off_t)layer.list[i].count * PAGE;
  }
  free(layer.list);
  return result;
}

int adopt(const char *path) {
  int pagemap = open_pagemap(), fd = open(path, O_RDONLY | O_CLOEXEC);
  int result = pagemap < 0 || fd < 0 ? errno : adopt_file(fd, pagemap);
  if (pagemap >= 0) close(pagemap);
  if (fd >= 0) close(fd);
  return result;
}
