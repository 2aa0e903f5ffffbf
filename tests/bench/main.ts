/**
 * The figures of the product, measured in one run on an idle machine: a table for people and dist/bench.json for programs.
 * Nothing here fails a test; a missed figure is a row that says so.
 *
 * @module
 */
// deno-lint-ignore-file no-console
import { TestHome } from "../vm/harness.ts";
import { arm64Rows } from "./arm64.ts";
import { clusterRows } from "./cluster.ts";
import { hostRows } from "./host.ts";
import { imageLoadRows } from "./image_load.ts";
import { instantRows } from "./instant.ts";
import { kernelRows } from "./kernel.ts";
import { forkMemoryRows } from "./memory.ts";
import { nativeRows } from "./native.ts";
import { nestedRows } from "./nested.ts";
import { oneFileRows } from "./one_file.ts";
import { openshellRows } from "./openshell.ts";
import { policyRows } from "./policies.ts";
import type { Row } from "./row.ts";
import { gvproxySafetyRows } from "./safety_gvproxy.ts";
import { supervisorSafetyRows } from "./safety_supervisor.ts";
import { vmRows } from "./vm.ts";

const GROUPS: Readonly<Record<string, () => Promise<Row[]>>> = {
  host: hostRows,
  "one-file": oneFileRows,
  kernel: kernelRows,
  vm: vmRows,
  native: nativeRows,
  nested: nestedRows,
  cluster: clusterRows,
  instant: instantRows,
  memory: forkMemoryRows,
  openshell: openshellRows,
  "image-load": imageLoadRows,
  arm64: arm64Rows,
  policies: policyRows,
  safety: async () => [...await supervisorSafetyRows(), ...await gvproxySafetyRows()],
};

function line({ name, value, unit, limit, note }: Row): string {
  const verdict = limit === undefined ? "      " : value <= limit ? "ok    " : "MISSED";
  const figure = `${value.toFixed(value < 10 ? 2 : 0)} ${unit}`.padStart(12);
  const bound = limit === undefined ? "" : `at most ${limit} ${unit}`;
  return `${verdict} ${name.padEnd(52)} ${figure}  ${bound.padEnd(18)} ${note ?? ""}`.trimEnd();
}

const wanted = Deno.args.length > 0 ? Deno.args : Object.keys(GROUPS);
const unknown = wanted.filter((group) => !Object.hasOwn(GROUPS, group));
if (unknown.length > 0) {
  console.error(
    `error: There is no group ${unknown.map((group) => `"${group}"`).join(", ")}\n` +
      `  fix: name some of ${Object.keys(GROUPS).join(", ")}, or nothing for all`,
  );
  Deno.exit(2);
}
// An end in the middle must not leave a VM running.
for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
  Deno.addSignalListener(signal, () => {
    console.error("ending what runs");
    const homes = [...TestHome.inUse].map((home) => home[Symbol.asyncDispose]());
    void Promise.allSettled(homes).then(() => Deno.exit(code));
  });
}

const rows: Row[] = [];
for (const group of wanted) {
  console.log(`# ${group}`);
  for (const row of await GROUPS[group]!()) {
    rows.push(row);
    console.log(line(row));
  }
}
const host = { cpus: navigator.hardwareConcurrency, load: Deno.loadavg()[0], date: new Date() };
await Deno.mkdir("dist", { recursive: true });
await Deno.writeTextFile("dist/bench.json", JSON.stringify({ host, rows }, null, 2) + "\n");
