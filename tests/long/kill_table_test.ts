/**
 * The kill table with what tests/kill_table_test.ts leaves out: `kill -9` of every process, `down`, Ctrl-C and a
 * power cut at every point with stand-ins, and `kill -9` at the points that can be seen from outside with VMs. GATEWAY_KILLS chooses cases by their names.
 *
 * @module
 */
import { whyNoPowerCut } from "../fakes/power.ts";
import { makeLostPower } from "../kills/power.ts";
import { runTable } from "../kills/run_table.ts";
import { standInWorld, vmWorld } from "../kills/world.ts";

for (const kind of ["kill", "down", "interrupt"] as const) {
  Deno.test(`after ${kind} at any point the next command works and nothing is lost`, async (t) => {
    await using world = await standInWorld();
    await runTable(t, world, [kind]);
  });
}

const missing = await whyNoPowerCut("ext4");
Deno.test({
  name: "after a power cut at any point the next command works and nothing is lost" +
    (missing === undefined ? "" : ` (skipped: ${missing})`),
  ignore: missing !== undefined,
  fn: async (t) => {
    await using power = await makeLostPower();
    await using world = await standInWorld(power.mount);
    await runTable(t, world, ["power"], { cut: power.cut });
  },
});

Deno.test("after kill -9 in VMs at any point the next command works and nothing is lost", async (t) => {
  await using world = await vmWorld();
  await runTable(t, world, ["kill"]);
});
