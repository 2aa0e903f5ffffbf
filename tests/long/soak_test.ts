// deno-lint-ignore-file no-console
/**
 * The soak with VMs: GATEWAY_SOAK_ROUNDS rounds, 200 by default; GATEWAY_SOAK=stand-in runs it without VMs.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { growing, soak, soakTable } from "../kills/soak.ts";
import { standInWorld, vmWorld } from "../kills/world.ts";

const ROUNDS = Number(Deno.env.get("GATEWAY_SOAK_ROUNDS") ?? 200);
const STAND_IN = Deno.env.get("GATEWAY_SOAK") === "stand-in";

Deno.test(`nothing grows in ${ROUNDS} rounds of all commands`, async () => {
  await using world = STAND_IN ? await standInWorld() : await vmWorld();
  const started = Date.now();
  const series = await soak(world, ROUNDS, (done) => {
    if (done % 10 === 0) console.log(`${done} rounds in ${(Date.now() - started) / 1000} s`);
  });
  // Too few for a line: it was tried whether the rounds work.
  if (ROUNDS < 6) return console.log(JSON.stringify(series));
  console.log(soakTable(series));
  assertEquals(growing(series), []);
});
