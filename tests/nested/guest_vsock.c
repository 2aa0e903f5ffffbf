/*
 * Speaks vsock from inside a guest: calls the host at port 5000, then waits for the host's call at port 5001.
 * What it heard goes to the console.
 */
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int fail(const char *what) {
    perror(what);
    return 1;
}

/* One line from the peer, printed after `label`. */
static int hear(const char *label, int fd) {
    char line[128];
    ssize_t length = read(fd, line, sizeof line - 1);
    if (length <= 0) return fail("read");
    line[length] = 0;
    printf("%s %s", label, line);
    fflush(stdout);
    return 0;
}

static int say(int fd, const char *line) {
    return write(fd, line, strlen(line)) == (ssize_t)strlen(line) ? 0 : fail("write");
}

int main(void) {
    struct sockaddr_vm in = {.svm_family = AF_VSOCK, .svm_port = 5001, .svm_cid = VMADDR_CID_ANY};
    int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&in, sizeof in) || listen(listener, 1)) return fail("listen");
    struct sockaddr_vm out = {.svm_family = AF_VSOCK, .svm_port = 5000, .svm_cid = VMADDR_CID_HOST};
    int call = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (call < 0 || connect(call, (struct sockaddr *)&out, sizeof out)) return fail("connect");
    if (say(call, "the guest calls\n") || hear("OUT", call)) return 1;
    int called = accept(listener, NULL, NULL);
    if (called < 0) return fail("accept");
    return hear("IN", called) || say(called, "the guest answers\n");
}
