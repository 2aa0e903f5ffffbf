import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { instanceConfig } from "../../tests/fakes/instance_config.ts";
import { runRecord } from "../../tests/fakes/run_record.ts";
import { GatewayError } from "../base/error.ts";
import { ensurePrivateDir, exists, instancePaths } from "../base/layout.ts";
import { inMemoryDir } from "../base/memory_dir.ts";
import { spawnChild } from "../base/process.ts";
import { identifyProcess } from "../base/process_table.ts";
import { waitFor } from "../base/wait.ts";
import {
  findInstance,
  findRuntimeFault,
  type InstanceState,
  listInstances,
  LockedInstance,
  removeInstance,
  requireInstance,
  requireRunning,
} from "./instance.ts";
import { lockHolder } from "./record.ts";

const config = (name: string) => instanceConfig({ name });

/** Of a supervisor that is gone. */
const run = runRecord({ supervisor: { pid: 999_999_999, startTime: "1" } });

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
  assertEquals(error.why, `it is running already (supervisor ${Deno.pid})`);
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

/** A program that another test starts at this moment has our lock open until it is itself. */
function stateBecomes(state: InstanceState): Promise<true> {
  return waitFor({
    what: `the state ${state}`,
    probe: async () => (await findInstance("a"))?.state === state || undefined,
    timeoutMs: 5000,
  });
}

for (const text of ["", "{", '{"schemaVersion":2}', "\0\0\0\0"]) {
  instanceTest(`a run.json of ${JSON.stringify(text)} counts as a run that ended`, async () => {
    {
      await using instance = await LockedInstance.open("a");
      await instance.saveConfig(config("a"));
    }
    const { runFile, stateDisk } = instancePaths("a");
    await Deno.writeTextFile(stateDisk, "disk");
    await Deno.writeTextFile(runFile, text);
    await stateBecomes("crashed");
    assertEquals((await listInstances()).map((view) => view.config.name), ["a"]);
    {
      await using _instance = await LockedInstance.open("a");
      assertEquals((await findInstance("a"))?.state, "running");
      await Deno.writeTextFile(runFile, text);
      const error = await assertRejects(() => requireRunning("a"), GatewayError);
      assertEquals(error.code, "instance-locked");
      assertEquals((await lockHolder(instancePaths("a")))?.pid, Deno.pid);
    }
    await stateBecomes("stopped");
    assertEquals(await Deno.readTextFile(stateDisk), "disk");
  });
}

instanceTest("a running instance's sockets are looked for where it was started", async () => {
  await using instance = await LockedInstance.open("a");
  await instance.saveConfig(config("a"));
  const { runtimeDir } = instance.paths;
  await instance.saveRun({ ...run, runtimeDir });
  const mine = Deno.env.get("XDG_RUNTIME_DIR")!;
  Deno.env.set("XDG_RUNTIME_DIR", `${mine}/of-another-caller`);
  assertEquals((await requireRunning("a")).paths.runtimeDir, runtimeDir);
  assertEquals(await findRuntimeFault(await requireInstance("a")), undefined);
  await Deno.remove(runtimeDir, { recursive: true });
  const error = await assertRejects(() => requireRunning("a"), GatewayError);
  assertEquals(error.code, "guest-unreachable");
  assert(error.why.includes(`"${runtimeDir}"`));
});

instanceTest(
  "LockedInstance removes a dead run's sockets where they were, nothing else",
  async () => {
    const elsewhere = join(Deno.env.get("XDG_RUNTIME_DIR")!, "old", "gateway");
    const precious = join(Deno.env.get("XDG_DATA_HOME")!, "precious", "a");
    for (const dir of [join(elsewhere, "a"), precious]) await Deno.mkdir(dir, { recursive: true });
    for (const runtimeDir of [join(elsewhere, "a"), precious]) {
      {
        await using instance = await LockedInstance.open("a");
        await instance.saveConfig(config("a"));
      }
      // As after a crash: the record stays, the lock is free.
      const { runFile } = instancePaths("a");
      await Deno.writeTextFile(runFile, JSON.stringify({ ...run, runtimeDir }));
      await (await LockedInstance.open("a"))[Symbol.asyncDispose]();
    }
    assertEquals([await exists(elsewhere), await exists(precious)], [false, true]);
  },
);

for (const linked of ["instances", "instances/a"]) {
  instanceTest(`${linked} may be a link to another disk`, async () => {
    const data = join(Deno.env.get("XDG_DATA_HOME")!, "gateway");
    const disk = join(Deno.env.get("XDG_DATA_HOME")!, "..", "disk");
    await Deno.mkdir(join(data, linked, ".."), { recursive: true });
    await Deno.mkdir(disk);
    await Deno.symlink(disk, join(data, linked));
    {
      await using instance = await LockedInstance.open("a");
      await instance.saveConfig(config("a"));
    }
    assertEquals((await listInstances()).map((view) => view.config.name), ["a"]);
    assertEquals((await Deno.stat(disk)).mode! & 0o777, 0o700);
    await removeInstance("a");
    assertEquals(await listInstances(), []);
    // The link that holds all instances is the user's; one instance's goes with it.
    const all = linked === "instances";
    assertEquals([await exists(join(data, linked)), await exists(disk)], [all, all]);
    if (all) assertEquals([...Deno.readDirSync(disk)], []);
  });
}

instanceTest("removeInstance() does not follow a link inside of an instance", async () => {
  const other = join(Deno.env.get("XDG_DATA_HOME")!, "other");
  {
    await using instance = await LockedInstance.open("a");
    await instance.saveConfig(config("a"));
    await Deno.mkdir(other);
    await Deno.writeTextFile(join(other, "file"), "keep");
    await Deno.symlink(other, join(instance.paths.dir, "snapshots"));
  }
  await removeInstance("a");
  assertEquals(await Deno.readTextFile(join(other, "file")), "keep");
});

Deno.test({
  name: "an instance that links to another user's folder is refused and nothing is removed",
  ignore: Deno.uid() !== 0,
  fn: async () => {
    const top = await Deno.makeTempDir();
    const [theirs, link] = [join(top, "theirs"), join(top, "link")];
    await Deno.mkdir(theirs);
    await Deno.chown(theirs, 65534, 65534);
    await Deno.symlink(theirs, link);
    const error = await assertRejects(
      () => ensurePrivateDir(link, { mayLink: true }),
      GatewayError,
    );
    assertEquals([error.code, error.why], ["permission", "it leads to a folder of user 65534"]);
    await Deno.remove(top, { recursive: true });
  },
});
