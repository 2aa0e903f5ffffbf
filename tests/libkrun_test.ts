/**
 * The libkrun driver and its child against a fake library: the calls that a plan becomes, what a bad plan or a bad
 * library is answered with, and what is left behind. Real boots are in tests/nested.
 *
 * @module
 */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { chooseVmm } from "../bootstrap/choose_vmm.ts";
import { planVm } from "../bootstrap/plan.ts";
import { selfCommand } from "../bootstrap/self.ts";
import type { Artifact } from "../vm/artifact.ts";
import { GatewayError } from "../vm/error.ts";
import { silentSpan } from "../vm/event.ts";
import { LibkrunVmm } from "../vm/libkrun.ts";
import { run } from "../vm/process.ts";
import type { VmSpec } from "../vm/spec.ts";
import { waitFor } from "../vm/wait.ts";
import { fakeKernel } from "./fakes/kernel.ts";
import { FakeKrun } from "./fakes/krun.ts";
import { denoArgs, Sandbox } from "./sandbox.ts";

const CLI = fromFileUrl(new URL("../cli.ts", import.meta.url));
const options = () => ({ span: silentSpan(), signal: new AbortController().signal });

/** A sandbox with one instance's folder, its plan not yet written. */
class Plans implements AsyncDisposable {
  private constructor(readonly sandbox: Sandbox, readonly dir: string, readonly sockets: string) {}

  static async make(): Promise<Plans> {
    const sandbox = await Sandbox.make();
    const dir = join(sandbox.top, "data/gateway/instances/dev");
    const sockets = join(sandbox.top, "run/gateway/dev");
    for (const path of [dir, sockets, join(sandbox.top, "cache/gateway")]) {
      await Deno.mkdir(path, { recursive: true });
    }
    await Deno.writeFile(join(sandbox.top, "cache/gateway/vmlinux"), fakeKernel());
    return new Plans(sandbox, dir, sockets);
  }

  spec(change: Partial<Parameters<typeof planVm>[0]> = {}): VmSpec {
    return planVm({
      name: "dev",
      mode: "cluster",
      cpus: 2,
      memoryMiB: 2048,
      vmm: "libkrun",
      arch: "x86_64",
      os: "linux",
      kernelPath: join(this.sandbox.top, "cache/gateway/vmlinux"),
      rootImage: join(this.sandbox.top, "cache/gateway/root.erofs"),
      dir: this.dir,
      runtimeDir: this.sockets,
      netSocket: join(this.sockets, "net"),
      stateDisk: { path: join(this.dir, "state.img"), format: "raw" },
      ramLayers: false,
      emulated: false,
      tscKHz: null,
      ...change,
    });
  }

  /** Runs `gateway __vmm` on a plan, connecting to its ports as a supervisor does. */
  async child(plan: unknown, library: string, env: Readonly<Record<string, string>> = {}) {
    const path = join(this.dir, "vm.json");
    await Deno.writeTextFile(path, typeof plan === "string" ? plan : JSON.stringify(plan));
    const ended = new AbortController();
    const running = run(Deno.execPath(), {
      args: denoArgs(CLI, ["__vmm", path]),
      env: { ...this.sandbox.env, GATEWAY_LIBKRUN: library, ...env },
      check: false,
      timeoutMs: 30_000,
    }).finally(() => ended.abort());
    const conns: Deno.UnixConn[] = [];
    const ports = (plan as VmSpec).consolePorts ?? [];
    for (const { socketPath } of Array.isArray(ports) ? ports : []) {
      const conn = await waitFor({
        what: "a port",
        probe: () => Deno.connect({ transport: "unix", path: socketPath }),
        timeoutMs: 20_000,
        intervalMs: 10,
        signal: ended.signal,
      }).catch(() => undefined);
      if (conn) conns.push(conn);
    }
    const result = await running;
    conns.forEach((conn) => conn.close());
    return result;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.sandbox[Symbol.asyncDispose]();
  }
}

/** The calls of a plan, with the sandbox's folder cut out. */
async function callsOf(change: Partial<Parameters<typeof planVm>[0]>): Promise<string[]> {
  await using plans = await Plans.make();
  await using fake = await FakeKrun.build();
  const result = await plans.child(plans.spec(change), fake.path, fake.env());
  assertEquals([result.code, result.stdout], [1, ""]);
  assertStringIncludes(result.stderr, "why: krun_start_enter returned -22 (EINVAL)");
  return (await fake.calls()).map((call) => call.replaceAll(plans.sandbox.top, ""));
}

const DIR = "/data/gateway/instances/dev";
const BEFORE = ["krun_has_feature(0)", "krun_has_feature(1)", "krun_set_log_level(2)"];

