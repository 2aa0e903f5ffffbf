// deno-lint-ignore-file no-console
/**
 * `deno task matrix`: tries every VMM, network and mode on this host, prints a table and writes dist/matrix.json. Exit
 * code 1 when something that was tried failed.
 * Options: `--no-clusters` for VMs without a cluster only, `--json` for the report instead of the table.
 *
 * @module
 */
import { join } from "@std/path";
import { silentSpan } from "../../vm/base/event.ts";
import { sourcePath } from "../../vm/base/source.ts";
import { matrixText } from "./matrix.ts";
import { runMatrix } from "./run.ts";

const KNOWN = ["--no-clusters", "--json"];

const unknown = Deno.args.find((word) => !KNOWN.includes(word));
if (unknown !== undefined) {
  console.error(`Cannot use "${unknown}"\n  the options are ${KNOWN.join(" and ")}`);
  Deno.exit(2);
}
const stop = new AbortController();
Deno.addSignalListener("SIGINT", () => stop.abort(new Error("stopped")));
const report = await runMatrix({
  span: silentSpan(),
  signal: stop.signal,
  clusters: !Deno.args.includes("--no-clusters"),
  onRow: ({ vmm, net, mode, outcome }) => {
    if (outcome !== "not-run") console.error(`${vmm} ${net} ${mode}: ${outcome}`);
  },
});
const dir = sourcePath("dist");
await Deno.mkdir(dir, { recursive: true });
await Deno.writeTextFile(join(dir, "matrix.json"), `${JSON.stringify(report, null, 2)}\n`);
console.log(Deno.args.includes("--json") ? JSON.stringify(report, null, 2) : matrixText(report));
Deno.exit(report.ok ? 0 : 1);
