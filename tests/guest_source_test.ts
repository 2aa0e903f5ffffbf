/**
 * A start up to the VM over records that cannot be read and disks that were never whole. The whole process's environment
 * decides where instances are, so these tests run alone.
 *
 * @module
 */
import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import type { ChosenVmm } from "../bootstrap/plan/choose_vmm.ts";
import { prepareGuest } from "../bootstrap/saved/guest_source.ts";
import { GatewayError } from "../vm/base/error.ts";
import { EventLog, type EventRecord } from "../vm/base/event.ts";
import { exists, type InstancePaths, instancePaths } from "../vm/base/layout.ts";
import { isUnfinished, markUnfinished } from "../vm/instance/folder.ts";
import { LockedInstance } from "../vm/instance/instance.ts";
import type { VmSpec } from "../vm/machine/spec.ts";
import { instanceConfig } from "./fakes/instance_config.ts";
import { makeInstance, withHome } from "./instance_home.ts";

const config = instanceConfig({ name: "a" });
const chosen = {
  vmm: { supports: { snapshot: true, net: [] } },
  check: { description: "stand-in", machine: "none" },
} as unknown as ChosenVmm;
const planned = {
  disks: [],
  consolePorts: [],
  kernel: { path: "/k" },
  cpus: 1,
  memoryMiB: 1,
} as unknown as VmSpec;

/** A start up to the VM; gives what it warned of. */
async function prepare(paths: InstancePaths, cold: boolean): Promise<string[]> {
  const log = new EventLog();
  const records: EventRecord[] = [];
  log.addSink((record) => void records.push(record));
  await prepareGuest(paths, config, chosen, planned, {
    ...{ cold, keep: true, payloadDigest: "", signal: new AbortController().signal },
    goldenDisk: () => Promise.resolve(undefined),
    span: log.span("test"),
  });
  return records.filter((one) => one.kind === "warn").map(({ message }) => message ?? "");
}

Deno.test("prepareGuest() refuses a suspend slot that it cannot read, and drops it with --cold", () =>
  withHome(async () => {
    await makeInstance("a");
    await using instance = await LockedInstance.open("a");
    const { paths } = instance;
    const [slot, memory] = [join(paths.dir, "suspend.json"), join(paths.dir, "ram-1.layer")];
    await prepare(paths, false);
    for (const path of [slot, memory]) await Deno.writeTextFile(path, '{"schemaVersion":3}');
    const error = await assertRejects(() => prepare(paths, false), GatewayError);
    assertEquals([error.code, error.what], ["instance-schema", `Cannot read "${slot}"`]);
    assertEquals(error.fix.includes("gateway up --cold --name a"), true);
    assertEquals([await exists(slot), await exists(memory)], [true, true]);
    assertEquals((await prepare(paths, true)).length, 1);
    assertEquals([await exists(slot), await exists(memory)], [false, false]);
  }));

Deno.test("prepareGuest() keeps the files of a snapshot that it cannot read, and warns of it", () =>
  withHome(async () => {
    await makeInstance("a");
    await using instance = await LockedInstance.open("a");
    const { paths } = instance;
    await prepare(paths, false);
    const record = join(paths.snapshotsDir, "s.json");
    const memory = join(paths.dir, "ram-1.layer");
    await Deno.mkdir(paths.snapshotsDir);
    await Deno.writeTextFile(record, "");
    await Deno.writeTextFile(memory, "memory");
    const [warning] = await prepare(paths, true);
    assertEquals(warning?.startsWith(`"${record}" cannot be read`), true);
    assertEquals([await exists(record), await exists(memory)], [true, true]);
  }));

Deno.test("LockedInstance.open() empties a folder that never became an instance", () =>
  withHome(async () => {
    const paths = instancePaths("a");
    await Deno.mkdir(join(paths.dir, "snapshots"), { recursive: true });
    for (const name of ["state.img", "disk.json", "suspend.json", "pki"]) {
      await Deno.writeTextFile(join(paths.dir, name), "of a killed fork");
    }
    await markUnfinished(paths);
    await using instance = await LockedInstance.open("a");
    assertEquals(instance.created, true);
    assertEquals([...Deno.readDirSync(paths.dir)].map(({ name }) => name).sort(), [
      ...["lock", "unfinished"],
    ]);
  }));

Deno.test("LockedInstance.open() drops a disk that was never whole, and no other", () =>
  withHome(async ({ top }) => {
    await makeInstance("a");
    const paths = instancePaths("a");
    // As a start leaves it that is killed while it takes a golden state over.
    await Deno.writeTextFile(join(top, "state.img"), "golden");
    await Deno.link(join(top, "state.img"), paths.stateDisk);
    await markUnfinished(paths);
    {
      await using _instance = await LockedInstance.open("a");
      assertEquals([await exists(paths.stateDisk), await isUnfinished(paths)], [false, false]);
      await prepare(paths, false);
      assertEquals(await isUnfinished(paths), false);
    }
    // The guest of this one may have run.
    await markUnfinished(paths);
    await using _again = await LockedInstance.open("a");
    assertEquals([await exists(paths.stateDisk), await isUnfinished(paths)], [true, false]);
  }));