Deno.test("a cluster's plan becomes exactly these calls", async () => {
  const cmdline =
    "console=hvc0 ro root=/dev/vda rootfstype=erofs init=/sbin/gateway-init panic=-1 reboot=t " +
    "tsc=reliable quiet loglevel=4 gateway.mode=cluster";
  assertEquals(await callsOf({}), [
    ...BEFORE,
    "krun_create_ctx()",
    "krun_set_vm_config(3, 2, 2048)",
    `krun_set_kernel(3, /cache/gateway/vmlinux, 1, NULL, ${cmdline})`,
    "krun_disable_implicit_vsock(3)",
    "krun_add_disk3(3, root, /cache/gateway/root.erofs, 0, 1, 0, 0)",
    `krun_add_disk3(3, state, ${DIR}/state.img, 0, 0, 0, 2)`,
    `krun_add_disk3(3, payload, ${DIR}/payload.tar, 0, 1, 0, 0)`,
    "krun_add_net_unixstream(3, /run/gateway/dev/net, -1, 5a:94:ef:e4:0c:ee, 0, 0)",
    `krun_set_console_output(3, ${DIR}/console.log)`,
    "krun_add_virtio_console_multiport(3)",
    "krun_add_console_port_inout(3, 1, gw.control, 1, 1)",
    "krun_start_enter(3)",
  ]);
});

Deno.test("a program's plan has no state disk, no network and a second port", async () => {
  const calls = await callsOf({ mode: "exec", netSocket: null, cpus: 1 });
  assertEquals(calls.filter((call) => /disk|net|port_inout|vsock/.test(call)), [
    "krun_disable_implicit_vsock(3)",
    "krun_add_disk3(3, root, /cache/gateway/root.erofs, 0, 1, 0, 0)",
    `krun_add_disk3(3, payload, ${DIR}/payload.tar, 0, 1, 0, 0)`,
    "krun_add_console_port_inout(3, 1, gw.control, 1, 1)",
    "krun_add_console_port_inout(3, 1, gw.stdio, 1, 1)",
  ]);
});

Deno.test("a Mac's plan greets gvproxy by datagrams, as vfkit does", async () => {
  const calls = await callsOf({ os: "darwin" });
  assertEquals(calls.filter((call) => call.startsWith("krun_add_net")), [
    "krun_add_net_unixgram(3, /run/gateway/dev/net, -1, 5a:94:ef:e4:0c:ee, 0, 1)",
  ]);
});

Deno.test("a plan that is not ours is refused in one error each, before a library is opened", async () => {
  await using plans = await Plans.make();
  await using fake = await FakeKrun.build();
  const spec = plans.spec();
  const disk = (path: string, at: number) => ({
    ...spec,
    disks: spec.disks.map((one, index) => index === at ? { ...one, path } : one),
  });
  const bad: readonly (readonly [string, unknown, string])[] = [
    ["no JSON", "{", "it is not JSON"],
    ["another version", { ...spec, schemaVersion: 2 }, "schemaVersion: "],
    ["an unknown field", { ...spec, extra: 1 }, "extra: Invalid key"],
    ["an unknown field inside", {
      ...spec,
      kernel: { ...spec.kernel, initrd: "/x" },
    }, "kernel.initrd: "],
    ["a field that is missing", { ...spec, disks: undefined }, "disks: "],
    ["a kernel from elsewhere", {
      ...spec,
      kernel: { ...spec.kernel, path: "/boot/vmlinuz" },
    }, 'kernel.path is "/boot/vmlinuz", which is not in'],
    ["a root from elsewhere", disk("/etc/passwd", 0), 'disks.0.path is "/etc/passwd"'],
    [
      "a state disk in the cache",
      disk(spec.disks[0].path, 1),
      `disks.1.path is "${spec.disks[0].path}"`,
    ],
    [
      "a way out of the folder",
      disk(`${plans.dir}/../other/state.img`, 1),
      "disks.1.path is ",
    ],
    ["a console elsewhere", { ...spec, consoleLogPath: "/tmp/c" }, 'consoleLogPath is "/tmp/c"'],
    ["sockets elsewhere", { ...spec, runtimeDir: "/tmp" }, 'runtimeDir is "/tmp"'],
    ["a relative path", disk("state.img", 1), 'disks.1.path is "state.img"'],
  ];
  for (const [what, plan, why] of bad) {
    const { code, stdout, stderr } = await plans.child(plan, fake.path, fake.env());
    assertEquals([code, stdout], [1, ""], what);
    assertMatch(stderr, /^error: Cannot [^\n]*\n {2}why: [^\n]*\n {2}fix: [^\n]*\n$/, what);
    assertStringIncludes(stderr, `why: ${why}`, what);
  }
  assertEquals(await fake.calls(), []);
  assertEquals([...Deno.readDirSync(plans.sockets)], []);
});

