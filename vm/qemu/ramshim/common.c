/* Small steps that the other parts share. */
#include "ramshim.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

size_t host_page;

__attribute__((constructor)) static void find_page_size(void) { host_page = getauxval(AT_PAGESZ); }

void *map_pages(void *at, size_t size, int prot, int flags, int fd, off_t offset) {
  return (void *)syscall(SYS_mmap, at, size, prot, flags, fd, offset);
}

int complain(const char *what, const char *path) {
  fprintf(stderr, "ramshim: cannot %s \"%s\": %s\n", what, path, strerror(errno));
  return -1;
}

int read_whole(int fd, void *into, size_t size, off_t offset) {
  for (size_t at = 0; at < size;) {
    ssize_t got = pread(fd, (char *)into + at, size - at, offset + (off_t)at);
    if (got <= 0) {
      if (got == 0) errno = EINVAL;
      return -1;
    }
    at += (size_t)got;
  }
  return 0;
}

int write_whole(int fd, const void *from, size_t size) {
  for (size_t at = 0; at < size;) {
    ssize_t put = write(fd, (const char *)from + at, size - at);
    if (put < 0 && errno != EINTR) return errno;
    if (put > 0) at += (size_t)put;
  }
  return 0;
}

int open_pagemap(void) { return open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC); }

int read_pagemap(int fd, const void *from, size_t pages, uint64_t *into) {
  return read_whole(fd, into, pages * 8, (off_t)((uintptr_t)from / PAGE * 8));
}

void mark(uint8_t *set, struct extent e) {
  for (uint32_t page = e.first; page < e.first + e.count; page++) set[page / 8] |= (uint8_t)(1u << page % 8);
}

int has(const uint8_t *set, size_t page) { return set[page / 8] >> page % 8 & 1; }
