/**
 * A suspended state that was changed on the disk, under the real command line with stand-ins for QEMU and its guest.
 *
 * @module
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import type { SavedState } from "../vm/instance/saved_state.ts";
import { standInWorld } from "./kills/world.ts";
import { flipByte } from "./vm/instance_files.ts";

/** A file of a suspended state, as its record names it. */
const FILES: Readonly<Record<string, (slot: SavedState) => string>> = {
  "device state": (slot) => slot.devices.name,
  "memory": (slot) => slot.ram.at(-1)!.name,
};

Deno.test("a suspended state that was changed is refused, and the disk is there", async (t) => {
  await using world = await standInWorld();
  const { home } = world;
  const dir = world.dirOf("default");
  let note = 7;
  await home.ok([...world.up, "--detach"], { timeoutMs: world.patienceMs });
  for (const [what, nameOf] of Object.entries(FILES)) {
    await t.step(what, async () => {
      await world.write(note += 1);
      await home.ok(["suspend"]);
      const record = await Deno.readTextFile(join(dir, "suspend.json"));
      await flipByte(join(dir, nameOf(JSON.parse(record))));
      const { stderr } = await home.ok(["up", "--detach"], { timeoutMs: world.patienceMs });
      assertStringIncludes(stderr, "suspended state is dropped");
      assertStringIncludes(stderr, "was changed");
      assertEquals(await world.read(), note);
    });
  }
  await home.ok(["rm", "--force", "default"]);
  await home.assertClean();
});
