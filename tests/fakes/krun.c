/*
 * A libkrun that starts nothing. Every call appends a line to the file in KRUN_CALLS; KRUN_RETURNS holds what functions
 * return instead of their usual value, as "krun_set_kernel=-22,krun_has_feature=0".
 * With -DOLD it is a library of before 1.17, with -DNO_NET one that was built without network.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int32_t call(const char *name, int32_t usual, const char *format, ...) {
    const char *path = getenv("KRUN_CALLS");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) {
        va_list args;
        va_start(args, format);
        fprintf(file, "%s(", name);
        vfprintf(file, format, args);
        fprintf(file, ")\n");
        va_end(args);
        fclose(file);
    }
    const char *returns = getenv("KRUN_RETURNS");
    for (const char *at = returns; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        size_t length = strlen(name);
        if (strncmp(at, name, length) == 0 && at[length] == '=') return atoi(at + length + 1);
    }
    return usual;
}

static const char *text(const char *value) { return value ? value : "NULL"; }

/* The strings of an array, joined; the last few calls' worth of room is kept. */
static const char *list(const char *const *values) {
    static char rooms[4][1 << 17];
    static int turn;
    char *room = rooms[turn++ % 4];
    *room = 0;
    if (!values) return "NULL";
    for (; *values; values++) {
        strcat(room, "<");
        strncat(room, *values, 65536);
        strcat(room, ">");
    }
    return room;
}

