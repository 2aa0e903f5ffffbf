/**
 * An instance whose host loses power: `write STEP DISK SOCKETS` does one thing that commands do, lets a guest write and
 * flush, and shuts the file system of DISK down hard; `read STEP DISK SOCKETS` starts the instance again as far as that goes
 * without a VMM. qemu-io stands for QEMU's side of the disk.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { ensureJwt } from "../../bootstrap/credentials/jwt.ts";
import type { ChosenVmm } from "../../bootstrap/plan/choose_vmm.ts";
import { saveRun } from "../../bootstrap/run/save.ts";
import { placeState } from "../../bootstrap/saved/golden.ts";
import { type GuestSource, prepareGuest } from "../../bootstrap/saved/guest_source.ts";
import { restoreSnapshot } from "../../bootstrap/saved/snapshots.ts";
import { ensureSsh } from "../../net/ssh.ts";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { instancePaths } from "../../vm/base/layout.ts";
import { run } from "../../vm/base/process.ts";
import { type DiskChain, readDiskChain } from "../../vm/instance/disk_chain.ts";
import { findInstance, LockedInstance } from "../../vm/instance/instance.ts";
import {
  findFault,
  isSuspended,
  listSnapshots,
  readState,
  slotRecord,
  snapshotRecord,
  spendSlot,
} from "../../vm/instance/saved_state.ts";
import type { VmSpec } from "../../vm/machine/spec.ts";
import type { RunningVm, SaveTarget } from "../../vm/machine/vmm.ts";
import { instanceConfig } from "./instance_config.ts";
import { cutPower } from "./power.ts";

const signal = new AbortController().signal;
const span = silentSpan();
const NAME = "a";
const CLONE = "b";
const SNAPSHOT = "s";

const config = (name: string) => instanceConfig({ name });
const chosen = {
  vmm: { supports: { snapshot: true, net: [] } },
  check: { description: "stand-in", machine: "none" },
} as unknown as ChosenVmm;

function plan(name: string, disk: DiskChain): VmSpec {
  const path = join(instancePaths(name).dir, disk.head.name);
  return {
    ...{ cpus: 1, memoryMiB: 64, consolePorts: [], net: undefined, ram: { layers: [] } },
    kernel: { path: "/kernel" },
    disks: [{ serial: "state", path, format: disk.head.format, readonly: false }],
  } as unknown as VmSpec;
}

/** All of a start but the VM: settings, keys, disk, and a saved state if there is one. */
async function start(name: string): Promise<{ guest: GuestSource; keys: string }> {
  await using instance = await LockedInstance.open(name);
  const { paths } = instance;
  await instance.saveConfig(await instance.config() ?? config(name));
  const [ssh, jwt] = [await ensureSsh(paths.sshDir), await ensureJwt(paths.jwtDir)];
  await writeFileAtomic(paths.payload, "payload");
  const planned = plan(name, await readDiskChain(paths.dir));
  const guest = await prepareGuest(paths, config(name), chosen, planned, {
    ...{ cold: false, keep: true, payloadDigest: "", span, signal },
    goldenDisk: () => Promise.resolve(undefined),
  });
  if (guest.slot) {
    await using slot = await spendSlot(paths);
    slot.keepSpent();
  }
  return { guest, keys: JSON.stringify([ssh.payload, jwt.kid]) };
}

async function save(name: string, record: string, then: SaveTarget["then"], key: string) {
  const paths = instancePaths(name);
  const vm = {
    save: async (target: SaveTarget) => {
      await Deno.writeTextFile(target.devicesPath, "devices");
      await Deno.writeTextFile(target.ramPath, "memory");
      await target.programs?.freeze(signal);
      await target.overlay?.commit();
      await target.programs?.release();
      const parts = { pauseMs: 1, ramBytes: 6, adopted: false };
      await target.complete(parts);
      return parts;
    },
    stop: () => Promise.resolve({ code: 0, signal: null }),
  } as unknown as RunningVm;
  const spec = plan(name, await readDiskChain(paths.dir));
  const ports = { sshPort: 1, apiPort: null };
  const control = { request: () => Promise.resolve("still=true uptime=1.00") };
  const parts = { paths, config: config(name), spec, vm, control, key, ports, span };
  await saveRun(parts, { record, then }, signal);
}

/** The guest writes and flushes. */
async function guestWrites(name: string, pattern: number): Promise<void> {
  await qemuIo(name, [`write -P ${pattern} ${pattern}M 64k`, "flush"]);
}

async function guestReads(name: string, pattern: number): Promise<void> {
  await qemuIo(name, [`read -P ${pattern} ${pattern}M 64k`]);
}

