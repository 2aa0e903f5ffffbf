/* Takes requests on a socket, one after the other, in a thread of its own. */
#include "ramshim.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

size_t read_line(int fd, char *line, size_t size) {
  size_t length = 0;
  while (length < size - 1) {
    ssize_t got = read(fd, line + length, 1);
    if (got <= 0) return 0;
    if (line[length] == '\n') break;
    length++;
  }
  line[length] = 0;
  return length;
}

static int tell_confinement(int client) {
  char line[48];
  return write_whole(client, line, describe_confinement(line, sizeof line));
}

static int carry_out(char *line, int client) {
  static const char *const modes[] = {[NOTHING] = "new", [BOTTOM] = "kept", [ALL_LAYERS] = "changed"};
  char *word = strsep(&line, " ");
  if (strcmp(word, "confinement") == 0) return tell_confinement(client);
  if (!line) return EINVAL;
  if (strcmp(word, "trim") == 0) return trim(strtoul(line, NULL, 10), client);
  char *mode = strsep(&word, "+");
  int adopting = word && strcmp(word, "adopt") == 0;
  for (int below = NOTHING; below <= ALL_LAYERS; below++)
    if (strcmp(mode, modes[below]) == 0) return fork_and_save(line, (enum below)below, adopting, client);
  return EINVAL;
}

static void answer(int fd) {
  char line[1100], reply[32];
  if (!read_line(fd, line, sizeof line)) return;
  int result = carry_out(line, fd);
  write_whole(fd, reply, (size_t)snprintf(reply, sizeof reply, "done %d\n", result));
}

#define ACCEPT_PAUSE_MS 100

static void *serve(void *unused) {
  (void)unused;
  for (;;) {
    int fd = accept4(ram.listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
      /* Such as no descriptor left: it may be one later. */
      if (errno != EINTR) poll(NULL, 0, ACCEPT_PAUSE_MS);
      continue;
    }
    answer(fd);
    close(fd);
  }
  return NULL;
}

int listen_for_requests(void) {
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
