/**
 * The bindings against the real libkrun: every call but the last, which would end this process. What a VM makes of them is
 * in tests/nested. Needs --allow-ffi and --allow-read, and what build.ts makes.
 *
 * @module
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { KrunError } from "../../ffi/error.ts";
import { KrunContext, macBytes } from "../../ffi/krun.ts";
import { KrunLibrary } from "../../ffi/library.ts";
import { KRUN_SYMBOLS, type KrunSymbolName } from "../../ffi/symbols.ts";
import { LIBKRUN_VERSION } from "../../vm/libkrun/build.ts";
import { REQUIRED_FEATURES, REQUIRED_SYMBOLS } from "../../vm/libkrun/config.ts";
import { BUILT_DIR, testWithReal } from "./built.ts";

testWithReal(
  "the library we build has its version, its features, and every function of the table",
  (path) => {
    using library = KrunLibrary.open(path);
    assertEquals(library.version, LIBKRUN_VERSION);
    library.requireFeatures(REQUIRED_FEATURES);
    library.requireSymbols(REQUIRED_SYMBOLS);
    const missing = (Object.keys(KRUN_SYMBOLS) as KrunSymbolName[]).filter((n) => !library.has(n));
    // It is part of the library on Apple's processors only.
    assertEquals(missing, ["krun_get_shutdown_eventfd"]);
  },
);

testWithReal(
  "the real library takes every call, and answers bad ones with an error's name",
  (path) => {
    using library = KrunLibrary.open(path);
    const dir = BUILT_DIR;
    const mac = macBytes("5a:94:ef:e4:0c:ee");
    {
      using krun = KrunContext.create(library, REQUIRED_FEATURES);
      krun.setVmConfig(2, 512);
      krun.setKernel({ path: "/k", format: "elf", cmdline: "console=hvc0" });
      krun.setKernel({ path: "/k", format: "bzimage-zstd", cmdline: "" });
      krun.addDisk({ id: "root", path: "/r", format: "raw", readOnly: true, sync: "none" });
      krun.addDisk({ id: "state", path: "/s", format: "qcow2", readOnly: false, sync: "full" });
      krun.setRootDiskRemount("/dev/vda", "erofs", "ro");
      krun.addVirtiofs("tag", dir, { readOnly: false });
      krun.addVirtiofs("other", dir, { readOnly: true });
      krun.addNetUnixStream({ path: "/net", mac });
      krun.addNetUnixDatagram({ path: "/net", mac });
      krun.disableImplicitVsock();
      assertThrows(
        () => krun.addVsockPort(5, join(dir, "v"), { listen: true }),
        KrunError,
        "krun_add_vsock_port2 returned -19 (ENODEV)",
      );
      krun.addVsock(["inet"]);
      assertThrows(() => krun.addVsock(), KrunError, "krun_add_vsock returned -17 (EEXIST)");
      krun.addVsockPort(5, join(dir, "v"), { listen: true });
      krun.addVsockPort(6, join(dir, "w"), { listen: false });
      krun.setConsoleOutput(join(dir, "console"));
      krun.disableImplicitConsole();
      krun.addConsolePort(krun.addConsole(), "gw.control", 0, 1);
      assertThrows(() => krun.addConsolePort(99, "x", 0, 1), KrunError, "-22 (EINVAL)");
      krun.addSerial(-1, -1);
      krun.setKernelConsole("ttyS0");
      krun.setRlimits(["RLIMIT_NOFILE=1024:1024"]);
      krun.setWorkdir("/");
      krun.setExec("/bin/true", ["a"], ["A=1"]);
      krun.setEnv(["A=2"]);
      assertEquals(krun.shutdownEventFd(), undefined);
    }
    using other = KrunContext.create(library);
    other.setRoot("/");
    assertThrows(
      () => other.setVmConfig(0, 512),
      KrunError,
      "krun_set_vm_config: the number of CPUs is 0",
    );
    assert(library.get("krun_free_ctx")(4_000_000) === -2);
  },
);
