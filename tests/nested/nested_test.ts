/**
 * libkrun, really: the conformance suite through the production driver, on our kernel, in one outer machine whose
 * processor (QEMU's TCG) emulates AMD's virtualization. One outer boot for all cases.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { CASES } from "../conformance/cases.ts";
import { CONTEXT_CASE, INIT_CASE, REFUSED_CASE, TSI_CASE } from "./inside_names.ts";
import { runOuter } from "./outer.ts";

/** The whole outer boot, on two cores. */
const OUTER_TIMEOUT_MS = 6 * 60_000;

Deno.test("libkrun boots our kernel in a nested machine", async (t) => {
  const { told, seconds, firmware, console: screen } = await runOuter("cases", OUTER_TIMEOUT_MS);
  const check = told.find((record) => record.kind === "check");
  assert(check?.usable, `the probe boot: ${JSON.stringify(check)}\n${screen}`);
  assertEquals(check.description, "libkrun 1.19.7, KVM");
  const wanted = CASES.filter(({ only }) => only !== "qemu").map(({ name }) => name);
  for (const record of told) {
    if (record.kind !== "case") continue;
    await t.step(record.name, () => assertEquals(record.error, undefined, record.error));
  }
  if ("why" in firmware) {
    for (const name of [INIT_CASE, TSI_CASE]) {
      await t.step({ name: `${name} (not run: ${firmware.why})`, ignore: true, fn: () => {} });
    }
  }
  await t.step("every case ran, and the machine ended by itself", () => {
    const ran = told.flatMap((record) => record.kind === "case" ? [record.name] : []);
    const more = [REFUSED_CASE, CONTEXT_CASE, ..."path" in firmware ? [INIT_CASE, TSI_CASE] : []];
    assertEquals(ran, [...wanted, ...more], screen);
    assertEquals(told.at(-1)?.kind, "end", `after ${seconds.toFixed(0)} s\n${screen}`);
  });
});
