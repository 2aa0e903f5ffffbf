/* Stands for a VMM in the tests of vm/qemu/ramshim: maps a memory file as shared and pokes at it.
 * Lines on stdin: "w PAGE TEXT" writes the text to a page, "z PAGE" makes it zero, "r PAGE" prints what is there, "a PAGES"
 * what is in the first ones, "x" tries to run a program, "e TIMES" makes accept fail, "p" prints how often the library has
 * paused after that, "t" makes what a trim of translated code finds, and a wall clock that is an hour behind. "o PATH" opens
 * a file, "c PATH" makes one, "u PATH" removes one, "n" tries the network, "k PID" a signal: each prints errno, 0 for none. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile int failing, pauses, is_late;

/* These stand before libc's for the library, too. */
int accept4(int fd, struct sockaddr *from, socklen_t *size, int flags) {
  int got = (int)syscall(SYS_accept4, fd, from, size, flags);
  if (got < 0 || failing == 0) return got;
  failing--;
  close(got);
  errno = EMFILE;
  return -1;
}

int poll(struct pollfd *list, nfds_t count, int ms) {
  struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
  if (count == 0) pauses++;
  return (int)syscall(SYS_ppoll, list, count, &left, NULL, 0);
}

int clock_gettime(clockid_t id, struct timespec *now) {
  int result = (int)syscall(SYS_clock_gettime, id, now);
  if (id == CLOCK_REALTIME && is_late) now->tv_sec -= 3600;
  return result;
}

/* QEMU's functions that a trim uses; the work is done a moment later. */
struct work {
  void (*what)(void *, void *);
  void *data;
};

static void *work_later(void *work) {
  usleep(200000);
  ((struct work *)work)->what(NULL, ((struct work *)work)->data);
  return NULL;
}

void *qemu_get_cpu(int index) { return index == 0 && is_late ? (void *)&is_late : NULL; }
void tb_flush(void *cpu) { (void)cpu; }
void async_safe_run_on_cpu(void *cpu, void (*what)(void *, void *), void *data) {
  static struct work work;
  pthread_t thread;
  (void)cpu;
  work = (struct work){what, data};
  pthread_create(&thread, NULL, work_later, &work);
}

static void make_code(void) {
  size_t size = 8u << 20;
  char *code = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code != MAP_FAILED) memset(code, 1, size);
  is_late = 1;
}

/* Its calls fail as on a kernel that does not know them. */
static void hide_landlock(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 444, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

/* Of before the library took anything. */
static int early_socket;

static void before_libraries(int count, char **arguments, char **environment) {
  (void)count, (void)arguments;
  /* As a service manager may have done. */
  prctl(67 /* PR_SET_MEMORY_MERGE */, 1, 0, 0, 0);
  early_socket = (int)syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
  for (; *environment; environment++)
    if (strncmp(*environment, "RAMUSER_OLD_KERNEL=", 19) == 0) hide_landlock();
}

__attribute__((section(".preinit_array"), used)) static void (*const first)(int, char **, char **) = before_libraries;

static int error_of(int result) { return result < 0 ? errno : 0; }

static void try_network(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int tcp = error_of(socket(AF_INET, SOCK_STREAM, 0)), udp = error_of(socket(AF_INET, SOCK_DGRAM, 0));
  int raw = error_of(socket(AF_PACKET, SOCK_RAW, 0)), own = error_of(socket(AF_UNIX, SOCK_STREAM, 0));
  int to = error_of(connect(early_socket, (struct sockaddr *)&address, sizeof address));
  address.sin_port = 0;
  int at = error_of(bind(early_socket, (struct sockaddr *)&address, sizeof address));
  printf("tcp %d udp %d packet %d unix %d connect %d bind %d\n", tcp, udp, raw, own, to, at);
}

int main(void) {
  size_t size = 16u << 20;
  int fd = open(getenv("GATEWAY_RAM_FILE"), O_RDWR | O_CREAT, 0600);
  if (fd < 0 || ftruncate(fd, (off_t)size) != 0) return 2;
  char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return 3;
  madvise(memory, size, MADV_DONTFORK);
  /* As QEMU does by default. */
  madvise(memory, size, MADV_MERGEABLE);
  setvbuf(stdout, NULL, _IOLBF, 0);
  puts("ready");
  char line[1200], text[1000];
  unsigned page;
  int times;
  while (fgets(line, sizeof line, stdin)) {
    if (sscanf(line, "w %u %99s", &page, text) == 2) { strcpy(memory + page * 4096u, text); puts("ok"); }
    else if (sscanf(line, "r %u", &page) == 1) printf("=%s\n", memory + page * 4096u);
    else if (sscanf(line, "z %u", &page) == 1) { memset(memory + page * 4096u, 0, 4096); puts("ok"); }
    else if (sscanf(line, "a %u", &page) == 1) {
      for (unsigned at = 0; at < page; at++) printf("%s,", memory + at * 4096u);
      puts("");
    }
    else if (sscanf(line, "e %d", &times) == 1) { failing = times; puts("ok"); }
    else if (sscanf(line, "o %999[^\n]", text) == 1) printf("%d\n", error_of(open(text, O_RDONLY)));
    else if (sscanf(line, "c %999[^\n]", text) == 1) printf("%d\n", error_of(open(text, O_WRONLY | O_CREAT | O_TRUNC, 0600)));
    else if (sscanf(line, "u %999[^\n]", text) == 1) printf("%d\n", error_of(unlink(text)));
    else if (sscanf(line, "k %d", &times) == 1) printf("%d\n", error_of(kill(times, SIGURG)));
    else if (line[0] == 'n') try_network();
    else if (line[0] == 'p') printf("%d\n", pauses);
    else if (line[0] == 't') { make_code(); puts("ok"); }
    else if (line[0] == 'x') { execl("/bin/true", "true", (char *)NULL); printf("%d\n", errno); }
  }
  return 0;
}
