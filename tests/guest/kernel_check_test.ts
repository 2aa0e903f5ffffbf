/**
 * A kernel that lacks what a cluster needs ends `up` early and by name: init's check in a namespace with a faked /proc,
 * on the real list, and what the host makes of the line it says.
 *
 * @module
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { guardSignal } from "../../bootstrap/run/guard.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { ControlPort } from "../../vm/machine/control_port.ts";
import { type GuestRoot, guestTest, stage } from "./harness.ts";

const LIST = new URL("../../kernel/capabilities.tsv", import.meta.url);

/** Options of the rows of one level. */
async function listed(level: string): Promise<string[]> {
  const lines = (await Deno.readTextFile(LIST)).split("\n").map((line) => line.split("\t"));
  return lines.filter(([first]) => first === level).flatMap((row) => row[2]!.split(" "));
}

/** A /proc that shows a kernel with exactly these options. */
async function fakeKernel(root: GuestRoot, options: readonly string[]): Promise<void> {
  const text = options.map((name) => `${name}=y\n`).join("");
  const packed = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
  await root.write("proc/config.gz", new Uint8Array(await new Response(packed).arrayBuffer()));
  await root.write("proc/uptime", "1.50 1.00\n");
  await Deno.mkdir(join(root.path, "proc/self"));
  await Deno.symlink("/bin/busybox", join(root.path, "proc/self/exe"));
  await root.write("capabilities.tsv", await Deno.readTextFile(LIST));
}

const CHECK = `mkdir -p /libs; cp -r /gw/jobs /gw/stages /libs/; cp /capabilities.tsv /libs/
lib=/libs; begin kernel-check; job_kernel=$!\n${stage("20-kernel-check")}`;

guestTest(
  "init goes on with a kernel that has every required option and no other",
  async (root) => {
    await fakeKernel(root, await listed("required"));
    const result = await root.run(CHECK, { proc: "fake" });
    assertEquals(result.code, 0, result.stdout + result.stderr);
    assertMatch(result.marks[0]!, /kernel-check ready=/);
  },
);

guestTest("a kernel without CONFIG_BRIDGE ends up at the first look, by name", async (root) => {
  await fakeKernel(root, (await listed("required")).filter((name) => name !== "CONFIG_BRIDGE"));
  const result = await root.run(CHECK, { proc: "fake" });
  assertEquals(result.code, 42, result.stdout + result.stderr);
  const reason = await reasonOfHost(result.marks[0]!);
  assertEquals(reason.code, "guest-failed");
  assertMatch(reason.why, /^CONFIG_BRIDGE is not in this kernel: there is no pod network/);
});

/** The error that `up` ends with when the guest says this line on its control port. */
async function reasonOfHost(line: string): Promise<GatewayError> {
  const dir = await Deno.makeTempDir();
  const path = join(dir, "control");
  using listener = Deno.listen({ transport: "unix", path });
  const accepted = listener.accept();
  const { signal } = new AbortController();
  using control = await ControlPort.connect(path, { span: silentSpan(), signal });
  using guest = await accepted;
  const guarded = guardSignal(signal, {
    vm: { exited: new Promise(() => {}) },
    control,
    consoleLogPath: "/nowhere/console.log",
    gvproxyLogPath: "/nowhere/gvproxy.log",
  });
  const aborted = new Promise((resolve) => guarded.addEventListener("abort", resolve));
  await guest.write(new TextEncoder().encode(`${line}\n`));
  await aborted;
  await Deno.remove(dir, { recursive: true });
  assert(guarded.reason instanceof GatewayError);
  return guarded.reason;
}
