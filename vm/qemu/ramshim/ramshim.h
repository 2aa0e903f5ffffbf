/* What the parts of ramshim share; ramshim.c tells what it is for. */
#ifndef RAMSHIM_H
#define RAMSHIM_H
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A page of the host, which pagemap counts and mappings begin at; not of the guest. 4, 16 or 64 KiB. */
extern size_t host_page;
#define PAGE host_page
#define LARGEST_PAGE 65536u

struct header {
  char magic[8];
  uint32_t page_size, extents;
  uint64_t memory_size;
};

struct extent {
  uint32_t first, count;
};

/* Clean pages between two changed ones are written along: fewer mappings when the layer is loaded. */
#define GAP 8u

/* The guest's memory; the save thread is the only user after it was set. */
extern struct memory {
  char *base;
  size_t size, pages;
  uint8_t *bottom, *above; /* which pages the bottom layer has, which the others and the adopted ones */
  uint8_t *wanted;         /* which pages the save under way writes */
  struct extent *extents;
  uint64_t *entries; /* of pagemap, CHUNK at a time */
  int listener;
} ram;

#define CHUNK 65536u

#define PRESENT (1ull << 63)
#define SWAPPED (1ull << 62)
#define FILE_PAGE (1ull << 61)
#define MAPPED_ONCE (1ull << 56)

/* What is below a new file when it is loaded again. */
enum below { NOTHING, BOTTOM, ALL_LAYERS };

/* common.c: each gives -1 or an errno where it says so. */
void *map_pages(void *at, size_t size, int prot, int flags, int fd, off_t offset);
int complain(const char *what, const char *path);                       /* prints errno's words; -1 */
int read_whole(int fd, void *into, size_t size, off_t offset);          /* -1 with errno */
int write_whole(int fd, const void *from, size_t size);                 /* errno */
int open_pagemap(void);                                                 /* -1 with errno */
int read_pagemap(int fd, const void *from, size_t pages, uint64_t *into); /* -1 with errno */
void mark(uint8_t *set, struct extent e);
int has(const uint8_t *set, size_t page);

/* A layer file's list: count extents, whose pages lie one after the other in the file from pages on. */
struct layer {
  struct extent *list; /* the caller frees it */
  uint32_t count;
  off_t pages, file_size;
};

/* layers.c */
int read_layer(int fd, size_t size, struct layer *layer); /* -1 with errno: EINVAL when it is no layer of such a memory */
int map_layers(char *base, size_t size, int prot);        /* those of the environment; -1 when one is no layer of it */

/* save.c: writes the memory of now to a new file, and offers the client to adopt it; errno. */
int fork_and_save(const char *path, enum below below, int adopting, int client);

/* adopt.c: maps what the guest has not changed since the fork from that file; errno. The child must live still. */
int adopt(const char *path);

/* trim.c: gives translated code back if it is more; errno, ENOSYS where the VMM has no such functions. */
int trim(size_t at_most_mib, int client);

/* confine.c: how the process is confined, as a line; its length. */
size_t describe_confinement(char *line, size_t size);

/* serve.c: listens on the socket of the environment; -1 after complaining. */
int listen_for_requests(void);
size_t read_line(int fd, char *line, size_t size); /* its length; 0 at the end */

#endif
