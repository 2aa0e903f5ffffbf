/**
 * Stopping, removing and looking at instances whose supervisor is a process without a VM. They need folders of their
 * own, which the whole process's environment decides, so they go through the real command line.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { readLines } from "../vm/base/lines.ts";
import { cutLog } from "../vm/base/log_file.ts";
import { run, signalProcess } from "../vm/base/process.ts";
import { identifyProcess } from "../vm/base/process_table.ts";
import { startInstance } from "./fakes/instance.ts";
import { denoArgs, Sandbox } from "./sandbox.ts";

const DOWN = fromFileUrl(new URL("fakes/down.ts", import.meta.url));
const SECOND_SIGNAL = fromFileUrl(new URL("fakes/second_signal.ts", import.meta.url));

Deno.test("gateway down stops the supervisor, keeps the disk, and is content the second time", async () => {
  await using sandbox = await Sandbox.make();
  await using fake = await startInstance(sandbox, "dev", "clean");
  const first = await sandbox.gateway(["down", "dev"]);
  assertEquals([first.code, first.stdout, first.stderr], [0, "", `Stopped "dev".\n`]);
  await fake.supervisor.exited;
  assertEquals(await sandbox.processes(), []);
  assertEquals(await sandbox.files(), [
    "data/gateway/instances/dev/instance.json",
    "data/gateway/instances/dev/lock",
    "data/gateway/instances/dev/state.img",
  ]);
  const second = await sandbox.gateway(["down", "--name", "dev", "--json"]);
  assertEquals([second.code, second.stderr], [0, ""]);
  assertEquals(JSON.parse(second.stdout), { name: "dev", outcome: "was-stopped" });
});

Deno.test("gateway down ends what a killed supervisor left behind", async () => {
  await using sandbox = await Sandbox.make();
  await using fake = await startInstance(sandbox, "dev", "clean");
  signalProcess(fake.supervisor.pid, "SIGKILL");
  await fake.supervisor.exited;
  assert(identifyProcess(fake.vmmPid) !== undefined);
  const status = await sandbox.gateway(["status", "--name", "dev", "--json"]);
  assertEquals([status.code, JSON.parse(status.stdout).state], [1, "crashed"]);
  const { code, stderr } = await sandbox.gateway(["down", "dev"]);
  assertEquals([code, stderr], [0, `"dev" had crashed; what it left behind is gone.\n`]);
  assertEquals(await sandbox.processes(), []);
  assertEquals((await sandbox.files()).filter((path) => /run\.json$|^run\//.test(path)), []);
});

Deno.test("down() kills a supervisor that does not stop in time, and what it owned", async () => {
  await using sandbox = await Sandbox.make();
  await using fake = await startInstance(sandbox, "dev", "never");
  const { stdout } = await run(Deno.execPath(), {
    args: denoArgs(DOWN, ["dev", "500"]),
    env: sandbox.env,
    timeoutMs: 20_000,
  });
  assertEquals(stdout, "killed: the supervisor did not stop within 0.5 s; killing it");
  await fake.supervisor.exited;
  assertEquals(await sandbox.processes(), []);
  const next = await sandbox.gateway(["rm", "dev"]);
  assertEquals([next.code, await sandbox.files()], [0, []]);
});

Deno.test("gateway rm refuses a running instance, and --force stops and removes it whole", async () => {
  await using sandbox = await Sandbox.make();
  await using fake = await startInstance(sandbox, "dev", "clean");
  const refused = await sandbox.gateway(["rm", "dev"]);
  assertEquals([refused.code, refused.stdout], [1, ""]);
  assertEquals(
    refused.stderr,
    `error: Cannot remove the instance "dev"\n  why: it is running\n` +
      "  fix: run `gateway down --name dev` first, or `gateway rm --force --name dev`\n",
  );
  assert(identifyProcess(fake.vmmPid) !== undefined);
  const { code, stderr } = await sandbox.gateway(["rm", "--force", "dev"]);
  assertEquals([code, stderr], [0, `Removed "dev".\n`]);
  assertEquals([await sandbox.files(), await sandbox.processes()], [[], []]);
});

Deno.test("gateway status, list and logs show a running instance", async () => {
  await using sandbox = await Sandbox.make();
  await using fake = await startInstance(sandbox, "dev", "clean");
  await Deno.writeTextFile(sandbox.paths("dev").consoleLog, "hello from the console\n");
  const status = await sandbox.gateway(["status", "--name", "dev"]);
  assertEquals([status.code, status.stderr], [0, ""]);
  assertStringIncludes(status.stdout, "dev   ready (took 60 s)");
  assertStringIncludes(status.stdout, `vmm ${fake.vmmPid} (`);
  const list = await sandbox.gateway(["list", "--json"]);
  assertEquals(
    JSON.parse(list.stdout).map(({ name, state }: Record<string, string>) => [name, state]),
    [["dev", "running"]],
  );
  const logs = await sandbox.gateway(["logs", "--name", "dev"]);
  assertEquals([logs.code, logs.stdout, logs.stderr], [0, "hello from the console\n", ""]);
});

Deno.test("gateway logs -f goes on with new lines until Ctrl-C", async () => {
  await using sandbox = await Sandbox.make();
  await using _fake = await startInstance(sandbox, "dev", "clean");
  const path = sandbox.paths("dev").consoleLog;
  await Deno.writeTextFile(path, "one\n");
  const follower = sandbox.start(["logs", "-f", "--name", "dev"]);
  const lines = readLines(follower.stdout!);
  const stderr = new Response(follower.stderr).text();
  assertEquals((await lines.next()).value, "one");
  await Deno.writeTextFile(path, "two\n", { append: true });
  assertEquals((await lines.next()).value, "two");
  // A later start begins the log anew.
  await Deno.writeTextFile(path, "3\n");
  assertEquals((await lines.next()).value, "3");
  // What a flood has made it is cut while it is followed: what was shown is not shown again.
  await Deno.writeTextFile(path, "4\n".repeat(1000) + "5\n", { append: true });
  while ((await lines.next()).value !== "5");
  await cutLog(path, { maxBytes: 1000, keptBytes: 100 });
  await Deno.writeTextFile(path, "6\n", { append: true });
  assertEquals((await lines.next()).value, "6");
  signalProcess(follower.pid, "SIGINT");
  assertEquals((await follower.exited).code, 130);
  assertEquals((await lines.next()).done, true);
  await stderr;
});

for (
  const [signals, states] of [
    ["SIGINT SIGINT", "stop force after its listeners"],
    ["SIGTERM SIGTERM", "stop stop"],
    // A terminal that is closed after a Ctrl-C.
    ["SIGINT SIGHUP SIGHUP SIGINT", "stop stop stop force after its listeners"],
    ["SIGHUP SIGINT SIGTERM", "stop stop stop"],
    ["SIGTERM SIGINT SIGINT", "stop stop force after its listeners"],
  ] as const
) {
  Deno.test(`a command that gets ${signals} does: ${states}`, async () => {
    await using sandbox = await Sandbox.make();
    const { stdout } = await run(Deno.execPath(), {
      args: denoArgs(SECOND_SIGNAL, signals.split(" ")),
      env: sandbox.env,
      timeoutMs: 20_000,
    });
    assertEquals(stdout, states);
  });
}

Deno.test("gateway up -dy ends with the supervisor's error instead of starting itself for ever", async () => {
  await using sandbox = await Sandbox.make();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const { code, stderr } = await sandbox.gateway(["up", "-dy", "-p", `${port}:30051`]);
  assertEquals(code, 1);
  assertStringIncludes(stderr, `error: Cannot listen on "127.0.0.1:${port}"\n`);
  assertEquals([await sandbox.files(), await sandbox.processes()], [[], []]);
});

Deno.test("gateway status --timeline shows the last start, as text and as JSON", async () => {
  await using sandbox = await Sandbox.make();
  await using _fake = await startInstance(sandbox, "dev", "clean");
  const records = [
    { t: 1000, kind: "start", id: 1, parent: null, name: "up" },
    { t: 1100, kind: "start", id: 2, parent: 1, name: "start vm" },
    { t: 1400, kind: "end", id: 2, parent: 1, name: "start vm" },
  ];
  await Deno.writeTextFile(
    join(sandbox.paths("dev").dir, "events.jsonl"),
    records.map((record) => JSON.stringify(record) + "\n").join(""),
  );
  const text = await sandbox.gateway(["status", "--name", "dev", "--timeline"]);
  assertEquals([text.code, text.stderr], [0, ""]);
  assertStringIncludes(text.stdout, "start vm");
  const json = await sandbox.gateway(["status", "--name", "dev", "--timeline", "--json"]);
  assertEquals(JSON.parse(json.stdout).map(({ name }: { name: string }) => name), [
    "up",
    "start vm",
  ]);
});

Deno.test("gateway rm --force works although ~/.kube is a file", async () => {
  await using sandbox = await Sandbox.make();
  await using _fake = await startInstance(sandbox, "dev", "clean");
  await Deno.writeTextFile(join(sandbox.env.HOME, ".kube"), "mine");
  const { code, stderr } = await sandbox.gateway(["rm", "--force", "dev"]);
  assertEquals([code, stderr], [0, `Removed "dev".\n`]);
  assertEquals(await sandbox.files(), ["home/.kube"]);
});

Deno.test("gateway rm says what it cannot reach outside of the instance, and --force leaves it", async () => {
  await using sandbox = await Sandbox.make();
  await using fake = await startInstance(sandbox, "dev", "clean");
  // A link that leads back to itself cannot be read by anybody, root included.
  const kube = join(sandbox.env.HOME, ".kube");
  await Deno.symlink(kube, kube);
  await sandbox.gateway(["down", "dev"]);
  await fake.supervisor.exited;
  const refused = await sandbox.gateway(["rm", "dev"]);
  assertEquals(refused.code, 1, refused.stderr);
  assertStringIncludes(refused.stderr, "  why: a symbolic link leads back to itself\n");
  assertStringIncludes(refused.stderr, "gateway rm --force --name dev");
  assert((await sandbox.files()).includes("data/gateway/instances/dev/state.img"));
  const { code, stderr } = await sandbox.gateway(["rm", "--force", "dev"]);
  assertEquals(code, 0, stderr);
  assertStringIncludes(stderr, "left behind: ");
  assertEquals(await sandbox.files(), ["home/.kube"]);
});

Deno.test("an empty run.json does not keep an instance from being listed, stopped or removed", async () => {
  await using sandbox = await Sandbox.make();
  await using fake = await startInstance(sandbox, "dev", "clean");
  const { runFile } = sandbox.paths("dev");
  await Deno.writeTextFile(runFile, "");
  const list = await sandbox.gateway(["list", "--json"]);
  assertEquals(JSON.parse(list.stdout).map(({ state }: { state: string }) => state), ["running"]);
  assertEquals((await sandbox.gateway(["down", "dev"])).stderr, `Stopped "dev".\n`);
  await fake.supervisor.exited;
  // As after a power cut.
  await Deno.writeTextFile(runFile, "");
  const status = await sandbox.gateway(["status", "--name", "dev", "--json"]);
  assertEquals(JSON.parse(status.stdout).state, "crashed");
  const removed = await sandbox.gateway(["rm", "dev"]);
  assertEquals([removed.code, removed.stderr], [0, `Removed "dev".\n`]);
  assertEquals([await sandbox.files(), await sandbox.processes()], [[], []]);
});

for (const variable of ["XDG_RUNTIME_DIR", "XDG_DATA_HOME"] as const) {
  Deno.test(`gateway up says in three lines that ${variable} is a file`, async () => {
    await using sandbox = await Sandbox.make();
    await Deno.remove(sandbox.env[variable]);
    await Deno.writeTextFile(sandbox.env[variable], "");
    for (const detach of [[], ["--detach"]]) {
      const { code, stdout, stderr } = await sandbox.gateway(["up", ...detach]);
      assertEquals([code, stdout], [1, ""], stderr);
      assertStringIncludes(stderr, "  why: a file is where a folder is needed\n  fix: ");
      assertStringIncludes(stderr, "XDG_");
      assert(!stderr.includes("bug:"), stderr);
    }
  });
}
