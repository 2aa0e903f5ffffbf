// deno-lint-ignore-file no-console
/**
 * `deno task scan`: compares go.mod files, Cargo.lock and deno.lock with a database of known vulnerabilities. Exit codes:
 * 0 nothing is known, 1 something is, 3 no database could be asked, so nothing was scanned. `GATEWAY_OSV_URL` names a
 * mirror of the database.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";
import { run, which } from "../../vm/base/process.ts";
import { knownVulnerabilities, NotScanned, OSV_URL } from "./osv.ts";
import { allParts, type Part } from "./parts.ts";

/** Go's own library is compiled into every Go program. */
async function goToolchain(): Promise<Part[]> {
  if (which("go") === undefined) {
    console.log("Go's standard library is not among them: there is no go on PATH");
    return [];
  }
  const { stdout } = await run("go", { args: ["env", "GOVERSION"], timeoutMs: 60_000 });
  const version = stdout.trim().replace(/^go/, "");
  return [{ ecosystem: "Go", name: "stdlib", version, file: "the Go toolchain" }];
}

const parts = [
  ...await allParts(fromFileUrl(new URL("../..", import.meta.url))),
  ...await goToolchain(),
];
const files = new Set(parts.map(({ file }) => file));
const subject = `${parts.length} packages of ${files.size} lock files`;
const url = Deno.env.get("GATEWAY_OSV_URL") ?? OSV_URL;
try {
  const findings = await knownVulnerabilities(parts, url);
  for (const { file, name, version, ids } of findings) {
    console.log(`${file}: ${name} ${version}: ${ids.join(", ")}`);
  }
  console.log(`${subject} scanned, ${findings.length} with known vulnerabilities`);
  Deno.exit(findings.length === 0 ? 0 : 1);
} catch (error) {
  if (!(error instanceof NotScanned)) throw error;
  console.log(`NOT SCANNED: ${subject}`);
  console.log(`  why: ${error.message}`);
  console.log(
    "  fix: run it where the database can be reached, or set GATEWAY_OSV_URL to a mirror",
  );
  Deno.exit(3);
}
