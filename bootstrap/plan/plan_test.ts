import { assertEquals, assertThrows } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { parseVmSpec } from "../../vm/machine/spec.ts";
import { type PlanInput, planVm } from "./plan.ts";

const input: PlanInput = {
  name: "dev",
  mode: "cluster",
  cpus: 4,
  memoryMiB: 8192,
  vmm: "qemu",
  arch: "amd64",
  os: "linux",
  kernelPath: "/a/vmlinux",
  rootImage: "/a/root.erofs",
  dir: "/i/dev",
  runtimeDir: "/r/dev",
  netSocket: "/r/dev/net",
  stateDisk: { path: "/i/dev/state.img", format: "raw" },
  ramLayers: false,
  emulated: false,
  tscKHz: null,
};

const COMMON = "ro root=/dev/vda rootfstype=erofs init=/sbin/gateway-init panic=-1 reboot=t";

Deno.test("planVm() gives exactly this for a cluster on QEMU and Linux", () => {
  assertEquals(planVm(input), {
    schemaVersion: 1,
    name: "dev",
    cpus: 4,
    memoryMiB: 8192,
    kernel: {
      path: "/a/vmlinux",
      format: "elf",
      cmdline:
        `console=ttyS0 ${COMMON} tsc=reliable acpi=off no_timer_check quiet loglevel=4 gateway.mode=cluster`,
    },
    ram: null,
    incoming: null,
    disks: [
      { serial: "root", path: "/a/root.erofs", format: "raw", readonly: true },
      { serial: "state", path: "/i/dev/state.img", format: "raw", readonly: false },
      { serial: "payload", path: "/i/dev/payload.tar", format: "raw", readonly: true },
    ],
    net: { socketPath: "/r/dev/net", transport: "stream", mac: "5a:94:ef:e4:0c:ee" },
    consolePorts: [{ name: "gw.control", socketPath: "/r/dev/vm/control" }],
    consoleLogPath: "/i/dev/console.log",
    runtimeDir: "/r/dev/vm",
    vmmLogPath: "/i/dev/vmm.log",
  });
});

Deno.test("planVm() gives exactly this for a program on libkrun and macOS", () => {
  const plan = planVm({
    ...input,
    mode: "exec",
    vmm: "libkrun",
    arch: "arm64",
    os: "darwin",
    name: "exec-1",
    dir: "/x",
    runtimeDir: "/r/x",
  });
  assertEquals(plan, {
    schemaVersion: 1,
    name: "exec-1",
    cpus: 4,
    memoryMiB: 8192,
    kernel: {
      path: "/a/vmlinux",
      format: "image-arm64",
      cmdline: `console=hvc0 ${
        COMMON.replace("panic=-1", "panic=1")
      } quiet loglevel=4 gateway.mode=exec`,
    },
    ram: null,
    incoming: null,
    disks: [
      { serial: "root", path: "/a/root.erofs", format: "raw", readonly: true },
      { serial: "payload", path: "/x/payload.tar", format: "raw", readonly: true },
    ],
    net: { socketPath: "/r/dev/net", transport: "unixgram", mac: "5a:94:ef:e4:0c:ee" },
    consolePorts: [
      { name: "gw.control", socketPath: "/r/x/control" },
      { name: "gw.stdio", socketPath: "/r/x/stdio" },
    ],
    consoleLogPath: "/x/console.log",
    runtimeDir: "/r/x",
    vmmLogPath: "/x/vmm.log",
  });
});

