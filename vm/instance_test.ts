import { assert, assertEquals, assertRejects } from "@std/assert";
import { GatewayError } from "./error.ts";
import {
  findInstance,
  type InstanceConfig,
  listInstances,
  LockedInstance,
  removeInstance,
  requireInstance,
  requireRunning,
  type RunRecord,
} from "./instance.ts";
import { join } from "@std/path";
import { exists, instancePaths } from "./layout.ts";
import { inMemoryDir } from "./memory_dir.ts";
import { identifyProcess, spawnChild } from "./process.ts";

const config = (name: string): InstanceConfig => ({
  schemaVersion: 1,
  name,
  createdAt: "2026-01-01T00:00:00Z",
  cpus: 2,
  memoryMiB: 2048,
  stateMiB: 1024,
  ports: [],
  vmm: "auto",
  kubeApi: true,
  payload: "demo",
  payloadDigest: null,
  clusterBinary: null,
});

const run: RunRecord = {
  schemaVersion: 1,
  phase: "ready",
  startedAt: "2026-01-01T00:00:00Z",
  readyAt: null,
  supervisor: { pid: 999_999_999, startTime: "1" },
  vmm: null,
  gvproxy: null,
  vmmDescription: null,
  vmmWhy: null,
  cluster: null,
  ports: [],
  sshPort: null,
  apiPort: null,
  endpoint: null,
  notes: null,
};

/** Runs a test with data and runtime folders of its own. */
function instanceTest(name: string, fn: () => Promise<void>): void {
  Deno.test(name, async () => {
    const top = await Deno.makeTempDir();
    const before = Deno.env.toObject();
    Deno.env.set("XDG_DATA_HOME", `${top}/data`);
    Deno.env.set("XDG_RUNTIME_DIR", `${top}/run`);
    await Deno.mkdir(`${top}/run`);
    try {
      await fn();
    } finally {
      for (const key of ["XDG_DATA_HOME", "XDG_RUNTIME_DIR"]) {
        if (before[key] === undefined) Deno.env.delete(key);
        else Deno.env.set(key, before[key]);
      }
      await Deno.remove(top, { recursive: true });
    }
  });
}

instanceTest("LockedInstance leaves no folder when it never became an instance", async () => {
  await (await LockedInstance.open("a"))[Symbol.asyncDispose]();
  await assertRejects(() => Deno.stat(instancePaths("a").dir), Deno.errors.NotFound);
  assertEquals(await listInstances(), []);
});

instanceTest("LockedInstance keeps the folder once its config is saved", async () => {
  {
    await using instance = await LockedInstance.open("a");
    await instance.saveConfig(config("a"));
    assertEquals((await findInstance("a"))?.state, "running");
  }
  assertEquals((await requireInstance("a")).state, "stopped");
  assertEquals((await Deno.stat(instancePaths("a").dir)).mode! & 0o777, 0o700);
});

instanceTest("LockedInstance.open() refuses a second holder and says who runs", async () => {
  await using instance = await LockedInstance.open("a");
  await instance.saveConfig(config("a"));
  await instance.saveRun(run);
  const error = await assertRejects(() => LockedInstance.open("a"), GatewayError);
  assertEquals(error.code, "instance-running");
  assert(error.why.includes("999999999"));
});

instanceTest("LockedInstance.open() ends the processes that a dead supervisor left", async () => {
  const child = spawnChild("sleep", { args: ["60"] });
  const paths = instancePaths("a");
  {
    await using instance = await LockedInstance.open("a");
    await instance.saveConfig(config("a"));
  }
  const record = { ...run, vmm: identifyProcess(child.pid)! };
  await Deno.writeTextFile(paths.runFile, JSON.stringify(record));
  // A folder in memory of this process, and one of the supervisor that is gone.
  const ours = (await inMemoryDir("test", 0))!;
  const gone = join(ours, "..", `${run.supervisor.pid}-1-test`);
  await Deno.mkdir(gone);
  assertEquals((await requireInstance("a")).state, "crashed");
  await using _instance = await LockedInstance.open("a");
  assertEquals((await child.exited).signal, "SIGTERM");
  assertEquals([await exists(ours), await exists(gone)], [true, false]);
  await Deno.remove(ours);
});

instanceTest(
  "LockedInstance.open() takes away what a killed process had half written",
  async () => {
    const { dir, sshDir, instanceFile } = instancePaths("a");
    {
      await using instance = await LockedInstance.open("a");
      await instance.saveConfig(config("a"));
    }
    await Deno.mkdir(sshDir);
    const whole = [instanceFile, join(sshDir, "id_ed25519"), join(dir, "notes.tmp-mine")];
    const half = [join(dir, "run.json.tmp-0123abcd"), join(sshDir, "id_ed25519.tmp-fedcba98")];
    for (const path of [...whole.slice(1), ...half]) await Deno.writeTextFile(path, "key");
    await using _instance = await LockedInstance.open("a");
    assertEquals(await Promise.all(whole.map(exists)), [true, true, true]);
    assertEquals(await Promise.all(half.map(exists)), [false, false]);
  },
);

instanceTest("requireRunning() tells a stopped instance from an unknown one", async () => {
  const unknown = await assertRejects(() => requireRunning("b"), GatewayError);
  assertEquals(unknown.code, "instance-unknown");
  {
    await using instance = await LockedInstance.open("a");
    await instance.saveConfig(config("a"));
  }
  const stopped = await assertRejects(() => requireRunning("a"), GatewayError);
  assertEquals(stopped.code, "instance-stopped");
});

instanceTest("removeInstance() takes everything away", async () => {
  {
    await using instance = await LockedInstance.open("a");
    await instance.saveConfig(config("a"));
  }
  await removeInstance("a");
  assertEquals(await findInstance("a"), undefined);
  await assertRejects(() => Deno.stat(instancePaths("a").dir), Deno.errors.NotFound);
});

instanceTest("findInstance() names the wrong field of a record it cannot read", async () => {
  await using instance = await LockedInstance.open("a");
  await instance.saveConfig(config("a"));
  await Deno.writeTextFile(instance.paths.instanceFile, '{"schemaVersion":1,"name":5}');
  const error = await assertRejects(() => findInstance("a"), GatewayError);
  assertEquals(error.code, "instance-schema");
});
