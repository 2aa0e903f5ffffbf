/**
 * The kill table with stand-ins for QEMU and its guest: `kill -9` of a process at each point, and what is left.
 * tests/long has the same with every process, `down`, Ctrl-C, power cuts and VMs.
 *
 * @module
 */
import { runTable } from "./kills/run_table.ts";
import { standInWorld } from "./kills/world.ts";

Deno.test("after kill -9 at any point the next command works and nothing is lost", async (t) => {
  await using world = await standInWorld();
  // Two minutes instead of five.
  await runTable(t, world, ["kill"], { each: "point" });
  // Memory that a guest went on from must not meet its disk again.
  await runTable(t, world, ["interrupt"], { only: /^resume/ });
});
