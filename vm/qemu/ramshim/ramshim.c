/*
 * ramshim: makes a guest's memory out of layers that no VMM writes to, and saves what the guest changed as a new one.
 *
 * Loaded into the VMM (LD_PRELOAD). The VMM is told to use a shared memory file, so that it leaves the memory out of
 * its device state (x-ignore-shared); when it maps that file, this library gives it private memory instead: anonymous
 * pages, with the pages of each layer file mapped over them copy-on-write. So a start costs no copy, clones share what
 * they have not written, and a layer never changes.
 *
 * A save forks the VMM: the child has the memory as it was at that moment and writes it at leisure, while the guest
 * goes on. So the guest stands still for the fork only, whatever its size. A layer that was written can be adopted: what
 * the guest has not changed since is mapped from that file, so that the VMM shares it with the clones that start from it.
 *
 * An emulator's translated code is never given back by itself; a trim makes it forget the code and returns the memory.
 *
 * Environment: GATEWAY_RAM_FILE   the placeholder file whose mapping is replaced
 *              GATEWAY_RAM_LAYERS layer files, bottom first, one a line; may be empty
 *              GATEWAY_RAM_SOCKET unix socket on which it is asked
 *              GATEWAY_CONFINE    what the VMM may use, "WORD PATH" a line, each with all that is below a folder:
 *                                 "read", "write" (and read), "make" (files and sockets, too), "connect" (a socket)
 *
 * Requests, one a connection, each ends with "done ERRNO\n":
 *   "kept PATH\n"     writes to a new file what differs from the bottom layer
 *   "new PATH\n"      the same with all that is not zero
 *   "changed PATH\n"  the same with what differs from all layers, the adopted ones among them
 *                     each answers "forked\n" when the guest may go on, and "done" when the file is whole
 *   "MODE+adopt PATH\n" answers "written\n" then, and waits for "adopt\n", which is sent while the guest stands still
 *   "confinement\n"   answers "landlock VERSION\n", or "unconfined ERRNO\n" where this kernel has no Landlock
 *   "trim MIB\n"      gives translated code back if it takes more than that; answers "trimmed MIB\n" before "done"
 *
 * A layer file: "GWRAMLR1", then little-endian u32 page size, u32 number of extents, u64 size of the memory; per extent
 * u32 first page, u32 number of pages; the pages follow from the next page boundary on, in the order of the extents.
 * It must not interpret what is in the pages.
 */
#include "ramshim.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Everything else is hidden: the VMM's own functions of the same names must stay its own. */
#define REPLACES __attribute__((visibility("default")))

struct memory ram;

static int prepare(size_t size) {
  ram.size = size;
  ram.pages = size / PAGE;
  size_t bytes = ram.pages / 8 + 1;
  ram.bottom = calloc(1, bytes);
  ram.above = calloc(1, bytes);
  ram.wanted = calloc(1, bytes);
  /* At worst every (GAP + 2)th page begins an extent. */
  ram.extents = malloc((ram.pages / (GAP + 2) + 2) * sizeof(struct extent));
  ram.entries = malloc(CHUNK * 8);
  return ram.bottom && ram.above && ram.wanted && ram.extents && ram.entries ? 0 : -1;
}

static int is_guest_memory(int fd, int flags) {
  const char *path = getenv("GATEWAY_RAM_FILE");
  struct stat wanted, found;
  if (fd < 0 || !path || ram.base || (flags & MAP_TYPE) == MAP_PRIVATE) return 0;
  if (fstat(fd, &found) != 0 || stat(path, &wanted) != 0) return 0;
  return wanted.st_dev == found.st_dev && wanted.st_ino == found.st_ino;
}

/* The kernel must not merge the guest's pages with equal ones, of another VM or its own: such a page is mapped more than
 * once, as one that is unchanged since a fork is (adopt.c), and how long a write to it takes tells what others have. A
 * kernel without merging does not know the call. */
static void stay_unmerged(char *base, size_t size) {
  int saved = errno;
  madvise(base, size, MADV_UNMERGEABLE);
  errno = saved;
}

REPLACES void *mmap64(void *at, size_t size, int prot, int flags, int fd, off64_t offset) {
  int saved = errno;
  if (!is_guest_memory(fd, flags)) {
    errno = saved;
    return map_pages(at, size, prot, flags, fd, offset);
  }
  int private = (flags & MAP_FIXED) | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  char *base = map_pages(at, size, prot, private, -1, 0);
  if (base == MAP_FAILED) return base;
  if (offset != 0 || size % PAGE || prepare(size) != 0 || map_layers(base, size, prot) != 0) {
    errno = EINVAL;
    return MAP_FAILED;
  }
  stay_unmerged(base, size);
  ram.base = base;
  if (listen_for_requests() != 0) {
    complain("prepare to save", "the guest's memory");
    errno = EINVAL;
    return MAP_FAILED;
  }
  errno = saved;
  return base;
}

/* A guest that goes on from layers writes a page here and one there: large pages would make each of them 2 MiB. */
REPLACES int madvise(void *at, size_t size, int advice) {
  const char *layers = getenv("GATEWAY_RAM_LAYERS");
  if (advice == MADV_MERGEABLE) return 0;
  if (advice == MADV_HUGEPAGE && ram.base && at == ram.base && layers && *layers) return 0;
  return (int)syscall(SYS_madvise, at, size, advice);
}

REPLACES void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset) {
  return mmap64(at, size, prot, flags, fd, offset);
}