Deno.test("a library that cannot be used is refused in one error each, exit code 1", async () => {
  await using plans = await Plans.make();
  await using old = await FakeKrun.build(["OLD"]);
  await using noNet = await FakeKrun.build(["NO_NET"]);
  const { top } = plans.sandbox;
  const text = join(top, "text.so");
  await Deno.writeTextFile(text, "no library");
  const open = join(top, "open/libkrun.so");
  await Deno.mkdir(join(top, "open"));
  await Deno.copyFile(noNet.path, open);
  await Deno.chmod(join(top, "open"), 0o777);
  const bad: readonly (readonly [string, string])[] = [
    [join(top, "nowhere.so"), "it is not there"],
    ["libkrun.so", "it is not an absolute path"],
    [top, "it is not a file"],
    [open, `everybody may write "${join(top, "open")}"`],
    [text, `"${text}" cannot be loaded: `],
    [old.path, "libkrun 1.16.0 or later has no krun_add_disk3, which is there since 1.17.0"],
    [noNet.path, `libkrun 1.18.0 or later at "${noNet.path}" was built without the feature "net"`],
  ];
  for (const [library, why] of bad) {
    const { code, stderr } = await plans.child(plans.spec(), library);
    assertEquals(code, 1, library);
    assertMatch(stderr, /^error: Cannot use [^\n]*\n {2}why: [^\n]*\n {2}fix: [^\n]*\n$/, library);
    assertStringIncludes(stderr, why, library);
  }
});

Deno.test("the child can read and call C, and nothing else", async () => {
  const script = fromFileUrl(new URL("fakes/revoked.ts", import.meta.url));
  const { stdout } = await run(Deno.execPath(), {
    args: denoArgs(script, ["/tmp/gw-must-not-be"]),
    timeoutMs: 30_000,
  });
  assertEquals(stdout, "read ffi\n");
  await assertRejects(() => Deno.stat("/tmp/gw-must-not-be"), Deno.errors.NotFound);
});

/** The driver in this very process, whose environment says where things are. */
async function withDriver(
  boots: string,
  body: (driver: LibkrunVmm, plans: Plans, fake: FakeKrun) => Promise<void>,
): Promise<void> {
  await using plans = await Plans.make();
  await using fake = await FakeKrun.build();
  const env: Record<string, string> = {
    ...plans.sandbox.env,
    ...fake.env(),
    KRUN_BOOTS: boots,
  };
  const before = Object.fromEntries(Object.keys(env).map((name) => [name, Deno.env.get(name)]));
  for (const [name, value] of Object.entries(env)) Deno.env.set(name, value);
  if (boots === "") Deno.env.delete("KRUN_BOOTS");
  try {
    const cache = join(plans.sandbox.top, "cache/gateway");
    const driver = new LibkrunVmm({
      kernelPath: join(cache, "vmlinux"),
      cacheDir: cache,
      self: selfCommand,
      flag: fake.path,
    });
    await body(driver, plans, fake);
  } finally {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
  }
}

const kvm = await Deno.open("/dev/kvm", { read: true, write: true }).then(
  (file) => (file.close(), true),
  () => false,
);
const kvmTest = (name: string, fn: () => Promise<void>) =>
  Deno.test({ name: `${name} (needs /dev/kvm)`, ignore: !kvm, fn });

kvmTest("LibkrunVmm.check() boots once for a library, a kernel and a machine", async () => {
  await withDriver("panics", async (driver, plans, fake) => {
    const check = await driver.check(options());
    assertEquals([check.usable, check.accelerator], [true, "libkrun"]);
    assertEquals(check.why, `a probe boot with it worked (--libkrun: ${fake.path})`);
    assertEquals((await fake.calls()).at(-1), "krun_start_enter(3)");
    assertEquals(await driver.check(options()), check);
    assertEquals(await fake.calls(), []);
    await Deno.writeFile(join(plans.sandbox.top, "cache/gateway/vmlinux"), fakeKernel(65));
    await driver.check(options());
    assertEquals((await fake.calls()).at(-1), "krun_start_enter(3)");
    const probes = [...Deno.readDirSync(join(plans.sandbox.top, "cache/gateway/probes"))];
    assertEquals(probes.every(({ name }) => name.endsWith(".json")), true);
  });
});

