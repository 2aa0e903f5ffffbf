/* Stands for a VMM in the tests of vm/ramshim: maps a memory file as shared and pokes at it.
 * Lines on stdin: "w PAGE TEXT" writes the text to a page, "z PAGE" makes it zero, "r PAGE" prints what is there, "a PAGES"
 * what is in the first ones, "x" tries to run a program. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void) {
  size_t size = 16u << 20;
  int fd = open(getenv("GATEWAY_RAM_FILE"), O_RDWR | O_CREAT, 0600);
  if (fd < 0 || ftruncate(fd, (off_t)size) != 0) return 2;
  char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return 3;
  madvise(memory, size, MADV_DONTFORK);
  setvbuf(stdout, NULL, _IOLBF, 0);
  puts("ready");
  char line[200], text[100];
  unsigned page;
  while (fgets(line, sizeof line, stdin)) {
    if (sscanf(line, "w %u %99s", &page, text) == 2) { strcpy(memory + page * 4096u, text); puts("ok"); }
    else if (sscanf(line, "r %u", &page) == 1) printf("=%s\n", memory + page * 4096u);
    else if (sscanf(line, "z %u", &page) == 1) { memset(memory + page * 4096u, 0, 4096); puts("ok"); }
    else if (sscanf(line, "a %u", &page) == 1) {
      for (unsigned at = 0; at < page; at++) printf("%s,", memory + at * 4096u);
      puts("");
    }
    else if (line[0] == 'x') { execl("/bin/true", "true", (char *)NULL); puts("refused"); }
  }
  return 0;
}
