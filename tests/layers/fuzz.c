/* A fuzz target for ramshim's reader of layer files, in libFuzzer's form, and a small driver for a compiler without that.
 *
 * Memory of PAGES pages stands between two that must not change. Each input is a layer file, which is mapped and adopted;
 * afterwards the memory has to be what the file says, or what it was before. With the sanitizers of addresses and
 * undefined behaviour, which watch the sets of pages and the list.
 *
 * Driver: fuzz RUNS SEED-OF-RANDOM FILE…: each file as it is, then RUNS changed ones. An input that reaches code which none
 * before did (by -fsanitize-coverage=trace-pc) is changed further. The same arguments give the same inputs. Input number N
 * is written to the file that CRASH names before it is tried. */
#include "../../vm/qemu/ramshim/ramshim.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES 16u
#define MOST (8 * 4096u)

struct memory ram;
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int good, const char *what) {
  if (good) return;
  fprintf(stderr, "the layer reader is wrong: %s\n", what);
  abort();
}

/* Linked in place of the one that prints (--wrap=complain). */
int __wrap_complain(const char *what, const char *path);
int __wrap_complain(const char *what, const char *path) { return what && path ? -1 : -1; }

static char *around;

static void begin(void) {
  if (!around) around = mmap(NULL, (PAGES + 2) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ram.base = around + PAGE;
  ram.size = PAGES * PAGE;
  ram.pages = PAGES;
  void *fresh = mmap(ram.base, ram.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
  demand(around != MAP_FAILED && fresh == ram.base, "no memory");
  memset(around, 0xa5, PAGE);
  memset(around + (PAGES + 1) * PAGE, 0xa5, PAGE);
  free(ram.bottom);
  free(ram.above);
  free(ram.entries);
  ram.bottom = calloc(1, PAGES / 8 + 1);
  ram.above = calloc(1, PAGES / 8 + 1);
  ram.entries = malloc(CHUNK * 8);
}

static void check_around(void) {
  for (size_t i = 0; i < PAGE; i++)
    demand(around[i] == (char)0xa5 && around[(PAGES + 1) * PAGE + i] == (char)0xa5, "it wrote beside the memory");
}

/* Walks the list in the plainest way, and compares each page with the file's. */
static void check_pages(const uint8_t *data, size_t size) {
  struct header h;
  static const char zeros[LARGEST_PAGE];
  memcpy(&h, data, sizeof h);
  size_t at = (sizeof h + h.extents * sizeof(struct extent) + PAGE - 1) / PAGE * PAGE;
  uint8_t seen[PAGES] = {0};
  for (uint32_t i = 0; i < h.extents; i++) {
    struct extent e;
    memcpy(&e, data + sizeof h + i * sizeof e, sizeof e);
    for (uint64_t page = e.first; page < (uint64_t)e.first + e.count; page++, at += PAGE) {
      demand(page < PAGES && at + PAGE <= size && !seen[page], "it took a list that no save writes");
      seen[page] = 1;
      demand(memcmp(ram.base + page * PAGE, data + at, PAGE) == 0, "a page is not the file's");
    }
  }
  for (uint32_t page = 0; page < PAGES; page++) {
    demand(has(ram.bottom, page) == seen[page], "the set is not the list");
    if (!seen[page]) demand(memcmp(ram.base + page * PAGE, zeros, PAGE) == 0, "a page that is not in the file changed");
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static int fd = -1;
  static char path[64];
  if (fd < 0) {
    fd = memfd_create("layer", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    setenv("GATEWAY_RAM_LAYERS", path, 1);
  }
  demand(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size, "no file");
  begin();
  int mapped = map_layers(ram.base, ram.size, PROT_READ | PROT_WRITE);
  check_around();
  if (mapped == 0) check_pages(data, size);
  begin();
  /* Untouched memory is adopted whole, where the kernel lets us look. */
  int adopted = adopt(path);
  check_around();
  demand(adopted != 0 || mapped == 0, "it adopts what it would not map");
  if (mapped != 0)
    for (uint32_t page = 0; page < PAGES; page++) demand(!has(ram.above, page), "it marked pages of a bad layer");
  return 0;
}

#ifndef LIBFUZZER
/* ---- the driver ---- */

#define POOL 4096u

static struct input { uint8_t *data; size_t size; } pool[POOL];
static unsigned pooled;
static uint8_t reached[1u << 16];
static int is_new;
static uint64_t state;

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void) {
  uintptr_t from = (uintptr_t)__builtin_return_address(0);
  size_t slot = (from ^ from >> 16) & (sizeof reached - 1);
  if (!reached[slot]) reached[slot] = (uint8_t)(is_new = 1);
}

static uint32_t below(uint32_t limit) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 33) % limit;
}

static void keep(const uint8_t *data, size_t size) {
  if (pooled == POOL) return;
  pool[pooled] = (struct input){malloc(size + 1), size};
  memcpy(pool[pooled++].data, data, size);
}

/* Numbers that borders are made of. */
static uint32_t number(void) {
  const uint32_t some[] = {0, 1, 2, PAGES - 1, PAGES, PAGES + 1, (uint32_t)PAGE, 1u << 20, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff};
  return below(2) ? below(PAGES + 2) : some[below(sizeof some / sizeof *some)];
}

static size_t change(uint8_t *into) {
  struct input from = pool[below(pooled)];
  size_t size = from.size;
  memcpy(into, from.data, size);
  for (uint32_t times = 1 + below(4); times > 0; times--) {
    uint32_t value = number();
    /* Mostly in the header and the list. */
    size_t near = size < 64 ? size : 64;
    switch (below(6)) {
    case 0: if (size) into[below((uint32_t)(below(4) ? near : size))] ^= (uint8_t)(1u << below(8)); break;
    case 1: if (size) into[below((uint32_t)near)] = (uint8_t)below(256); break;
    case 2: case 3: if (size >= 28) memcpy(into + 4 * below((uint32_t)near / 4), &value, 4); break;
    case 4: size = below(4) ? size / PAGE * PAGE : below((uint32_t)size + 1); break;
    default: { size_t more = below(2) ? PAGE : below(40);
      if (size + more <= MOST) { memset(into + size, (int)below(256), more); size += more; } }
    }
  }
  return size;
}

static void try(const uint8_t *data, size_t size) {
  const char *crash = getenv("CRASH");
  int fd = crash ? open(crash, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
  if (fd >= 0) demand(write(fd, data, size) == (ssize_t)size, "no file for the input");
  if (fd >= 0) close(fd);
  is_new = 0;
  LLVMFuzzerTestOneInput(data, size);
  if (is_new) keep(data, size);
}

int main(int count, char **words) {
  static uint8_t data[MOST];
  if (count < 4) return 2;
  state = strtoull(words[2], NULL, 10);
  for (int i = 3; i < count; i++) {
    FILE *file = fopen(words[i], "re");
    if (!file) { perror(words[i]); return 2; }
    size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    try(data, size);
    keep(data, size);
  }
  for (unsigned long run = strtoul(words[1], NULL, 10); run > 0; run--) try(data, change(data));
  printf("%u inputs reach something of their own\n", pooled);
  return 0;
}
#endif