int32_t krun_set_log_level(uint32_t level) { return call(__func__, 0, "%u", level); }
int32_t krun_init_log(int fd, uint32_t level, uint32_t style, uint32_t options) {
    return call(__func__, 0, "%d, %u, %u, %u", fd, level, style, options);
}
int32_t krun_create_ctx(void) { return call(__func__, 3, ""); }
int32_t krun_free_ctx(uint32_t ctx) { return call(__func__, 0, "%u", ctx); }
int32_t krun_set_vm_config(uint32_t ctx, uint8_t cpus, uint32_t mib) {
    return call(__func__, 0, "%u, %u, %u", ctx, cpus, mib);
}
int32_t krun_set_kernel(uint32_t ctx, const char *path, uint32_t format, const char *initrd, const char *line) {
    return call(__func__, 0, "%u, %s, %u, %s, %s", ctx, text(path), format, text(initrd), text(line));
}
int32_t krun_set_root(uint32_t ctx, const char *path) { return call(__func__, 0, "%u, %s", ctx, text(path)); }
int32_t krun_add_disk2(uint32_t ctx, const char *id, const char *path, uint32_t format, bool ro) {
    return call(__func__, 0, "%u, %s, %s, %u, %d", ctx, text(id), text(path), format, ro);
}
int32_t krun_set_root_disk_remount(uint32_t ctx, const char *device, const char *type, const char *options) {
    return call(__func__, 0, "%u, %s, %s, %s", ctx, text(device), text(type), text(options));
}
int32_t krun_add_virtiofs2(uint32_t ctx, const char *tag, const char *path, uint64_t shm) {
    return call(__func__, 0, "%u, %s, %s, %llu", ctx, text(tag), text(path), (unsigned long long)shm);
}
#ifndef NO_NET
static int32_t net(const char *name, uint32_t ctx, const char *path, int fd, const uint8_t *mac, uint32_t features,
                   uint32_t flags) {
    return call(name, 0, "%u, %s, %d, %02x:%02x:%02x:%02x:%02x:%02x, %u, %u", ctx, text(path), fd, mac[0], mac[1],
                mac[2], mac[3], mac[4], mac[5], features, flags);
}
int32_t krun_add_net_unixstream(uint32_t ctx, const char *path, int fd, const uint8_t *mac, uint32_t f, uint32_t g) {
    return net(__func__, ctx, path, fd, mac, f, g);
}
int32_t krun_add_net_unixgram(uint32_t ctx, const char *path, int fd, const uint8_t *mac, uint32_t f, uint32_t g) {
    return net(__func__, ctx, path, fd, mac, f, g);
}
#endif
int32_t krun_add_vsock_port2(uint32_t ctx, uint32_t port, const char *path, bool listening) {
    return call(__func__, 0, "%u, %u, %s, %d", ctx, port, text(path), listening);
}
static char screen[4096];
int32_t krun_set_console_output(uint32_t ctx, const char *path) {
    snprintf(screen, sizeof screen, "%s", text(path));
    return call(__func__, 0, "%u, %s", ctx, text(path));
}
int32_t krun_disable_implicit_console(uint32_t ctx) { return call(__func__, 0, "%u", ctx); }
int32_t krun_add_serial_console_default(uint32_t ctx, int in, int out) {
    return call(__func__, 0, "%u, %d, %d", ctx, in, out);
}
int32_t krun_set_kernel_console(uint32_t ctx, const char *id) { return call(__func__, 0, "%u, %s", ctx, text(id)); }
int32_t krun_set_rlimits(uint32_t ctx, const char *const *limits) {
    return call(__func__, 0, "%u, %s", ctx, list(limits));
}
int32_t krun_set_workdir(uint32_t ctx, const char *path) { return call(__func__, 0, "%u, %s", ctx, text(path)); }
int32_t krun_set_exec(uint32_t ctx, const char *path, const char *const *argv, const char *const *env) {
    return call(__func__, 0, "%u, %s, %s, %s", ctx, text(path), list(argv), list(env));
}
int32_t krun_set_env(uint32_t ctx, const char *const *env) { return call(__func__, 0, "%u, %s", ctx, list(env)); }
int32_t krun_get_max_vcpus(void) { return call(__func__, 8, ""); }
/* With KRUN_BOOTS set, a kernel without a root: its panic on the console, then the end. "hangs" never ends. */
int32_t krun_start_enter(uint32_t ctx) {
    const char *boots = getenv("KRUN_BOOTS");
    if (!boots) return call(__func__, -22, "%u", ctx);
    call(__func__, 0, "%u", ctx);
    if (strcmp(boots, "hangs") == 0) for (;;) sleep(1);
    FILE *file = fopen(screen, "w");
    if (file) fprintf(file, "Kernel panic - not syncing\n"), fclose(file);
    _exit(0);
}
#ifndef OLD
int32_t krun_add_virtiofs3(uint32_t ctx, const char *tag, const char *path, uint64_t shm, bool ro) {
    return call(__func__, 0, "%u, %s, %s, %llu, %d", ctx, text(tag), text(path), (unsigned long long)shm, ro);
}
int32_t krun_add_disk3(uint32_t ctx, const char *id, const char *path, uint32_t format, bool ro, bool direct,
                       uint32_t sync) {
    return call(__func__, 0, "%u, %s, %s, %u, %d, %d, %u", ctx, text(id), text(path), format, ro, direct, sync);
}
int32_t krun_disable_implicit_vsock(uint32_t ctx) { return call(__func__, 0, "%u", ctx); }
int32_t krun_add_vsock(uint32_t ctx, uint32_t tsi) { return call(__func__, 0, "%u, %u", ctx, tsi); }
int32_t krun_add_virtio_console_multiport(uint32_t ctx) { return call(__func__, 1, "%u", ctx); }
int32_t krun_add_console_port_inout(uint32_t ctx, uint32_t console, const char *name, int in, int out) {
    return call(__func__, 0, "%u, %u, %s, %d, %d", ctx, console, text(name), in >= 0, out >= 0);
}
int32_t krun_has_feature(uint64_t feature) {
#ifdef NO_NET
    return call(__func__, feature == 1, "%llu", (unsigned long long)feature);
#else
    return call(__func__, feature <= 1, "%llu", (unsigned long long)feature);
#endif
}
#endif
