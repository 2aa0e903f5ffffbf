/**
 * The accelerator's probe and the QEMU driver against a fake QEMU.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { GatewayError, interruptedError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";
import { identifyProcess } from "../vm/base/process_table.ts";
import type { VmSpec } from "../vm/machine/spec.ts";
import { machineType } from "../vm/qemu/argv.ts";
import { qemuTool, QemuVmm } from "../vm/qemu/driver.ts";
import { hostCpu } from "../vm/qemu/host_cpu.ts";
import { probeAccelerator } from "../vm/qemu/probe.ts";
import { type Fake, installFake, withPath } from "./fakes/install.ts";
import { fakeKernel } from "./fakes/kernel.ts";
import { WITHOUT_HARDWARE } from "./fakes/no_hardware.ts";

async function fakeQemu(behaviour: string): Promise<Fake> {
  const fake = await installFake("qemu.sh", qemuTool("amd64").program);
  await fake.set("behaviour", behaviour);
  await Deno.writeFile(join(fake.dir, "kernel"), fakeKernel());
  await fake.set("deno", Deno.execPath());
  await fake.set("monitor", fromFileUrl(new URL("fakes/qemu_monitor.ts", import.meta.url)));
  return fake;
}

function probe(
  fake: Fake,
  options: { version?: string; signal?: AbortSignal; probeTimeoutMs?: number } = {},
) {
  return probeAccelerator({
    arch: "amd64",
    program: fake.path,
    version: options.version ?? "7.2.22",
    kernelPath: join(fake.dir, "kernel"),
    cacheDir: join(fake.dir, "cache"),
    probeTimeoutMs: options.probeTimeoutMs,
    // A host without it runs these tests, too.
    candidate: () => Promise.resolve("kvm"),
    span: silentSpan(),
    signal: options.signal ?? new AbortController().signal,
  });
}

const callsOf = async (fake: Fake) =>
  (await fake.get("calls")).split("\n").filter((line) => line !== "");

Deno.test("probeAccelerator() takes KVM when the kernel came all the way up", async () => {
  await using fake = await fakeQemu("boots");
  assertEquals(await probe(fake), {
    accelerator: "kvm",
    why: "a probe boot with it worked",
    fix: "",
  });
  const [call = "", ...more] = await callsOf(fake);
  assert(call.includes("-accel kvm") && call.includes(`-kernel ${fake.dir}/kernel`), call);
  assertEquals(more, []);
});

Deno.test("probeAccelerator() boots once and keeps its verdict for later starts", async () => {
  await using fake = await fakeQemu("boots");
  const first = await probe(fake);
  await fake.set("behaviour", "refuses");
  assertEquals(await probe(fake), first);
  assertEquals((await callsOf(fake)).length, 1);
});

Deno.test("probeAccelerator() boots again for another QEMU or another kernel", async () => {
  await using fake = await fakeQemu("boots");
  await probe(fake);
  await probe(fake, { version: "8.0.0" });
  assertEquals((await callsOf(fake)).length, 2);
  await fake.set("kernel", "another kernel");
  await probe(fake);
  assertEquals((await callsOf(fake)).length, 3);
});

Deno.test("probeAccelerator() boots again when the verdict it kept cannot be read", async () => {
  await using fake = await fakeQemu("boots");
  await probe(fake);
  const folder = join(fake.dir, "cache", "probes");
  const file = join(folder, [...Deno.readDirSync(folder)][0]!.name);
  for (const text of ["", "{", `{"accelerator":"magic"}`]) {
    await Deno.writeTextFile(file, text);
    assertEquals((await probe(fake)).accelerator, "kvm");
  }
  assertEquals((await callsOf(fake)).length, 4);
});

Deno.test("probeAccelerator() takes emulation when QEMU refuses, and says so", async () => {
  await using fake = await fakeQemu("refuses");
  const { accelerator, why, fix } = await probe(fake);
  assertEquals([accelerator, why], ["tcg", "a probe boot with KVM ended with code 1"]);
  assert(fix !== "");
});

Deno.test(
  "probeAccelerator() takes emulation when the kernel hangs, ends the boot and is bounded",
  async () => {
    await using fake = await fakeQemu("hangs");
    const { accelerator, why } = await probe(fake, { probeTimeoutMs: 4000 });
    assertEquals([accelerator, why], [
      "tcg",
      "a probe boot with KVM hung after its first lines for 4 s",
    ]);
  },
);

Deno.test(
  "probeAccelerator() ends the boot and keeps no verdict when the user stops it",
  async () => {
    await using fake = await fakeQemu("silent");
    const controller = new AbortController();
    const verdict = probe(fake, { signal: controller.signal });
    setTimeout(() => controller.abort(interruptedError()), 300);
    const error = await assertRejects(() => verdict, GatewayError);
    assertEquals([error.code, error.exitCode], ["interrupted", 130]);
    await assertRejects(() => Deno.stat(join(fake.dir, "cache", "probes")));
  },
);

function specOf(fake: Fake): VmSpec {
  return {
    schemaVersion: 1,
    name: "dev",
    cpus: 1,
    memoryMiB: 256,
    kernel: { path: join(fake.dir, "kernel"), format: "elf", cmdline: "console=ttyS0" },
    ram: null,
    incoming: null,
    disks: [],
    net: null,
    consolePorts: [],
    consoleLogPath: join(fake.dir, "console.log"),
    runtimeDir: fake.dir,
    vmmLogPath: join(fake.dir, "vmm.log"),
  };
}

const start = () => ({ span: silentSpan(), signal: new AbortController().signal });

function driver(fake: Fake): QemuVmm {
  return new QemuVmm({
    kernelPath: join(fake.dir, "kernel"),
    cacheDir: join(fake.dir, "cache"),
    candidate: WITHOUT_HARDWARE,
  });
}

Deno.test("QemuVmm.check() says how it would run", async () => {
  await using fake = await fakeQemu("monitor");
  await withPath(fake.dir, async () => {
    const { machine, ...check } = await driver(fake).check(start());
    assertEquals(machine, `${machineType("tcg", "amd64")} ${await hostCpu("tcg")}`);
    assertEquals(check, {
      usable: true,
      description: "QEMU 7.2.22, TCG (emulation)",
      accelerator: "tcg",
      why: "emulation is what is tried",
      fix: "",
    });
  });
});

Deno.test("QemuVmm.start() empties the console log, opens a private monitor and stops by it", async () => {
  await using fake = await fakeQemu("monitor");
  await fake.set("console.log", "of an earlier start");
  await withPath(fake.dir, async () => {
    const vm = await driver(fake).start(specOf(fake), start());
    const id = identifyProcess(vm.pid);
    assert(id !== undefined);
    assertEquals(await fake.get("console.log"), "");
    const { mode } = await Deno.stat(join(fake.dir, "qmp"));
    assertEquals(mode! & 0o077, 0);
    const { code } = await vm.stop(5000);
    assertEquals([code, identifyProcess(vm.pid)], [0, undefined]);
    await vm[Symbol.asyncDispose]();
  });
});

for (const ram of [{ layers: [] }, null]) {
  const what = ram ? "its memory library" : "the library that confines it";
  Deno.test(`QemuVmm.start() refuses a QEMU that runs without ${what}, and ends it`, async () => {
    await using fake = await fakeQemu("monitor");
    await withPath(fake.dir, async () => {
      const vmm = new QemuVmm({
        kernelPath: join(fake.dir, "kernel"),
        cacheDir: join(fake.dir, "cache"),
        candidate: WITHOUT_HARDWARE,
        ramshim: join(fake.dir, "ramshim.so"),
      });
      const error = await assertRejects(
        () => vmm.start({ ...specOf(fake), ram }, start()),
        GatewayError,
      );
      assertEquals([error.code, error.what], ["vmm-failed", `Cannot start QEMU for "dev"`]);
      // The loader's words are in the log: there is no such library.
      assert(/ramshim|memory library/.test(error.why), error.why);
      await assertRejects(() => Deno.connect({ transport: "unix", path: join(fake.dir, "qmp") }));
    });
  });
}

Deno.test("QemuVmm.start() gives QEMU's last words when it ends at once", async () => {
  await using fake = await fakeQemu("refuses");
  await withPath(fake.dir, async () => {
    const error = await assertRejects(
      () => driver(fake).start(specOf(fake), start()),
      GatewayError,
    );
    assertEquals([error.code, error.what, error.why], [
      "vmm-failed",
      `Cannot start QEMU for "dev"`,
      "qemu-system-x86_64: could not open the thing",
    ]);
  });
});

Deno.test("QemuVmm.start() leaves no QEMU behind when the user stops it", async () => {
  await using fake = await fakeQemu("silent");
  const controller = new AbortController();
  const span = silentSpan();
  await withPath(fake.dir, async () => {
    setTimeout(() => controller.abort(interruptedError()), 300);
    const error = await assertRejects(
      () => driver(fake).start(specOf(fake), { span, signal: controller.signal }),
      GatewayError,
    );
    assertEquals(error.code, "interrupted");
  });
  const pid = span.events.find((event) => event.message === "QEMU started")!.attrs!.pid as number;
  assertEquals(identifyProcess(pid), undefined);
});
