import { assert, assertEquals, assertNotEquals } from "@std/assert";
import {
  dropSlot,
  isSuspended,
  machineKey,
  readSlot,
  slotPaths,
  spendSlot,
  writeSlot,
} from "./suspend.ts";
import type { VmSpec } from "./spec.ts";

async function withSlot(fn: (paths: { dir: string }) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(slotPaths({ dir }).ram, "memory");
    await Deno.writeTextFile(slotPaths({ dir }).devices, "devices");
    await writeSlot({ dir }, { key: "k", sshPort: 1, apiPort: null });
    await fn({ dir });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const unusable = (found: Awaited<ReturnType<typeof readSlot>>) =>
  found && "unusable" in found ? found.unusable : undefined;

Deno.test("readSlot() gives what writeSlot() kept, in a private file", () =>
  withSlot(async (paths) => {
    const slot = await readSlot(paths, "k");
    assert(slot && !("unusable" in slot));
    assertEquals([slot.sshPort, slot.apiPort, slot.ramBytes], [1, null, 6]);
    assertEquals((await Deno.stat(slotPaths(paths).record)).mode! & 0o777, 0o600);
    assert(await isSuspended(paths));
  }));

Deno.test("readSlot() refuses another machine, cut memory and changed device state", () =>
  withSlot(async (paths) => {
    assert(unusable(await readSlot(paths, "other"))?.includes("others now"));
    await Deno.writeTextFile(slotPaths(paths).devices, "dEvices");
    assert(unusable(await readSlot(paths, "k"))?.includes("was changed"));
    await Deno.truncate(slotPaths(paths).ram, 3);
    assert(unusable(await readSlot(paths, "k"))?.includes("3 bytes instead of 6"));
  }));

Deno.test("readSlot() is undefined when there is none", async () => {
  assertEquals(await readSlot({ dir: "/nowhere" }, "k"), undefined);
});

Deno.test("spendSlot() hides the slot and gives it back when the start fails", () =>
  withSlot(async (paths) => {
    {
      await using _slot = await spendSlot(paths);
      assertEquals(await isSuspended(paths), false);
    }
    assert(await isSuspended(paths));
  }));

Deno.test("spendSlot() leaves nothing but the memory once the guest has gone on", () =>
  withSlot(async (paths) => {
    {
      await using slot = await spendSlot(paths);
      slot.keepSpent();
    }
    assertEquals([...Deno.readDirSync(paths.dir)].map((entry) => entry.name), ["ram.img"]);
  }));

Deno.test("dropSlot() is fine without a slot", async () => {
  await dropSlot({ dir: "/nowhere" });
});

Deno.test("machineKey() changes with the kernel, the sizes and the VMM, not with the command line", () => {
  const spec = {
    memoryMiB: 1,
    kernel: { path: "/a", format: "elf", cmdline: "x" },
    incoming: null,
  } as unknown as VmSpec;
  const key = machineKey(spec, "QEMU 7");
  assertEquals(machineKey({ ...spec, kernel: { ...spec.kernel, cmdline: "y" } }, "QEMU 7"), key);
  assertEquals(machineKey({ ...spec, incoming: { devicesPath: "/d" } }, "QEMU 7"), key);
  assertNotEquals(machineKey({ ...spec, kernel: { ...spec.kernel, path: "/b" } }, "QEMU 7"), key);
  assertNotEquals(machineKey({ ...spec, memoryMiB: 2 }, "QEMU 7"), key);
  assertNotEquals(machineKey(spec, "QEMU 8"), key);
});
