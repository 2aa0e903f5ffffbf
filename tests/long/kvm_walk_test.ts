/**
 * The product's one file with virtualization by KVM, in the nested machine: all that a user does on QEMU with KVM, minutes
 * on one emulated processor.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { runOuter } from "../nested/outer.ts";

Deno.test("golden state, resume, snapshot and fork on QEMU with KVM", async (t) => {
  const { told, seconds, console: screen } = await runOuter("walk", 40 * 60_000);
  const steps = told.flatMap((record) => record.kind === "step" ? [record] : []);
  for (const { name, error, ms, text } of steps) {
    await t.step(name, () => assertEquals(error, undefined, error));
    // deno-lint-ignore no-console
    console.log(`${name}: ${(ms / 1000).toFixed(0)} s ${text.trim().replaceAll("\n", ", ")}`);
  }
  const ended = steps.length > 0 && told.at(-1)?.kind === "end";
  assert(ended, `after ${seconds.toFixed(0)} s\n${screen}`);
});
