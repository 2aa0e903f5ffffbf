/**
 * Both VMMs with hardware virtualization: the conformance suite through the production drivers, on our kernel, in one
 * outer machine whose processor (QEMU's TCG) emulates AMD's virtualization. One outer boot for all cases.
 *
 * @module
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { CASES } from "../conformance/cases.ts";
import { CONTEXT_CASE, INIT_CASE, REFUSED_CASE, TSI_CASE } from "./inside_names.ts";
import { runOuter } from "./outer.ts";

/** The whole outer boot, on two cores; seven minutes where they have nothing else to do. */
const OUTER_TIMEOUT_MS = 25 * 60_000;
/** The longest case boots two guests, and each has a minute. */
const SILENCE_MS = 3 * 60_000;

Deno.test("libkrun, and QEMU with KVM, boot our kernel in a nested machine", async (t) => {
  const { told, seconds, firmware, console: screen } = await runOuter(
    "cases",
    OUTER_TIMEOUT_MS,
    SILENCE_MS,
  );
  const evidence = `after ${seconds.toFixed(0)} s: ${JSON.stringify(told.at(-1))}\n${screen}`;
  const checks = told.filter((record) => record.kind === "check");
  const [libkrun, qemu] = checks;
  assert(
    libkrun?.usable && qemu?.usable,
    `the probe boots: ${JSON.stringify(checks)}\n${evidence}`,
  );
  assertEquals(libkrun.description, "libkrun 1.19.7, KVM");
  assertMatch(qemu.description, /^QEMU [\d.]+, KVM$/, `${qemu.why}\n${evidence}`);
  for (const record of told) {
    if (record.kind !== "case") continue;
    const name = `${record.vmm}: ${record.name}`;
    await t.step(name, () => assertEquals(record.error, undefined, record.error));
  }
  if ("why" in firmware) {
    for (const name of [INIT_CASE, TSI_CASE]) {
      await t.step({ name: `${name} (not run: ${firmware.why})`, ignore: true, fn: () => {} });
    }
  }
  const stock = "path" in firmware ? [INIT_CASE, TSI_CASE] : [];
  const more = { libkrun: [REFUSED_CASE, CONTEXT_CASE, ...stock], qemu: [] };
  for (const vmm of ["libkrun", "qemu"] as const) {
    await t.step(`every case ran on ${vmm}`, () => {
      const wanted = CASES.filter(({ only }) => only === undefined || only === vmm);
      const ran = told.flatMap((one) => one.kind === "case" && one.vmm === vmm ? [one.name] : []);
      assertEquals(ran, [...wanted.map(({ name }) => name), ...more[vmm]], evidence);
    });
  }
  assert(told.at(-1)?.kind === "end", `the machine did not end by itself ${evidence}`);
});