/** What differs between the eight combinations: console, transport, disks, ports. */
const TABLE = [
  ["cluster", "qemu", "linux", "ttyS0", "stream", "root state payload", "control"],
  ["cluster", "qemu", "darwin", "ttyS0", "stream", "root state payload", "control"],
  ["cluster", "libkrun", "linux", "hvc0", "stream", "root state payload", "control"],
  ["cluster", "libkrun", "darwin", "hvc0", "unixgram", "root state payload", "control"],
  ["exec", "qemu", "linux", "ttyS0", "stream", "root payload", "control stdio"],
  ["exec", "qemu", "darwin", "ttyS0", "stream", "root payload", "control stdio"],
  ["exec", "libkrun", "linux", "hvc0", "stream", "root payload", "control stdio"],
  ["exec", "libkrun", "darwin", "hvc0", "unixgram", "root payload", "control stdio"],
] as const;

for (const [mode, vmm, os, ...wanted] of TABLE) {
  Deno.test(`planVm() obeys the table for ${mode} on ${vmm} and ${os}`, () => {
    const plan = planVm({ ...input, mode, vmm, os });
    assertEquals([
      /^console=(\S+)/.exec(plan.kernel.cmdline)![1],
      plan.net!.transport,
      plan.disks.map((disk) => disk.serial).join(" "),
      plan.consolePorts.map((port) => port.name.slice(3)).join(" "),
    ], [...wanted]);
    assertEquals(plan.kernel.cmdline.endsWith(`gateway.mode=${mode}`), true);
  });
}

Deno.test("planVm() takes an overlay as the state disk, and memory layers where they are wanted", () => {
  const stateDisk = { path: "/i/dev/disk-1.qcow2", format: "qcow2" } as const;
  const plan = planVm({ ...input, stateDisk, ramLayers: true });
  assertEquals(plan.disks[1], { serial: "state", ...stateDisk, readonly: false });
  assertEquals(plan.ram, { layers: [] });
});

Deno.test("planVm() writes only the state disk", () => {
  const writable = planVm(input).disks.filter((disk) => !disk.readonly);
  assertEquals(writable.map((disk) => disk.serial), ["state"]);
});

Deno.test("planVm() plans no network card without a socket", () => {
  assertEquals(planVm({ ...input, netSocket: null }).net, null);
});

Deno.test("planVm() tells the guest the host's counter where the driver measured it", () => {
  const words = planVm({ ...input, tscKHz: 2_600_000 }).kernel.cmdline.split(" ");
  assertEquals(words.filter((word) => word.startsWith("tsc")), [
    "tsc=reliable",
    "tsc_early_khz=2600000",
  ]);
});

Deno.test("planVm() turns mitigations off only for an emulated CPU", () => {
  const has = (emulated: boolean) =>
    planVm({ ...input, emulated }).kernel.cmdline.split(" ").includes("mitigations=off");
  assertEquals([has(true), has(false)], [true, false]);
});

Deno.test("planVm() uses QEMU's console of the architecture", () => {
  const { cmdline } = planVm({ ...input, arch: "arm64" }).kernel;
  assertEquals([cmdline.split(" ")[0], cmdline.includes("tsc=")], ["console=ttyAMA0", false]);
});

Deno.test("planVm() gives plain JSON that reads back as the same spec", () => {
  const plan = planVm(input);
  assertEquals(parseVmSpec(JSON.stringify(plan), "vm.json"), plan);
});

Deno.test("planVm() refuses a runtime folder that no socket fits into", () => {
  const error = assertThrows(
    () => planVm({ ...input, runtimeDir: `/${"r".repeat(100)}` }),
    GatewayError,
  );
  assertEquals(error.code, "path-too-long");
});

Deno.test("planVm() plans no card with TSI, and the kernel inside libkrunfw", () => {
  const plan = planVm({
    ...input,
    mode: "exec",
    vmm: "libkrun",
    netSocket: null,
    tsi: true,
    kernelPath: "/lib/libkrunfw.so.5",
    kernelFormat: "libkrunfw",
  });
  assertEquals(plan.net, { transport: "tsi" });
  assertEquals([plan.kernel.path, plan.kernel.format], ["/lib/libkrunfw.so.5", "libkrunfw"]);
  assertEquals(parseVmSpec(JSON.stringify(plan), "vm.json"), plan);
});
