/**
 * The process that becomes the VM against a fake library: the calls that a plan becomes, what a bad plan or a bad library
 * is answered with, and what the process may do. Real boots are in tests/nested.
 *
 * @module
 */
import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import type { planVm } from "../bootstrap/plan/plan.ts";
import { GatewayError } from "../vm/base/error.ts";
import { run } from "../vm/base/process.ts";
import { VMM_BUNDLE_FILE } from "../vm/base/source.ts";
import { tsiFirmware } from "../vm/libkrun/find.ts";
import { bundleVmmProcess } from "../vm/libkrun/vmm_bundle.ts";
import { FakeKrun } from "./fakes/krun.ts";
import { Plans } from "./fakes/plans.ts";
import { denoArgs } from "./sandbox.ts";

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
    "console=hvc0 ro root=/dev/vda rootfstype=erofs init=/sbin/gateway-init panic=1 reboot=t " +
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

Deno.test("a plan with TSI boots the kernel in libkrunfw and has a vsock for it instead of a card", async () => {
  await using plans = await Plans.make();
  await using fake = await FakeKrun.build();
  const firmware = await fake.firmware();
  const change = { kernelPath: firmware, kernelFormat: "libkrunfw", tsi: true } as const;
  const { stderr } = await plans.child(plans.spec(change), fake.path, fake.env());
  assertStringIncludes(stderr, "why: krun_start_enter returned -22 (EINVAL)");
  const calls = await fake.calls();
  const kernel = calls.find((call) => call.startsWith("krun_set_kernel"));
  assertMatch(kernel ?? "", /^krun_set_kernel\(3, \/proc\/self\/fd\/\d+, 1, NULL, console=hvc0 /);
  assertEquals(calls.filter((call) => /vsock|_net_/.test(call)), [
    "krun_disable_implicit_vsock(3)",
    "krun_add_vsock(3, 1)",
  ]);
  const other = plans.spec({ ...change, kernelPath: "/lib/other.so" });
  const refused = await plans.child(other, fake.path, fake.env());
  assertEquals(refused.code, 1);
  assertStringIncludes(
    refused.stderr,
    `kernel.path is "/lib/other.so", not the libkrunfw of libkrun: that is "${firmware}"`,
  );
});

Deno.test("tsiFirmware() takes a libkrunfw whose kernel has TSI, and says what is missing", async () => {
  await using fake = await FakeKrun.build();
  const path = await fake.firmware();
  assertEquals(await tsiFirmware(path), path);
  await fake.firmware(["NO_TSI"]);
  await assertRejects(() => tsiFirmware(path), GatewayError, `the kernel in "${path}" has no TSI`);
  await assertRejects(() => tsiFirmware(undefined), GatewayError, "there is no libkrunfw here");
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
      disk(spec.disks[0]!.path, 1),
      `disks.1.path is "${spec.disks[0]!.path}"`,
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

Deno.test("the child as one file makes the same calls and refuses the same plans", async () => {
  await using plans = await Plans.make();
  await using fake = await FakeKrun.build();
  const dir = plans.sandbox.top;
  await bundleVmmProcess(dir, { signal: new AbortController().signal });
  const run = async (plan: unknown, bundle?: string) => {
    const { code, stderr } = await plans.child(plan, fake.path, fake.env(), bundle);
    // As the supervisor does: the process cannot remove its sockets.
    for (const { name } of Deno.readDirSync(plans.sockets)) {
      await Deno.remove(join(plans.sockets, name));
    }
    // The line of a VM that was entered has the time.
    return { code, words: stderr.replace(/^entering .*\n/, ""), calls: await fake.calls() };
  };
  const spec = plans.spec();
  for (const plan of [spec, { ...spec, extra: 1 }, { ...spec, consoleLogPath: "/tmp/c" }]) {
    const bundled = await run(plan, join(dir, VMM_BUNDLE_FILE));
    assertEquals(bundled, await run(plan));
    assertEquals([bundled.code, bundled.calls.length > 0], [1, plan === spec]);
  }
});
