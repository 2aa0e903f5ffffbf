import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../base/error.ts";
import { instancePaths } from "../base/layout.ts";
import type { VmSpec } from "../machine/spec.ts";
import { PLAIN_DISK } from "./disk_chain.ts";
import {
  describeFile,
  dropSlot,
  findFault,
  isSuspended,
  listDamagedSnapshots,
  listSnapshots,
  machineKey,
  readState,
  requireSnapshot,
  type SavedState,
  slotRecord,
  snapshotRecord,
  spendSlot,
  sweep,
  writeState,
} from "./saved_state.ts";

async function withState(
  fn: (dir: string, state: SavedState) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(join(dir, "ram-1.layer"), "memory");
    await Deno.writeTextFile(join(dir, "dev-1.bin"), "devices");
    await fn(dir, {
      schemaVersion: 2,
      key: "k",
      devices: await describeFile(dir, "dev-1.bin"),
      ram: [await describeFile(dir, "ram-1.layer")],
      disk: null,
      savedAt: "2026-11-24T00:00:00.000Z",
      payload: null,
      certificates: null,
      clusterEnds: null,
      sshPort: 1,
      apiPort: null,
      from: null,
    });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const names = (dir: string) => [...Deno.readDirSync(dir)].map((entry) => entry.name).sort();

Deno.test("readState() gives what writeState() kept, in a private file", () =>
  withState(async (dir, state) => {
    const record = slotRecord({ dir });
    await writeState(record, state);
    assertEquals(await readState(record), state);
    assertEquals((await Deno.stat(record)).mode! & 0o777, 0o600);
    assert(await isSuspended({ dir }));
  }));

Deno.test("readState() is undefined when there is none, and names the wrong field of one it cannot read", () =>
  withState(async (dir, state) => {
    assertEquals(await readState(join(dir, "nothing.json")), undefined);
    const record = slotRecord({ dir });
    await Deno.writeTextFile(record, JSON.stringify({ ...state, ram: 1 }));
    const error = await assertRejects(() => readState(record), GatewayError);
    assertEquals([error.code, error.why.startsWith("ram:")], ["instance-schema", true]);
  }));

Deno.test("findFault() finds nothing in a whole state", () =>
  withState(async (dir, state) => {
    assertEquals(await findFault(dir, state, "k"), undefined);
  }));

Deno.test("findFault() refuses another machine, cut and changed files, and files that are gone", () =>
  withState(async (dir, state) => {
    const fault = async (key = "k") => await findFault(dir, state, key) ?? "";
    assert((await fault("other")).includes("a different VMM"));
    await Deno.writeTextFile(join(dir, "ram-1.layer"), "mEmory");
    // The test is quicker than a millisecond, what time is kept in; a user is not.
    await Deno.utime(join(dir, "ram-1.layer"), new Date(), new Date(Date.now() + 1000));
    assert((await fault()).includes('ram-1.layer" was changed'));
    await Deno.truncate(join(dir, "ram-1.layer"), 3);
    assert((await fault()).includes("3 bytes instead of 6"));
    await Deno.remove(join(dir, "ram-1.layer"));
    assert((await fault()).includes("is gone"));
    await Deno.writeTextFile(join(dir, "dev-1.bin"), "dEvices");
    assert((await fault()).includes('dev-1.bin" was changed'));
  }));

Deno.test("findFault() sees changed device state although its time was set back", () =>
  withState(async (dir, state) => {
    const path = join(dir, "dev-1.bin");
    await Deno.writeTextFile(path, "dEvices");
    await Deno.utime(path, new Date(), new Date(state.devices.modifiedMs));
    assert((await findFault(dir, state, "k"))?.includes("was changed"));
  }));

Deno.test("findFault() misses a disk file that a snapshot needs", () =>
  withState(async (dir, state) => {
    const fault = await findFault(dir, { ...state, disk: PLAIN_DISK }, "k");
    assert(fault?.includes('state.img" is gone'), fault);
  }));

Deno.test("spendSlot() hides the slot and gives it back when the start fails", () =>
  withState(async (dir, state) => {
    await writeState(slotRecord({ dir }), state);
    {
      await using _slot = await spendSlot({ dir });
      assertEquals(await isSuspended({ dir }), false);
    }
    assert(await isSuspended({ dir }));
    {
      await using slot = await spendSlot({ dir });
      slot.keepSpent();
    }
    assertEquals(names(dir), ["dev-1.bin", "ram-1.layer"]);
  }));

Deno.test("dropSlot() is fine without a slot", async () => {
  await dropSlot({ dir: "/nowhere" });
});

Deno.test("listSnapshots() gives whole records by age and nothing else", () =>
  withState(async (dir, state) => {
    assertEquals(await listSnapshots({ dir }), []);
    await writeState(snapshotRecord({ dir }, "b"), state);
    await writeState(snapshotRecord({ dir }, "a"), { ...state, savedAt: "2026-11-25" });
    await Deno.writeTextFile(join(dir, "snapshots", "cut.json"), "{");
    await Deno.writeTextFile(join(dir, "snapshots", "c.json.tmp-1"), "{}");
    assertEquals((await listSnapshots({ dir })).map(({ name }) => name), ["b", "a"]);
  }));

Deno.test("requireSnapshot() names those that exist", () =>
  withState(async (dir, state) => {
    await writeState(snapshotRecord({ dir }, "one"), state);
    const paths = { ...instancePaths("dev"), dir };
    const error = await assertRejects(() => requireSnapshot(paths, "two"), GatewayError);
    assertEquals([error.code, error.why], ["snapshot-unknown", "it has only one"]);
  }));

Deno.test("sweep() removes what no record names and nothing that is not ours", () =>
  withState(async (dir, state) => {
    await writeState(snapshotRecord({ dir }, "one"), state);
    for (const name of ["ram-2.layer", "dev-2.bin", "disk-2.qcow2", "ram-3.layer", "mine.layer"]) {
      await Deno.writeTextFile(join(dir, name), "x");
    }
    await sweep({ dir }, ["ram-3.layer"]);
    assertEquals(names(dir), [
      "dev-1.bin",
      "mine.layer",
      "ram-1.layer",
      "ram-3.layer",
      "snapshots",
    ]);
  }));

for (const text of ["", '{"schemaVersion":3}', undefined]) {
  Deno.test(`sweep() removes nothing while a record is ${JSON.stringify(text ?? "a folder")}`, () =>
    withState(async (dir, state) => {
      await Deno.writeTextFile(join(dir, "disk-1.qcow2"), "frozen");
      await Deno.writeTextFile(join(dir, "ram-2.layer"), "of nobody");
      const disk = { head: { name: "disk-1.qcow2", format: "qcow2" } as const, below: [] };
      for (
        const record of [
          snapshotRecord({ dir }, "one"),
          slotRecord({ dir }),
          `${slotRecord({ dir })}.spent`,
        ]
      ) {
        await writeState(record, { ...state, disk });
        const whole = await Deno.readTextFile(record);
        await Deno.remove(record);
        if (text === undefined) await Deno.mkdir(record);
        else await Deno.writeTextFile(record, text);
        const before = names(dir);
        assertEquals(await sweep({ dir }), [record]);
        assertEquals(names(dir), before);
        await Deno.remove(record);
        await Deno.writeTextFile(record, whole);
        assertEquals(await findFault(dir, (await readState(record))!, "k"), undefined);
        await Deno.remove(record);
      }
      assertEquals(await sweep({ dir }), []);
      assertEquals(names(dir), ["snapshots"]);
    }));
}

Deno.test("requireSnapshot() and listDamagedSnapshots() name a record that cannot be read", () =>
  withState(async (dir) => {
    const file = snapshotRecord({ dir }, "one");
    await Deno.mkdir(join(dir, "snapshots"));
    await Deno.writeTextFile(file, "");
    assertEquals(await listSnapshots({ dir }), []);
    assertEquals(await listDamagedSnapshots({ dir }), [
      { name: "one", file, why: "it is not JSON" },
    ]);
    const paths = { ...instancePaths("dev"), dir };
    const error = await assertRejects(() => requireSnapshot(paths, "one"), GatewayError);
    assertEquals([error.code, error.what], ["instance-schema", `Cannot read "${file}"`]);
  }));

Deno.test("machineKey() changes with the kernel, sizes and the VMM, not with paths or the command line", () => {
  const spec = {
    memoryMiB: 1,
    kernel: { path: "/a", format: "elf", cmdline: "x" },
    disks: [{ serial: "state", path: "/s", format: "raw", readonly: false }],
    consolePorts: [],
    incoming: null,
  } as unknown as VmSpec;
  const facts = { vmm: "QEMU 7", machine: "microvm", stateMiB: 1 };
  const key = machineKey(spec, facts);
  assertEquals(machineKey({ ...spec, kernel: { ...spec.kernel, cmdline: "y" } }, facts), key);
  assertEquals(machineKey({ ...spec, incoming: { devicesPath: "/d" } }, facts), key);
  assertEquals(
    machineKey({ ...spec, disks: [{ ...spec.disks[0]!, path: "/t", format: "qcow2" }] }, facts),
    key,
  );
  assertNotEquals(machineKey({ ...spec, kernel: { ...spec.kernel, path: "/b" } }, facts), key);
  const of = (path: string) => machineKey({ ...spec, kernel: { ...spec.kernel, path } }, facts);
  const [one, two] = ["1", "2"].map((digit) => `artifacts/sha256/${digit.repeat(64)}/vmlinux`);
  assertEquals(of(`/cache/${one}`), of(`/moved/${one}`));
  assertNotEquals(of(`/cache/${one}`), of(`/cache/${two}`));
  assertNotEquals(machineKey({ ...spec, memoryMiB: 2 }, facts), key);
  assertNotEquals(machineKey(spec, { ...facts, vmm: "QEMU 8" }), key);
  assertNotEquals(machineKey(spec, { ...facts, machine: "microvm of another processor" }), key);
  assertNotEquals(machineKey(spec, { ...facts, stateMiB: 2 }), key);
});
