/**
 * The bindings against a fake libkrun that cc made of a few lines of C: what reaches C, and what becomes of its answers.
 * Needs --allow-ffi and --allow-read, and what build.ts makes.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { KrunError } from "../../ffi/error.ts";
import { firmwareKernelPath } from "../../ffi/firmware.ts";
import { KrunContext, macBytes } from "../../ffi/krun.ts";
import { KrunLibrary } from "../../ffi/library.ts";
import { socketAddress, UnixSockets } from "../../ffi/unix_socket.ts";
import { BUILT_DIR, cText, FakeCalls, OLD_NAME, openLibc, testWithFakes } from "./built.ts";

const mac = macBytes("5a:94:ef:e4:0c:ee");
const FAKE = join(BUILT_DIR, "libkrun.so");

testWithFakes("KrunContext passes every argument to C unchanged", () => {
  using fake = new FakeCalls();
  using library = KrunLibrary.open(FAKE);
  KrunContext.setLogLevel(library, "warn");
  {
    using krun = KrunContext.create(library, ["net", "blk"]);
    krun.setVmConfig(255, 4096);
    krun.setKernel({ path: "/k", format: "elf", cmdline: "console=hvc0 grüße" });
    krun.setKernel({ path: "/k", format: "bzimage-zstd", initramfs: "/i", cmdline: "" });
    krun.setKernel({ path: "/k", format: "image-arm64", cmdline: "" });
    krun.setRoot("/root");
    krun.addDisk({ id: "root", path: "/r", format: "raw", readOnly: true, sync: "none" });
    krun.addDisk({ id: "state", path: "/s", format: "qcow2", readOnly: false, sync: "full" });
    krun.setRootDiskRemount("/dev/vda", "ext4");
    krun.addVirtiofs("tag", "/shared", { readOnly: false });
    krun.addVirtiofs("tag", "/shared", { readOnly: true });
    krun.addNetUnixStream({ path: "/net", mac });
    krun.addNetUnixDatagram({ path: "/net", mac, features: 3 });
    krun.disableImplicitVsock();
    krun.addVsock(["inet", "unix"]);
    krun.addVsockPort(5, "/five", { listen: true });
    krun.addVsockPort(6, "/six", { listen: false });
    krun.setConsoleOutput("/console");
    krun.disableImplicitConsole();
    krun.addConsolePort(krun.addConsole(), "gw.control", 4, -1);
    krun.addSerial(-1, 7);
    krun.setKernelConsole("ttyS0");
    krun.setRlimits(["RLIMIT_NOFILE=1:2"]);
    krun.setWorkdir("/w");
    krun.setExec("/bin/true", ["a b", ""], ["A=ü"]);
    krun.setEnv([]);
    assertEquals(krun.shutdownEventFd(), undefined);
  }
  assertEquals(fake.take(), [
    "krun_set_log_level(2)",
    "krun_has_feature(0)",
    "krun_has_feature(1)",
    "krun_create_ctx()",
    "krun_set_vm_config(3, 255, 4096)",
    "krun_set_kernel(3, /k, 1, NULL, console=hvc0 grüße)",
    "krun_set_kernel(3, /k, 5, /i, )",
    "krun_set_kernel(3, /k, 0, NULL, )",
    "krun_set_root(3, /root)",
    "krun_add_disk3(3, root, /r, 0, 1, 0, 0)",
    "krun_add_disk3(3, state, /s, 1, 0, 0, 2)",
    "krun_set_root_disk_remount(3, /dev/vda, ext4, NULL)",
    "krun_add_virtiofs2(3, tag, /shared, 0)",
    "krun_add_virtiofs3(3, tag, /shared, 0, 1)",
    "krun_add_net_unixstream(3, /net, -1, 5a:94:ef:e4:0c:ee, 0, 0)",
    "krun_add_net_unixgram(3, /net, -1, 5a:94:ef:e4:0c:ee, 3, 1)",
    "krun_disable_implicit_vsock(3)",
    "krun_add_vsock(3, 3)",
    "krun_add_vsock_port2(3, 5, /five, 1)",
    "krun_add_vsock_port2(3, 6, /six, 0)",
    "krun_set_console_output(3, /console)",
    "krun_disable_implicit_console(3)",
    "krun_add_virtio_console_multiport(3)",
    "krun_add_console_port_inout(3, 1, gw.control, 1, 0)",
    "krun_add_serial_console_default(3, -1, 7)",
    "krun_set_kernel_console(3, ttyS0)",
    "krun_set_rlimits(3, <RLIMIT_NOFILE=1:2>)",
    "krun_set_workdir(3, /w)",
    "krun_set_exec(3, /bin/true, <a b><>, <A=ü>)",
    "krun_set_env(3, )",
    "krun_free_ctx(3)",
  ]);
});

testWithFakes(
  "KrunContext turns every return code into an error with function, code and name",
  () => {
    using library = KrunLibrary.open(FAKE);
    const failures: readonly [string, number, (krun: KrunContext) => unknown, string][] = [
      ["krun_set_vm_config", -22, (krun) => krun.setVmConfig(1, 1), "-22 (EINVAL)"],
      ["krun_set_root", -2, (krun) => krun.setRoot("/"), "-2 (ENOENT)"],
      ["krun_add_vsock", -17, (krun) => krun.addVsock(), "-17 (EEXIST)"],
      ["krun_add_virtio_console_multiport", -12, (krun) => krun.addConsole(), "-12 (ENOMEM)"],
      ["krun_start_enter", -22, (krun) => krun.startEnter(), "-22 (EINVAL)"],
    ];
    for (const [name, code, call, text] of failures) {
      using _fake = new FakeCalls({ [name]: code });
      using krun = KrunContext.create(library);
      const error = assertThrows(() => call(krun), KrunError, `${name} returned ${text}`);
      assertEquals([error.kind, error.functionName, error.code], ["call", name, code]);
    }
    using _fake = new FakeCalls({ krun_create_ctx: -12 });
    assertThrows(() => KrunContext.create(library), KrunError, "krun_create_ctx returned -12");
  },
);

testWithFakes("KrunContext refuses what C would cut, before any call", () => {
  using fake = new FakeCalls();
  using library = KrunLibrary.open(FAKE);
  using krun = KrunContext.create(library);
  fake.take();
  assertThrows(() => krun.setVmConfig(256, 512), KrunError, "256, and 1 to 255 are allowed");
  assertThrows(() => krun.setVmConfig(1, 2 ** 32), KrunError, "the memory in MiB");
  assertThrows(() => krun.addVsockPort(-1, "/x", { listen: true }), KrunError, "vsock port");
  assertThrows(() => krun.setRoot("/a\0b"), KrunError, "NUL byte inside");
  assertEquals(fake.take(), []);
});

testWithFakes("KrunContext hands 64 KiB of command line to C", () => {
  using fake = new FakeCalls();
  using library = KrunLibrary.open(FAKE);
  using krun = KrunContext.create(library);
  const cmdline = "é".repeat(32 * 1024);
  krun.setKernel({ path: "/k", format: "elf", cmdline });
  assertEquals(fake.take().at(-1), `krun_set_kernel(3, /k, 1, NULL, ${cmdline})`);
});

testWithFakes("a context that was entered is not freed again", () => {
  using fake = new FakeCalls({ krun_start_enter: -19 });
  using library = KrunLibrary.open(FAKE);
  {
    using krun = KrunContext.create(library);
    assertThrows(() => krun.startEnter(), KrunError, "-19 (ENODEV)");
  }
  assertEquals(fake.take().filter((call) => call.startsWith("krun_free_ctx")), []);
});

testWithFakes("an old library is named with its version and the missing function", () => {
  using _fake = new FakeCalls();
  using library = KrunLibrary.open(join(BUILT_DIR, OLD_NAME));
  using krun = KrunContext.create(library, ["net", "blk"]);
  const error = assertThrows(() => krun.addConsole(), KrunError);
  assertEquals(
    error.message,
    "libkrun 1.9.8 has no krun_add_virtio_console_multiport, which is there since 1.17.0 (or left out of this build)",
  );
  using unnamed = KrunLibrary.open(join(BUILT_DIR, "libkrun-old.so"));
  assertEquals(unnamed.version, "1.16.0 or later");
});

testWithFakes("a library without network is refused before anything is made", () => {
  using fake = new FakeCalls();
  using library = KrunLibrary.open(join(BUILT_DIR, "libkrun-no-net.so"));
  assertThrows(
    () => KrunContext.create(library, ["blk", "net"]),
    KrunError,
    'was built without the feature "net"',
  );
  assert(!fake.take().includes("krun_create_ctx()"));
});

testWithFakes("a library that is not libkrun is told apart", () => {
  const libc = "/lib/x86_64-linux-gnu/libc.so.6";
  assertThrows(() => KrunLibrary.open(libc), KrunError, "is a library but not libkrun");
});

testWithFakes("UnixSockets gives the descriptor of one connection, or says why not", () => {
  using libc = openLibc();
  // Short: a checkout may lie deeper than a socket's path can be long.
  const path = `/tmp/gw-ffi-${Deno.pid}`;
  libc.unlink(cText(path));
  try {
    using sockets = new UnixSockets();
    const listener = sockets.listen(path);
    assertThrows(() => sockets.listen(path), KrunError, "EADDRINUSE");
    assertThrows(() => sockets.listen("/nowhere/s"), KrunError, "ENOENT");
    assertThrows(() => sockets.accept(listener, path, 20), KrunError, "nobody connected");
    const client = libc.socket(1, 1, 0);
    const address = socketAddress(path);
    assertEquals(libc.connect(client, address, address.length), 0);
    const fd = sockets.accept(listener, path, 1000);
    assert(fd > 2);
    // What C writes to the descriptor arrives at the other end.
    libc.write(fd, new TextEncoder().encode("hello"), 5n);
    libc.close(fd);
    const read = new Uint8Array(16);
    assertEquals(libc.read(client, read, 16n), 5n);
    assertEquals(new TextDecoder().decode(read.subarray(0, 5)), "hello");
    assertEquals(libc.read(client, read, 16n), 0n);
    libc.close(client);
  } finally {
    libc.unlink(cText(path));
  }
});

testWithFakes("firmwareKernelPath() gives libkrunfw's kernel as an ELF file in memory", () => {
  using libc = openLibc();
  const path = firmwareKernelPath(join(BUILT_DIR, "libkrunfw.so.5"));
  // Deno reads nothing below /proc without all permissions.
  const fd = Number(path.slice(path.lastIndexOf("/") + 1));
  const bytes = new Uint8Array(2 * 8192);
  assertEquals(libc.pread(fd, bytes, BigInt(bytes.length), 0n), BigInt(120 + 8192));
  assertEquals(new DataView(bytes.buffer).getUint32(0), 0x7f454c46);
  assertEquals(new TextDecoder().decode(bytes.subarray(120, 128)), "a kernel");
  assertEquals(bytes[120 + 8192 - 1], "z".charCodeAt(0));
});

testWithFakes("firmwareKernelPath() refuses a library that is no libkrunfw", () => {
  const error = assertThrows(() => firmwareKernelPath(FAKE), KrunError);
  assert(error.message.startsWith(`"${FAKE}" is no libkrunfw: `), error.message);
});
