import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../../vm/base/error.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { instancePaths } from "../../vm/base/layout.ts";
import { readState } from "../../vm/instance/saved_state.ts";
import type { VmSpec } from "../../vm/machine/spec.ts";
import type { RunningVm, SaveTarget } from "../../vm/machine/vmm.ts";
import { type SaveParts, saveRun } from "./save.ts";

const signal = new AbortController().signal;

/** An instance's folder and a VM whose save does what the test says. */
async function withRun(
  save: RunningVm["save"],
  layers: (dir: string) => string[],
  fn: (parts: SaveParts, dir: string) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await fn({
      paths: { ...instancePaths("dev"), dir },
      config: { name: "dev", stateMiB: 64 } as SaveParts["config"],
      spec: { ram: { layers: layers(dir) } } as unknown as VmSpec,
      vm: { save } as RunningVm,
      control: { request: () => Promise.reject(new Error("nobody asked the guest")) },
      key: "k",
      ports: { sshPort: 1, apiPort: null },
      span: silentSpan(),
    }, dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const names = (dir: string) => [...Deno.readDirSync(dir)].map((entry) => entry.name).sort();

async function writeBoth(target: SaveTarget) {
  await Deno.writeTextFile(target.devicesPath, "devices");
  await Deno.writeTextFile(target.ramPath, "memory");
  const parts = { pauseMs: 1, ramBytes: 6, adopted: target.adopt === true };
  await target.complete(parts);
  return parts;
}

Deno.test("saveRun() says so on a VMM without snapshots", () =>
  withRun(undefined, () => [], async (parts, dir) => {
    const options = { record: join(dir, "suspend.json"), then: "end" } as const;
    const error = await assertRejects(() => saveRun(parts, options, signal), GatewayError);
    assertEquals([error.code, error.why], ["not-supported", "its VMM has no snapshots"]);
    assertEquals(names(dir), []);
  }));

Deno.test("saveRun() keeps a bottom layer of the instance's own, and a new one stands alone without", async () => {
  for (const [own, wanted] of [[true, "kept"], [false, "new"]] as const) {
    let asked: SaveTarget | undefined;
    const save = (target: SaveTarget) => {
      asked = target;
      return writeBoth(target);
    };
    const layers = (dir: string) => [own ? join(dir, "ram-0.layer") : "/elsewhere/ram-0.layer"];
    await withRun(save, layers, async (parts, dir) => {
      if (own) await Deno.writeTextFile(join(dir, "ram-0.layer"), "bottom");
      const record = join(dir, "suspend.json");
      await saveRun(parts, { record, then: "end" }, signal);
      const state = (await readState(record))!;
      assertEquals([asked?.mode, asked?.adopt, state.ram.length], [wanted, false, own ? 2 : 1]);
      if (own) assertEquals(state.ram[0]?.name, "ram-0.layer");
      assertEquals([state.disk, state.from, state.key], [null, null, "k"]);
    });
  }
});

Deno.test("saveRun() writes the record before the VM ends, and leaves nothing when it cannot", async () => {
  for (const full of [false, true]) {
    let alive = true;
    const save = async (target: SaveTarget) => {
      const parts = await writeBoth(target);
      // A VMM ends here.
      alive = false;
      return parts;
    };
    await withRun(save, () => [], async (parts, dir) => {
      // A folder in the record's place stands for a disk that is full.
      const record = join(dir, "suspend.json");
      if (full) await Deno.mkdir(record);
      const saved = saveRun(parts, { record, then: "end" }, signal);
      if (full) await assertRejects(() => saved);
      else await saved;
      assertEquals(alive, full);
      if (full) assertEquals(names(dir), []);
      else assertEquals((await readState(record))?.savedAt !== undefined, true);
    });
  }
});

Deno.test("saveRun() leaves no file and no record when the VM cannot be saved", () => {
  const save = async (target: SaveTarget) => {
    await writeBoth(target);
    throw new Error("it broke");
  };
  return withRun(save, () => [], async (parts, dir) => {
    const options = { record: join(dir, "suspend.json"), then: "end" } as const;
    await assertRejects(() => saveRun(parts, options, signal), Error, "it broke");
    assertEquals(names(dir), []);
  });
});
