/**
 * Whose programs a save freezes, and of the overlay that a guest with several successors gets.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { type SaveParts, saveRun } from "../bootstrap/run/save.ts";
import { silentSpan } from "../vm/base/event.ts";
import { instancePaths } from "../vm/base/layout.ts";
import type { SaveTarget } from "../vm/machine/vmm.ts";

const signal = AbortSignal.timeout(600_000);

Deno.test("saveRun() freezes the programs of a guest with several successors, and no other's", async () => {
  for (const then of ["continue", "end"] as const) {
    const dir = await Deno.makeTempDir();
    const order: string[] = [];
    const save = async (target: SaveTarget) => {
      await target.programs?.freeze(signal);
      order.push("saved");
      await target.overlay?.commit();
      await target.programs?.release();
      await Deno.writeTextFile(target.devicesPath, "devices");
      await Deno.writeTextFile(target.ramPath, "memory");
      const saved = { pauseMs: 1, ramBytes: 6, adopted: false };
      await target.complete(saved);
      return saved;
    };
    const request = (command: string) => {
      order.push(command.split(" ")[0]!);
      return Promise.resolve(command === "freeze" ? "still=true uptime=12.50" : "");
    };
    const span = silentSpan();
    const parts = {
      paths: { ...instancePaths("dev"), dir },
      config: { name: "dev", stateMiB: 64 },
      spec: { ram: { layers: [] } },
      vm: { save },
      control: { request },
      key: "k",
      ports: { sshPort: 1, apiPort: null },
      span,
    } as unknown as SaveParts;
    try {
      await Deno.writeTextFile(join(dir, "state.img"), "disk");
      await saveRun(parts, { record: join(dir, "one.json"), then }, signal);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
    const told = span.events.findLast(({ message }) => message?.includes("stood still"));
    assertEquals(told?.attrs?.frozenAt, then === "continue" ? 12.5 : undefined);
    assertEquals(order, then === "continue" ? ["freeze", "saved", "reseed"] : ["saved"]);
  }
});
