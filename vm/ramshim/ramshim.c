/*
 * ramshim: makes a guest's memory out of layers that no VMM writes to, and saves what the guest changed as a new one.
 *
 * Loaded into the VMM (LD_PRELOAD). The VMM is told to use a shared memory file, so that it leaves the memory out of
 * its device state (x-ignore-shared); when it maps that file, this library gives it private memory instead: anonymous
 * pages, with the pages of each layer file mapped over them copy-on-write. So a start costs no copy, clones share what
 * they have not written, and a layer never changes.
 *
 * A save forks the VMM: the child has the memory as it was at that moment and writes it at leisure, while the guest
 * goes on. So the guest stands still for the fork only, whatever its size.
 *
 * Environment: GATEWAY_RAM_FILE   the placeholder file whose mapping is replaced
 *              GATEWAY_RAM_LAYERS layer files, bottom first, one a line; may be empty
 *              GATEWAY_RAM_SOCKET unix socket on which saves are asked for
 *
 * Requests, one a connection: "kept PATH\n" writes to a new file what differs from the bottom layer, "new PATH\n" all that
 * is not zero. Answers: "forked\n", then "done ERRNO\n" when the file is whole (0) or could not be written.
 *
 * A layer file: "GWRAMLR1", then little-endian u32 page size, u32 number of extents, u64 size of the memory; per extent
 * u32 first page, u32 number of pages; the pages follow from the next page boundary on, in the order of the extents.
 * It must not interpret what is in the pages.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u

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
static struct {
  char *base;
  size_t size, pages;
  uint8_t *bottom, *above; /* which pages the bottom layer has, which the others */
  uint8_t *wanted;         /* which pages the save under way writes */
  struct extent *extents;
  uint64_t *entries; /* of pagemap, CHUNK at a time */
  int listener;
} ram;

#define CHUNK 65536u

static void *map_pages(void *at, size_t size, int prot, int flags, int fd, off_t offset) {
  return (void *)syscall(SYS_mmap, at, size, prot, flags, fd, offset);
}

static int complain(const char *what, const char *path) {
  fprintf(stderr, "ramshim: cannot %s \"%s\": %s\n", what, path, strerror(errno));
  return -1;
}

static int read_whole(int fd, void *into, size_t size, off_t offset) {
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

static int check_header(const struct header *h, size_t size, off_t file_size) {
  errno = EINVAL;
  if (memcmp(h->magic, "GWRAMLR1", 8) != 0 || h->page_size != PAGE || h->memory_size != size) return -1;
  if (h->extents > size / PAGE) return -1;
  return (off_t)(sizeof *h + (uint64_t)h->extents * sizeof(struct extent)) <= file_size ? 0 : -1;
}

static void mark(uint8_t *set, struct extent e) {
  for (uint32_t page = e.first; page < e.first + e.count; page++) set[page / 8] |= (uint8_t)(1u << page % 8);
}

static int has(const uint8_t *set, size_t page) { return set[page / 8] >> page % 8 & 1; }

/* Maps each extent of an open layer over the memory at base, and notes in set which pages it has. */
static int map_extents(int fd, char *base, size_t size, int prot, uint8_t *set) {
  struct stat info;
  struct header h;
  if (fstat(fd, &info) != 0 || read_whole(fd, &h, sizeof h, 0) != 0 || check_header(&h, size, info.st_size) != 0) return -1;
  size_t bytes = h.extents * sizeof(struct extent);
  struct extent *list = malloc(bytes + 1);
  if (!list) return -1;
  int result = read_whole(fd, list, bytes, sizeof h);
  off_t offset = (off_t)((sizeof h + bytes + PAGE - 1) / PAGE * PAGE);
  for (uint32_t i = 0; i < h.extents && result == 0; i++) {
    uint64_t first = (uint64_t)list[i].first * PAGE, length = (uint64_t)list[i].count * PAGE;
    errno = EINVAL;
    if (length == 0 || first + length > size || offset + (off_t)length > info.st_size) result = -1;
    else if (map_pages(base + first, length, prot, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, offset) == MAP_FAILED) result = -1;
    else mark(set, list[i]);
    offset += (off_t)length;
  }
  free(list);
  return result;
}

static int map_layer(const char *path, char *base, size_t size, int prot, uint8_t *set) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return complain("open the memory layer", path);
  int result = map_extents(fd, base, size, prot, set);
  if (result != 0) complain("map the memory layer", path);
  close(fd);
  return result;
}

