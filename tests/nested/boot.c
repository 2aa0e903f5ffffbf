/*
 * The yardstick of the benchmark: a program that does with libkrun what our child does, and nothing else.
 * boot LOG KERNEL CMDLINE CONSOLE CONTROL STDIO DISK...
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

int32_t krun_set_log_level(uint32_t);
int32_t krun_create_ctx(void);
int32_t krun_set_vm_config(uint32_t, uint8_t, uint32_t);
int32_t krun_set_kernel(uint32_t, const char *, uint32_t, const char *, const char *);
int32_t krun_disable_implicit_vsock(uint32_t);
int32_t krun_add_disk3(uint32_t, const char *, const char *, uint32_t, bool, bool, uint32_t);
int32_t krun_set_console_output(uint32_t, const char *);
int32_t krun_add_virtio_console_multiport(uint32_t);
int32_t krun_add_console_port_inout(uint32_t, uint32_t, const char *, int, int);
int32_t krun_start_enter(uint32_t);

static int listen_at(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1)) return -1;
    return listener;
}

int main(int argc, char **argv) {
    if (argc < 8) return 2;
    int control = listen_at(argv[5]), stdio = listen_at(argv[6]);
    if (control < 0 || stdio < 0) return 3;
    control = accept(control, NULL, NULL);
    stdio = accept(stdio, NULL, NULL);
    krun_set_log_level(2);
    int32_t ctx = krun_create_ctx();
    int32_t bad = krun_set_vm_config(ctx, 1, 512) | krun_set_kernel(ctx, argv[2], 1, NULL, argv[3]) |
                  krun_disable_implicit_vsock(ctx);
    const char *serials[] = {"root", "payload"};
    for (int at = 7; at < argc && at < 9; at++) bad |= krun_add_disk3(ctx, serials[at - 7], argv[at], 0, true, false, 0);
    bad |= krun_set_console_output(ctx, argv[4]);
    int32_t console = krun_add_virtio_console_multiport(ctx);
    bad |= krun_add_console_port_inout(ctx, console, "gw.control", control, control);
    bad |= krun_add_console_port_inout(ctx, console, "gw.stdio", stdio, stdio);
    if (bad) return 4;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    FILE *log = fopen(argv[1], "w");
    fprintf(log, "%lld", (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    fclose(log);
    return krun_start_enter(ctx) ? 5 : 0;
}
