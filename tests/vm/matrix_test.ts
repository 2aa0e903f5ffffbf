/**
 * The matrix on this host, without its clusters: every combination is tried or has its reason.
 *
 * @module
 */
import { assertEquals, assertMatch } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { run } from "../../vm/base/process.ts";
import type { MatrixReport, MatrixRow } from "../matrix/matrix.ts";

const PATH = (name: string) => fromFileUrl(new URL(`../../${name}`, import.meta.url));

Deno.test("the matrix tries what this host can, gives a reason for the rest and is saved", async () => {
  const program = ["run", "-A", "--quiet", "--no-check", "--config", PATH("deno.json")];
  const args = [...program, PATH("tests/matrix/main.ts"), "--no-clusters", "--json"];
  const { stdout } = await run(Deno.execPath(), {
    ...{ args, timeoutMs: 10 * 60_000 },
    // As for the tests with instances: libkrun has tests/nested.
    env: { GATEWAY_LIBKRUN: "/nowhere/libkrun.so", GATEWAY_YES: "1" },
  });
  const report: MatrixReport = JSON.parse(stdout);
  assertEquals([report.ok, report.rows.length], [true, 12]);
  const of = (one: MatrixRow) => `${one.vmm} ${one.net} ${one.mode}`;
  const passed = report.rows.filter((row) => row.outcome === "pass").map(of);
  const wanted = ["qemu-tcg gvproxy exec", "qemu-tcg none exec"];
  assertEquals(wanted.filter((one) => !passed.includes(one)), []);
  const rest = report.rows.filter((row) => row.outcome === "not-run");
  assertEquals(rest.filter((row) => row.detail.length < 5 || row.seconds !== null), []);
  assertMatch(report.digests.kernel!, /^[0-9a-f]{64}$/);
  assertEquals(JSON.parse(await Deno.readTextFile(PATH("dist/matrix.json"))), report);
});
