/**
 * Saves for clones with a file system in memory: what is saved, and where a clone finds it. In a room of its own, since
 * Deno lets nobody but the whole program at /dev/shm.
 *
 * @module
 */
import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { type SaveParts, saveRun } from "../bootstrap/run/save.ts";
import { SharedMemory } from "../bootstrap/run/shared_memory.ts";
import { silentSpan } from "../vm/base/event.ts";
import { instancePaths } from "../vm/base/layout.ts";
import { readState } from "../vm/instance/saved_state.ts";
import type { VmSpec } from "../vm/machine/spec.ts";
import type { RunningVm, SaveTarget } from "../vm/machine/vmm.ts";

const signal = new AbortController().signal;

/** Saves for a clone; gives the mode that was asked for, and the names of its layers without their folder. */
async function saveForClone(
  parts: SaveParts,
  shared: SharedMemory,
  adopts: boolean | "fails",
): Promise<readonly [string | undefined, number]> {
  const ramDir = await Deno.makeTempDir({ dir: "/dev/shm" });
  let mode: string | undefined;
  const save = async (target: SaveTarget) => {
    mode = target.mode;
    assertEquals(target.adopt, true);
    await Deno.writeTextFile(target.devicesPath, "devices");
    await Deno.writeTextFile(target.ramPath, "memory");
    if (adopts === "fails") throw new Error("it broke");
    const saved = { pauseMs: 1, ramBytes: 6, adopted: adopts };
    await target.complete(saved);
    return saved;
  };
  try {
    const record = join(parts.paths.dir, "snapshots", "fork.json");
    const options = { record, then: "end", ramDir, shared } as const;
    await saveRun({ ...parts, vm: { save } as unknown as RunningVm }, options, signal);
    const { ram } = (await readState(record))!;
    // Every layer is where the clone finds it.
    for (const { name } of ram) {
      await Deno.stat(name.startsWith("/") ? name : join(parts.paths.dir, name));
    }
    return [mode, ram.length];
  } finally {
    await Deno.remove(ramDir, { recursive: true });
  }
}

Deno.test("saveRun() for clones saves only what changed since the last one, as long as the VM has adopted that", async () => {
  const dir = await Deno.makeTempDir();
  const bottom = join(dir, "ram-0.layer");
  await Deno.writeTextFile(bottom, "bottom");
  const parts = {
    paths: { ...instancePaths("dev"), dir },
    config: { name: "dev", stateMiB: 64 } as SaveParts["config"],
    spec: { ram: { layers: [bottom] } } as unknown as VmSpec,
    control: { request: () => Promise.reject(new Error("the guest is not asked")) },
    ...{ vm: {} as RunningVm, key: "k", ports: { sshPort: 1, apiPort: null }, span: silentSpan() },
  };
  try {
    await using shared = new SharedMemory();
    const clone = (adopts: boolean | "fails") => saveForClone(parts, shared, adopts);
    assertEquals(await clone(true), ["kept", 2]);
    assertEquals(await clone(true), ["changed", 3]);
    assertEquals(await clone(false), ["changed", 4]);
    // What it has mapped is not known any more.
    assertEquals(await clone(true), ["kept", 2]);
    for (const layers of [3, 4, 5]) assertEquals(await clone(true), ["changed", layers]);
    await assertRejects(() => clone("fails"), Error, "it broke");
    for (const layers of [2, 3, 4, 5]) {
      assertEquals(await clone(true), [layers === 2 ? "kept" : "changed", layers]);
    }
    // Not more and more layers.
    assertEquals(await clone(true), ["kept", 2]);
    assertEquals(await clone(true), ["changed", 3]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
