import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import {
  matrixCases,
  type MatrixHost,
  type MatrixReport,
  matrixText,
  whyNotRun,
} from "./matrix/matrix.ts";

const HOST: MatrixHost = {
  vmms: { "qemu-tcg": "", "qemu-kvm": "no KVM", "libkrun": "not driven" },
  noCluster: "",
  noClusterWithoutNet: "nothing to reach",
};

const ALL: MatrixHost = {
  ...HOST,
  vmms: { "qemu-tcg": "", "qemu-kvm": "", "libkrun": "" },
};

const tried = (host: MatrixHost) =>
  matrixCases().filter((one) => whyNotRun(one, host) === "")
    .map(({ vmm, net, mode }) => `${vmm} ${net} ${mode}`);

Deno.test("matrixCases() has every combination once", () => {
  const cases = matrixCases().map((one) => JSON.stringify(one));
  assertEquals([cases.length, new Set(cases).size], [12, 12]);
});

Deno.test("whyNotRun() tries what this host can and gives the reason of everything else", () => {
  assertEquals(tried(HOST), [
    "qemu-tcg gvproxy exec",
    "qemu-tcg gvproxy cluster",
    "qemu-tcg none exec",
  ]);
  const reasons = new Set(matrixCases().map((one) => whyNotRun(one, HOST)));
  assertEquals(
    reasons,
    new Set([
      "",
      "nothing to reach",
      "no KVM",
      "not driven",
    ]),
  );
});

Deno.test("whyNotRun() tries more on a host that can more, and less when clusters are left out", () => {
  const each = ["gvproxy exec", "gvproxy cluster", "none exec"];
  assertEquals(
    tried(ALL).sort(),
    ["qemu-tcg", "qemu-kvm", "libkrun"].flatMap((vmm) => each.map((rest) => `${vmm} ${rest}`))
      // An instance takes KVM there.
      .filter((one) => one !== "qemu-tcg gvproxy cluster").sort(),
  );
  const without = tried({ ...ALL, noCluster: "left out" });
  assertEquals(without.filter((one) => one.endsWith("cluster")), []);
  assertEquals(without.length, 6);
});

Deno.test("matrixText() shows outcome, time and reason of each row, digests and the date", () => {
  const report: MatrixReport = {
    date: "2026-01-02T03:04:05.000Z",
    host: "linux",
    gateway: "0.1.0",
    digests: { vmlinux: "a".repeat(64) },
    ok: true,
    rows: matrixCases().map((one, at) => ({
      ...one,
      outcome: at === 0 ? "pass" : "not-run",
      detail: at === 0 ? "40 of 40" : "no KVM",
      seconds: at === 0 ? 3.14 : null,
    })),
  };
  const lines = matrixText(report).split("\n");
  assertMatch(lines[1]!, /^qemu-tcg +gvproxy +exec +pass +3\.1 s +40 of 40$/);
  assertMatch(lines[2]!, /^qemu-tcg +gvproxy +cluster +not run +no KVM$/);
  assertStringIncludes(matrixText(report), "1 of 12 tried, 0 failed; 2026-01-02T03:04:05.000Z");
  assertStringIncludes(matrixText(report), `vmlinux          ${"a".repeat(64)}`);
});
