/**
 * What a user does, with the product's one file on a machine whose virtualization works, on QEMU with KVM: a new instance
 * by way of a golden state, suspend and resume, a snapshot brought back, a running clone. One line of JSON for each step.
 * It must not know the product's insides: it runs commands and reads what they print.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { attempt, tell } from "./inside_tell.ts";

const GATEWAY = "/gateway/gateway";
const STEP_TIMEOUT_MS = 15 * 60_000;

async function gateway(...args: string[]): Promise<string> {
  const output = await new Deno.Command(GATEWAY, {
    args,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(STEP_TIMEOUT_MS),
  }).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  const [stdout, stderr] = [decode(output.stdout), decode(output.stderr)];
  assertEquals(output.code, 0, `gateway ${args.join(" ")}\n${stdout}${stderr}`);
  return stdout || stderr;
}

const inGuest = (name: string, script: string) =>
  gateway("exec", "--name", name, "--", "sh", "-c", script);

const random = (name: string) => inGuest(name, "head -c 16 /dev/urandom | od -An -tx1");

/** The guest's clock was read between these two readings of ours. */
async function assertClock(name: string): Promise<void> {
  const before = Date.now() / 1000;
  const inside = Number(await inGuest(name, "date +%s.%N"));
  const after = Date.now() / 1000;
  const bound = 0.05;
  assert(inside > before - bound && inside < after + bound, `${before} ${inside} ${after}`);
}

/** The processes of an instance that take processor time: its VMM and the supervisor above it. */
async function processesOf(name: string): Promise<number[]> {
  for await (const { name: pid } of Deno.readDir("/proc")) {
    const argv = await Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => "");
    if (!argv.includes(`\0gateway-${name}\0`)) continue;
    const status = await Deno.readTextFile(`/proc/${pid}/status`);
    return [Number(/^PPid:\s+(\d+)/m.exec(status)![1]), Number(pid)];
  }
  throw new Error(`"${name}" has no VMM`);
}

/**
 * A clone of a running instance, which stands still once the clone has its memory: on one emulated processor a cluster
 * that starts beside another one runs into its own timeouts.
 */
async function fork(source: string, clone: string): Promise<void> {
  const forked = gateway("fork", source, clone);
  const events = `${Deno.env.get("HOME")}/.local/share/gateway/instances/${clone}/events.jsonl`;
  const started = async () =>
    (await Deno.readTextFile(events).catch(() => "")).includes('"name":"guest up"');
  const ended = forked.then(() => true, () => true);
  while (!await started()) {
    if (await Promise.race([ended, new Promise((next) => setTimeout(next, 500))])) break;
  }
  const processes = await processesOf(source);
  for (const pid of processes) Deno.kill(pid, "SIGSTOP");
  try {
    await forked;
  } finally {
    for (const pid of processes) Deno.kill(pid, "SIGCONT");
  }
}

const SIZE = ["--vmm", "qemu", "--cpus", "1", "--memory", "3072"];

const STEPS: readonly (readonly [string, () => Promise<string | void>])[] = [
  ["doctor finds QEMU with KVM", async () => {
    assertMatch(
      await gateway("doctor"),
      /^ok +qemu: QEMU [\d.]+, KVM: a probe boot with it worked/m,
    );
  }],
  ["up boots a cluster for a golden state and goes on from it", async () => {
    assertMatch(await gateway("up", "--detach", ...SIZE), /^vmm +QEMU [\d.]+, KVM/m);
    await assertClock("default");
    const clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    return await inGuest("default", `cat ${clock}; uname -n`);
  }],
  ["up of a suspended instance goes on", async () => {
    const id = await inGuest(
      "default",
      "echo kept >/run/kept; cat /proc/sys/kernel/random/boot_id",
    );
    await gateway("suspend");
    await gateway("up", "--detach");
    await assertClock("default");
    const again = await inGuest("default", "cat /run/kept /proc/sys/kernel/random/boot_id");
    assertEquals(again, `kept\n${id}`);
  }],
  ["a snapshot comes back, with memory and disk", async () => {
    await inGuest("default", "echo 1 >/run/mem; echo 1 >/var/lib/rancher/disk; sync");
    const told = await gateway("snapshot", "create", "one");
    await inGuest("default", "echo 2 >/run/mem; echo 2 >/var/lib/rancher/disk; sync");
    await gateway("snapshot", "restore", "one");
    assertEquals(await inGuest("default", "cat /run/mem /var/lib/rancher/disk"), "1\n1\n");
    await assertClock("default");
    return told;
  }],
  ["a running clone is another one", async () => {
    await fork("default", "two");
    const [list, one, two] = [await gateway("list"), await random("default"), await random("two")];
    assertEquals(list.match(/^(default|two) +ready/gm)?.length, 2, list);
    assertNotEquals(one, two);
    await assertClock("two");
    const nodes = await gateway("kubectl", "--name", "two", "--", "get", "nodes", "--no-headers");
    assertMatch(nodes, /^gateway +Ready /m);
  }],
  ["rm leaves nothing that runs", async () => {
    for (const name of ["two", "default"]) await gateway("rm", "--force", name);
    const running = [...Deno.readDirSync("/proc")].flatMap(({ name }) => {
      if (!/^\d+$/.test(name)) return [];
      try {
        const [program = ""] = Deno.readTextFileSync(`/proc/${name}/cmdline`).split("\0");
        return /qemu|gvproxy|gateway/.test(program) ? [program] : [];
      } catch {
        return [];
      }
    });
    assertEquals(running, []);
  }],
];

for (const [name, run] of STEPS) {
  const { value, error, ms } = await attempt(run);
  tell({ kind: "step", name, text: value ?? "", error, ms });
  if (error !== undefined) break;
}
tell({ kind: "end" });