kvmTest("LibkrunVmm.check() says what libkrun returned", async () => {
  await withDriver("", async (driver) => {
    const { usable, why } = await driver.check(options());
    assertEquals([usable, why], [false, "krun_start_enter returned -22 (EINVAL)"]);
  });
});

kvmTest(
  "LibkrunVmm.start() gives ports to connect to, and leaves neither process nor socket",
  async () => {
    await withDriver("panics", async (driver, plans, fake) => {
      await driver.check(options());
      Deno.env.set("KRUN_BOOTS", "hangs");
      await fake.calls();
      const spec = plans.spec();
      {
        await using vm = await driver.start(spec, options());
        assertEquals(JSON.parse(await Deno.readTextFile(join(plans.dir, "vm.json"))), spec);
        const { socketPath } = spec.consolePorts[0];
        assertEquals(((await Deno.lstat(socketPath)).mode ?? 0) & 0o777, 0o700 & ~0o077);
        using _conn = await Deno.connect({ transport: "unix", path: socketPath });
        await waitFor({
          what: "the call that enters",
          probe: async () => {
            const text = await Deno.readTextFile(join(fake.dir, "calls"));
            return text.includes("krun_start_enter") || undefined;
          },
          timeoutMs: 20_000,
        });
        const { signal } = await vm.stop(5000);
        assertEquals(signal, "SIGTERM");
      }
      assertEquals(await plans.sandbox.processes(), []);
      assertEquals([...Deno.readDirSync(plans.sockets)], []);
    });
  },
);

kvmTest("LibkrunVmm.start() tells the child's own error", async () => {
  await withDriver("panics", async (driver, plans) => {
    await driver.check(options());
    const path = join(plans.dir, "vmlinux");
    await Deno.writeTextFile(path, "no kernel");
    const spec = plans.spec({ kernelPath: path });
    const error = await assertRejects(() => driver.start(spec, options()), GatewayError);
    assertEquals(error.toJSON(), {
      code: "vmm-failed",
      what: `Cannot boot the kernel "${path}"`,
      why: "it is not a 64-bit ELF file",
      fix: "run `gateway build kernel` to make it again",
    });
    assertEquals([...Deno.readDirSync(plans.sockets)], []);
    assert((await Deno.stat(spec.vmmLogPath)).isFile);
  });
});

/** The choice for a driver's kernel and library. */
async function choose(vmm: "auto" | "qemu" | "libkrun", plans: Plans, libkrun: string) {
  const file = (path: string) => ({ path, sha256: "", sizeBytes: 0 });
  const artifact = (name: string, path: string) =>
    ({ files: { [name]: file(path) } }) as unknown as Artifact;
  return await chooseVmm({
    kernel: artifact("vmlinux", join(plans.sandbox.top, "cache/gateway/vmlinux")),
    tsc: artifact("tsckhz", "/bin/true"),
    ramshim: artifact("ramshim.so", "/nowhere/ramshim.so"),
  }, { ...options(), assumeYes: false, config: { vmm }, libkrun });
}

kvmTest(
  "chooseVmm() takes libkrun where its probe boot works, and QEMU when it was asked for",
  async () => {
    await withDriver("panics", async (_, plans, fake) => {
      const { vmm, check, tscKHz } = await choose("auto", plans, fake.path);
      assertEquals([vmm.name, check.description, tscKHz], [
        "libkrun",
        "libkrun 1.18.0 or later, KVM",
        null,
      ]);
      assertStringIncludes(check.why, "a probe boot with it worked");
      assertEquals((await choose("libkrun", plans, fake.path)).vmm.name, "libkrun");
      await fake.calls();
      const other = await choose("qemu", plans, fake.path);
      assertEquals([other.vmm.name, other.check.why.includes("libkrun")], ["qemu", false]);
      assertEquals(await fake.calls(), []);
    });
  },
);

kvmTest(
  "chooseVmm() takes QEMU where libkrun's probe boot fails, says why, and insists when asked",
  async () => {
    await withDriver("", async (_, plans, fake) => {
      const { vmm, check } = await choose("auto", plans, fake.path);
      assertEquals(vmm.name, "qemu");
      assertMatch(check.why, /; not libkrun: krun_start_enter returned -22 \(EINVAL\)$/);
      const error = await assertRejects(() => choose("libkrun", plans, fake.path), GatewayError);
      assertEquals(error.toJSON(), {
        code: "vmm-missing",
        what: 'Cannot use --vmm "libkrun"',
        why: "krun_start_enter returned -22 (EINVAL)",
        fix: error.fix,
      });
      const gone = await assertRejects(
        () => choose("libkrun", plans, join(fake.dir, "gone.so")),
        GatewayError,
      );
      assertStringIncludes(gone.why, "gone.so");
    });
  },
);
