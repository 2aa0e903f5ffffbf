/**
 * A guest that floods its supervisor costs little, and is stopped like any other. net/gvproxy has the same for the network.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { beginFlood, floodCost } from "./kills/flood.ts";
import { standInWorld } from "./kills/world.ts";

Deno.test("a guest that floods control port and console costs little memory and disk, and down stops it", async () => {
  await using world = await standInWorld();
  const { home, up } = world;
  await home.ok([...up, "--detach", "--cold"]);
  await beginFlood(world);
  const { memoryMiB, diskMiB } = await floodCost(world, 2000);
  // Twice what `deno task bench safety` holds it to.
  assert(memoryMiB <= 300, `${memoryMiB} MiB of memory`);
  assert(diskMiB <= 64, `${diskMiB} MiB of records and logs`);
  const { stderr } = await home.ok(["down"]);
  assertEquals(stderr, `Stopped "default".\n`);
  await home.allEnded();
});
