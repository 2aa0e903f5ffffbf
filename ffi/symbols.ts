/**
 * The symbols of libkrun that are used, one to one: the C prototype, how Deno calls it, and the first version that has it.
 * Every one is optional for the loader, so that an older library loads and the missing symbol can be named.
 * It must not hold logic; tests/abi_test.ts holds it against the library's own source.
 *
 * @module
 */

/** One symbol: Deno's own description, and what people want to know of it. */
export interface KrunSymbol extends Deno.ForeignFunction {
  /** As in libkrun's header. */
  readonly c: string;
  /** The first release that has it, as "1.17.0". */
  readonly since: string;
  readonly optional: true;
}

/** The table. */
export const KRUN_SYMBOLS = {
  krun_set_log_level: {
    c: "int32_t krun_set_log_level(uint32_t level)",
    since: "1.0.0",
    parameters: ["u32"],
    result: "i32",
    optional: true,
  },
  krun_init_log: {
    c: "int32_t krun_init_log(int target_fd, uint32_t level, uint32_t style, uint32_t options)",
    since: "1.13.0",
    parameters: ["i32", "u32", "u32", "u32"],
    result: "i32",
    optional: true,
  },
  krun_create_ctx: {
    c: "int32_t krun_create_ctx()",
    since: "1.0.0",
    parameters: [],
    result: "i32",
    optional: true,
  },
  krun_free_ctx: {
    c: "int32_t krun_free_ctx(uint32_t ctx_id)",
    since: "1.0.0",
    parameters: ["u32"],
    result: "i32",
    optional: true,
  },
  krun_set_vm_config: {
    c: "int32_t krun_set_vm_config(uint32_t ctx_id, uint8_t num_vcpus, uint32_t ram_mib)",
    since: "1.0.0",
    parameters: ["u32", "u8", "u32"],
    result: "i32",
    optional: true,
  },
  krun_set_kernel: {
    c: "int32_t krun_set_kernel(uint32_t ctx_id, const char *kernel_path, uint32_t kernel_format, const char *initramfs, const char *cmdline)",
    since: "1.11.0",
    parameters: ["u32", "buffer", "u32", "buffer", "buffer"],
    result: "i32",
    optional: true,
  },
  krun_set_root: {
    c: "int32_t krun_set_root(uint32_t ctx_id, const char *root_path)",
    since: "1.0.0",
    parameters: ["u32", "buffer"],
    result: "i32",
    optional: true,
  },
  krun_add_disk2: {
    c: "int32_t krun_add_disk2(uint32_t ctx_id, const char *block_id, const char *disk_path, uint32_t disk_format, bool read_only)",
    since: "1.10.0",
    parameters: ["u32", "buffer", "buffer", "u32", "bool"],
    result: "i32",
    optional: true,
  },
  krun_add_disk3: {
    c: "int32_t krun_add_disk3(uint32_t ctx_id, const char *block_id, const char *disk_path, uint32_t disk_format, bool read_only, bool direct_io, uint32_t sync_mode)",
    since: "1.17.0",
    parameters: ["u32", "buffer", "buffer", "u32", "bool", "bool", "u32"],
    result: "i32",
    optional: true,
  },
  krun_set_root_disk_remount: {
    c: "int32_t krun_set_root_disk_remount(uint32_t ctx_id, const char *device, const char *fstype, const char *options)",
    since: "1.15.0",
    parameters: ["u32", "buffer", "buffer", "buffer"],
    result: "i32",
    optional: true,
  },
  krun_add_virtiofs2: {
    c: "int32_t krun_add_virtiofs2(uint32_t ctx_id, const char *c_tag, const char *c_path, uint64_t shm_size)",
    since: "1.9.5",
    parameters: ["u32", "buffer", "buffer", "u64"],
    result: "i32",
    optional: true,
  },
  krun_add_virtiofs3: {
    c: "int32_t krun_add_virtiofs3(uint32_t ctx_id, const char *c_tag, const char *c_path, uint64_t shm_size, bool read_only)",
    since: "1.18.0",
    parameters: ["u32", "buffer", "buffer", "u64", "bool"],
    result: "i32",
    optional: true,
  },
  krun_add_net_unixstream: {
    c: "int32_t krun_add_net_unixstream(uint32_t ctx_id, const char *c_path, int fd, uint8_t *const c_mac, uint32_t features, uint32_t flags)",
    since: "1.15.0",
    parameters: ["u32", "buffer", "i32", "buffer", "u32", "u32"],
    result: "i32",
    optional: true,
  },
  krun_add_net_unixgram: {
    c: "int32_t krun_add_net_unixgram(uint32_t ctx_id, const char *c_path, int fd, uint8_t *const c_mac, uint32_t features, uint32_t flags)",
    since: "1.15.0",
    parameters: ["u32", "buffer", "i32", "buffer", "u32", "u32"],
    result: "i32",
    optional: true,
  },
  krun_disable_implicit_vsock: {
    c: "int32_t krun_disable_implicit_vsock(uint32_t ctx_id)",
    since: "1.17.0",
    parameters: ["u32"],
    result: "i32",
    optional: true,
  },
  krun_add_vsock: {
    c: "int32_t krun_add_vsock(uint32_t ctx_id, uint32_t tsi_features)",
    since: "1.17.0",
    parameters: ["u32", "u32"],
    result: "i32",
    optional: true,
  },
  krun_add_vsock_port2: {
    c: "int32_t krun_add_vsock_port2(uint32_t ctx_id, uint32_t port, const char *c_filepath, bool listen)",
    since: "1.10.0",
    parameters: ["u32", "u32", "buffer", "bool"],
    result: "i32",
    optional: true,
  },
  krun_set_console_output: {
    c: "int32_t krun_set_console_output(uint32_t ctx_id, const char *c_filepath)",
    since: "1.8.0",
    parameters: ["u32", "buffer"],
    result: "i32",
    optional: true,
  },
  krun_disable_implicit_console: {
    c: "int32_t krun_disable_implicit_console(uint32_t ctx_id)",
    since: "1.16.0",
    parameters: ["u32"],
    result: "i32",
    optional: true,
  },
  krun_add_virtio_console_multiport: {
    c: "int32_t krun_add_virtio_console_multiport(uint32_t ctx_id)",
    since: "1.17.0",
    parameters: ["u32"],
    result: "i32",
    optional: true,
  },
  krun_add_console_port_inout: {
    c: "int32_t krun_add_console_port_inout(uint32_t ctx_id, uint32_t console_id, const char *name, int input_fd, int output_fd)",
    since: "1.17.0",
    parameters: ["u32", "u32", "buffer", "i32", "i32"],
    result: "i32",
    optional: true,
  },
  krun_add_serial_console_default: {
    c: "int32_t krun_add_serial_console_default(uint32_t ctx_id, int input_fd, int output_fd)",
    since: "1.16.0",
    parameters: ["u32", "i32", "i32"],
    result: "i32",
    optional: true,
  },
  krun_set_kernel_console: {
    c: "int32_t krun_set_kernel_console(uint32_t ctx_id, const char *console_id)",
    since: "1.16.0",
    parameters: ["u32", "buffer"],
    result: "i32",
    optional: true,
  },
  krun_set_rlimits: {
    c: "int32_t krun_set_rlimits(uint32_t ctx_id, const char *const rlimits[])",
    since: "1.0.0",
    parameters: ["u32", "buffer"],
    result: "i32",
    optional: true,
  },
  krun_set_workdir: {
    c: "int32_t krun_set_workdir(uint32_t ctx_id, const char *workdir_path)",
    since: "1.0.0",
    parameters: ["u32", "buffer"],
    result: "i32",
    optional: true,
  },
  krun_set_exec: {
    c: "int32_t krun_set_exec(uint32_t ctx_id, const char *exec_path, const char *const argv[], const char *const envp[])",
    since: "1.0.0",
    parameters: ["u32", "buffer", "buffer", "buffer"],
    result: "i32",
    optional: true,
  },
  krun_set_env: {
    c: "int32_t krun_set_env(uint32_t ctx_id, const char *const envp[])",
    since: "1.3.0",
    parameters: ["u32", "buffer"],
    result: "i32",
    optional: true,
  },
  krun_get_shutdown_eventfd: {
    c: "int32_t krun_get_shutdown_eventfd(uint32_t ctx_id)",
    since: "1.8.0",
    parameters: ["u32"],
    result: "i32",
    optional: true,
  },
  krun_has_feature: {
    c: "int32_t krun_has_feature(uint64_t feature)",
    since: "1.17.3",
    parameters: ["u64"],
    result: "i32",
    optional: true,
  },
  krun_get_max_vcpus: {
    c: "int32_t krun_get_max_vcpus(void)",
    since: "1.16.0",
    parameters: [],
    result: "i32",
    optional: true,
  },
  krun_start_enter: {
    c: "int32_t krun_start_enter(uint32_t ctx_id)",
    since: "1.0.0",
    parameters: ["u32"],
    result: "i32",
    optional: true,
  },
} as const satisfies Readonly<Record<string, KrunSymbol>>;

/** A name of the table. */
export type KrunSymbolName = keyof typeof KRUN_SYMBOLS;
