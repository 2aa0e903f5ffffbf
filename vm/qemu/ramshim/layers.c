/* Maps layer files over memory. It must not interpret what is in their pages. */
#include "ramshim.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int check_header(const struct header *h, size_t size, off_t file_size) {
  errno = EINVAL;
  if (memcmp(h->magic, "GWRAMLR1", 8) != 0 || h->page_size != PAGE || h->memory_size != size) return -1;
  if (h->extents > size / PAGE) return -1;
  return (off_t)(sizeof *h + (uint64_t)h->extents * sizeof(struct extent)) <= file_size ? 0 : -1;
}

/* As a save writes them: within the memory, one above the other, and all of their pages in the file. So no page is looked
 * at twice, however long the list is. */
static int check_extents(const struct layer *layer, size_t size) {
  uint64_t next = 0, pages = 0;
  errno = EINVAL;
  for (uint32_t i = 0; i < layer->count; i++) {
    struct extent e = layer->list[i];
    if (e.count == 0 || e.first < next) return -1;
    next = (uint64_t)e.first + e.count;
    pages += e.count;
  }
  return next <= size / PAGE && layer->pages + (off_t)(pages * PAGE) <= layer->file_size ? 0 : -1;
}

int read_layer(int fd, size_t size, struct layer *layer) {
  struct stat info;
  struct header h;
  if (fstat(fd, &info) != 0 || read_whole(fd, &h, sizeof h, 0) != 0 || check_header(&h, size, info.st_size) != 0) return -1;
  size_t bytes = h.extents * sizeof(struct extent);
  struct extent *list = malloc(bytes + 1);
  if (!list) return -1;
  if (read_whole(fd, list, bytes, sizeof h) != 0) {
    free(list);
    return -1;
  }
  *layer = (struct layer){list, h.extents, (off_t)((sizeof h + bytes + PAGE - 1) / PAGE * PAGE), info.st_size};
  if (check_extents(layer, size) == 0) return 0;
  free(list);
  return -1;
}

/* Maps each extent of an open layer over the memory at base, and notes in set which pages it has. */
static int map_extents(int fd, char *base, size_t size, int prot, uint8_t *set) {
  struct layer layer;
  if (read_layer(fd, size, &layer) != 0) return -1;
  int result = 0;
  off_t offset = layer.pages;
  for (uint32_t i = 0; i < layer.count && result == 0; i++) {
    struct extent e = layer.list[i];
    uint64_t first = (uint64_t)e.first * PAGE, length = (uint64_t)e.count * PAGE;
    if (map_pages(base + first, length, prot, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, offset) == MAP_FAILED) result = -1;
    else mark(set, e);
    offset += (off_t)length;
  }
  free(layer.list);
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

int map_layers(char *base, size_t size, int prot) {
  const char *list = getenv("GATEWAY_RAM_LAYERS");
  char *copy = strdup(list ? list : ""), *rest = copy, *path;
  if (!copy) return -1;
  int result = 0, count = 0;
  while (result == 0 && (path = strsep(&rest, "\n")) != NULL)
    if (*path) result = map_layer(path, base, size, prot, count++ == 0 ? ram.bottom : ram.above);
  free(copy);
  return result;
}