async function qemuIo(name: string, commands: readonly string[]): Promise<void> {
  const { dir } = instancePaths(name);
  const { head } = await readDiskChain(dir);
  const { stdout } = await run("qemu-io", {
    args: ["-f", head.format, ...commands.flatMap((one) => ["-c", one]), join(dir, head.name)],
  });
  if (/fail/i.test(stdout)) throw new Error(stdout);
}

/** What each step does before its power cut. Patterns 1 and 2 are what the guest has flushed. */
const STEPS: Record<string, () => Promise<string>> = {
  "new instance": async () => {
    const { keys } = await start(NAME);
    await guestWrites(NAME, 1);
    await guestWrites(NAME, 2);
    return keys;
  },
  "snapshot": async () => {
    const { guest, keys } = await settledStart();
    await save(NAME, snapshotRecord(instancePaths(NAME), SNAPSHOT), "continue", guest.key);
    await guestWrites(NAME, 2);
    return keys;
  },
  "snapshot of an idle guest": async () => {
    const { guest, keys } = await settledStart();
    await guestWrites(NAME, 2);
    await save(NAME, snapshotRecord(instancePaths(NAME), SNAPSHOT), "continue", guest.key);
    return keys;
  },
  "suspend": async () => {
    const { guest, keys } = await settledStart();
    await guestWrites(NAME, 2);
    await save(NAME, slotRecord(instancePaths(NAME)), "end", guest.key);
    return keys;
  },
  "resume": async () => {
    const { guest } = await settledStart();
    await save(NAME, slotRecord(instancePaths(NAME)), "end", guest.key);
    await syncDisk();
    const { keys } = await start(NAME);
    await guestWrites(NAME, 2);
    return keys;
  },
  "restore": async () => {
    const { guest } = await settledStart();
    const paths = instancePaths(NAME);
    await save(NAME, snapshotRecord(paths, SNAPSHOT), "continue", guest.key);
    await guestWrites(NAME, 3);
    await syncDisk();
    await restoreSnapshot(NAME, SNAPSHOT, signal);
    const { keys } = await start(NAME);
    await guestWrites(NAME, 2);
    return keys;
  },
  "fork": async () => {
    const { guest } = await settledStart();
    const paths = instancePaths(NAME);
    const record = snapshotRecord(paths, SNAPSHOT);
    await save(NAME, record, "continue", guest.key);
    await syncDisk();
    {
      await using clone = await LockedInstance.open(CLONE);
      const foreign = {
        dir: paths.dir,
        state: (await readState(record))!,
        from: { name: NAME, pkiDir: paths.pkiDir, k3sYaml: null },
      };
      await placeState(clone.paths, config(CLONE), foreign, signal);
      await clone.saveConfig(config(CLONE));
    }
    const { keys } = await start(CLONE);
    await guestWrites(CLONE, 2);
    return keys;
  },
};

/** Everything so far is on the disk. */
async function syncDisk(): Promise<void> {
  await run("sync", { args: ["-f", disk] });
}

/** An instance that is safely on the disk, with the guest's first write. */
async function settledStart() {
  const started = await start(NAME);
  await guestWrites(NAME, 1);
  await syncDisk();
  return started;
}

/** Starts the instance after the cut, and looks for what its guest had flushed. */
async function check(step: string, keys: string): Promise<void> {
  const name = step === "fork" ? CLONE : NAME;
  const paths = instancePaths(name);
  assertEquals((await findInstance(name))?.state, step === "suspend" ? "suspended" : "stopped");
  const again = await start(name);
  assertEquals(again.keys, keys, "the keys are the same");
  assertEquals(again.guest.slot !== undefined, step === "suspend");
  for (const pattern of [1, 2]) await guestReads(name, pattern);
  assertEquals(await isSuspended(paths), false);
  const source = instancePaths(NAME);
  const snapshots = await listSnapshots(source);
  assertEquals(snapshots.length, /snapshot|restore|fork/.test(step) ? 1 : 0);
  for (const { state } of snapshots) {
    assertEquals(await findFault(source.dir, state, again.guest.key), undefined);
  }
}

const what = Deno.args[0];
const step = Deno.args[1]!;
const disk = Deno.args[2]!;
const sockets = Deno.args[3]!;
Deno.env.set("XDG_DATA_HOME", disk);
Deno.env.set("XDG_CACHE_HOME", join(sockets, "cache"));
Deno.env.set("XDG_CONFIG_HOME", join(sockets, "config"));
Deno.env.set("XDG_RUNTIME_DIR", sockets);
if (what === "write") {
  const keys = await STEPS[step]!();
  await Deno.writeTextFile(join(sockets, "keys"), keys);
  cutPower(disk);
} else await check(step, await Deno.readTextFile(join(sockets, "keys")));
