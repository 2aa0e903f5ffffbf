/**
 * A whole cluster in a guest of libkrun, in the nested machine: minutes on one emulated processor.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { runOuter } from "../nested/outer.ts";

Deno.test("a whole cluster runs in a guest of libkrun and stops cleanly", async () => {
  const { told, seconds, console: screen } = await runOuter("cluster", 9 * 60_000);
  const run = told.find((record) => record.kind === "cluster");
  const evidence = `after ${seconds.toFixed(0)} s: ${JSON.stringify(told)}\n${screen}`;
  assert(run?.kind === "cluster" && run.error === undefined, evidence);
  assert(run.marks!["cluster-start"]! > run.marks!["init"]!, evidence);
  assertEquals([run.stopped, run.exit], ["clean", { code: 0, signal: null }], evidence);
  // deno-lint-ignore no-console
  console.log(`the service answered after ${run.readySeconds!.toFixed(0)} s inside`);
});