static int map_layers(char *base, size_t size, int prot) {
  const char *list = getenv("GATEWAY_RAM_LAYERS");
  char *copy = strdup(list ? list : ""), *rest = copy, *path;
  if (!copy) return -1;
  int result = 0, count = 0;
  while (result == 0 && (path = strsep(&rest, "\n")) != NULL)
    if (*path) result = map_layer(path, base, size, prot, count++ == 0 ? ram.bottom : ram.above);
  free(copy);
  return result;
}

/* ---- saving: what follows up to save_child runs in the forked child, which may only make system calls ---- */

#define PRESENT_OR_SWAPPED (3ull << 62)
#define FILE_PAGE (1ull << 61)

static int is_zero(const char *page) {
  const uint64_t *word = (const uint64_t *)page;
  for (size_t i = 0; i < PAGE / 8; i += 8)
    if (word[i] | word[i + 1] | word[i + 2] | word[i + 3] | word[i + 4] | word[i + 5] | word[i + 6] | word[i + 7]) return 0;
  return 1;
}

/* A page is written when it is the VMM's own (changed since it was mapped) or of a layer that will not be there. */
static int is_wanted(size_t page, uint64_t entry, int kept) {
  int own = (entry & PRESENT_OR_SWAPPED) != 0 && (entry & FILE_PAGE) == 0;
  if (!own && !has(ram.above, page) && (kept || !has(ram.bottom, page))) return 0;
  /* Nothing below means zeros below. */
  return (kept && has(ram.bottom, page)) || !is_zero(ram.base + page * PAGE);
}

static int find_wanted(int kept) {
  int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  for (size_t base = 0; base < ram.pages; base += CHUNK) {
    size_t count = ram.pages - base < CHUNK ? ram.pages - base : CHUNK;
    off_t offset = (off_t)(((uintptr_t)ram.base / PAGE + base) * 8);
    if (read_whole(fd, ram.entries, count * 8, offset) != 0) return errno;
    for (size_t i = 0; i < count; i++)
      if (is_wanted(base + i, ram.entries[i], kept)) ram.wanted[(base + i) / 8] |= (uint8_t)(1u << (base + i) % 8);
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

static int write_whole(int fd, const void *from, size_t size) {
  for (size_t at = 0; at < size;) {
    ssize_t put = write(fd, (const char *)from + at, size - at);
    if (put < 0 && errno != EINTR) return errno;
    if (put > 0) at += (size_t)put;
  }
  return 0;
}

static int write_layer(int fd, uint32_t count) {
  static const char padding[PAGE];
  struct header h = {"", PAGE, count, ram.size};
  memcpy(h.magic, "GWRAMLR1", 8);
  size_t index = sizeof h + count * sizeof(struct extent);
  int result = write_whole(fd, &h, sizeof h);
  if (result == 0) result = write_whole(fd, ram.extents, count * sizeof(struct extent));
  if (result == 0) result = write_whole(fd, padding, (PAGE - index % PAGE) % PAGE);
  for (uint32_t i = 0; i < count && result == 0; i++)
    result = write_whole(fd, ram.base + (size_t)ram.extents[i].first * PAGE, (size_t)ram.extents[i].count * PAGE);
  return result;
}

/* What the VMM has open is not the child's: a disk's lock would live on here after the VMM gave it up. */
static void give_up_files(int told) {
  if (dup2(told, 3) != 3) _exit(errno);
  if (syscall(SYS_close_range, 4u, ~0u, 0u) != 0)
    for (int fd = 4; fd < 65536; fd++) close(fd);
  if (write(3, "", 1) != 1) _exit(errno);
  close(3);
}

static void save_child(const char *path, int kept, int told) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  give_up_files(told);
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  int result = fd < 0 ? errno : find_wanted(kept);
  if (result == 0) result = write_layer(fd, list_extents());
  if (result != 0 && fd >= 0) unlink(path);
  _exit(result);
}

/* ---- the save thread ---- */

static int fork_and_save(const char *path, int kept, int answer_to) {
  int ready[2];
  char byte;
  memset(ram.wanted, 0, ram.pages / 8 + 1);
  if (pipe2(ready, O_CLOEXEC) != 0) return errno;
  /* The VMM keeps its guest's memory out of forks; this one is for it. */
  int failed = madvise(ram.base, ram.size, MADV_DOFORK) == 0 ? 0 : errno;
  /* No exit signal: the VMM knows nothing of this child. */
  long child = failed ? -1 : syscall(SYS_clone, 0, 0, 0, 0, 0);
  if (child == 0) save_child(path, kept, ready[1]);
  if (child < 0 && !failed) failed = errno;
  madvise(ram.base, ram.size, MADV_DONTFORK);
  close(ready[1]);
  /* Nothing comes when the child died at once; its exit code tells why. */
  if (child >= 0 && read(ready[0], &byte, 1) == 1) write_whole(answer_to, "forked\n", 7);
  close(ready[0]);
  if (child < 0) return failed;
  int status = 0;
  while (waitpid((pid_t)child, &status, __WALL) < 0)
    if (errno != EINTR) return errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

static void answer(int fd) {
  char line[1100], reply[32];
  size_t length = 0;
  while (length < sizeof line - 1) {
    ssize_t got = read(fd, line + length, sizeof line - 1 - length);
    if (got <= 0) return;
    length += (size_t)got;
    if (line[length - 1] == '\n') break;
  }
  line[length ? length - 1 : 0] = 0;
  int kept = strncmp(line, "kept ", 5) == 0, fresh = strncmp(line, "new ", 4) == 0;
  int result = kept || fresh ? fork_and_save(line + (kept ? 5 : 4), kept, fd) : EINVAL;
  int size = snprintf(reply, sizeof reply, "done %d\n", result);
  write_whole(fd, reply, (size_t)size);
}

static void *serve(void *unused) {
  (void)unused;
  for (;;) {
    int fd = accept4(ram.listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) continue;
    answer(fd);
    close(fd);
  }
  return NULL;
}

/* The VMM's own sandbox would forbid the fork, too; this forbids what the fork is not for. */
static int forbid_exec(void) {
#if defined(__x86_64__)
  const uint32_t arch = AUDIT_ARCH_X86_64;
#else
  const uint32_t arch = AUDIT_ARCH_AARCH64;
#endif
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, arch, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execve, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execveat, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0 ? 0 : -1;
}

static int listen_for_saves(void) {
  const char *path = getenv("GATEWAY_RAM_SOCKET");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  errno = EINVAL;
  if (!path || strlen(path) >= sizeof address.sun_path) return complain("use the socket", path ? path : "");
  strcpy(address.sun_path, path);
  ram.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  unlink(path);
  if (ram.listener < 0 || bind(ram.listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(ram.listener, 4) != 0)
    return complain("listen on", path);
  sigset_t all, before;
  sigfillset(&all);
  pthread_t thread;
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = pthread_create(&thread, NULL, serve, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  errno = failed;
  return failed ? complain("start the thread of", path) : 0;
}

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

void *mmap64(void *at, size_t size, int prot, int flags, int fd, off64_t offset) {
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
  ram.base = base;
  if (forbid_exec() != 0 || listen_for_saves() != 0) {
    complain("prepare to save", "the guest's memory");
    errno = EINVAL;
    return MAP_FAILED;
  }
  errno = saved;
  return base;
}

void *mmap(void *at, size_t size, int prot, int flags, int fd, off_t offset) {
  return mmap64(at, size, prot, flags, fd, offset);
}
