/**
 * What runs inside the outer machine: the conformance suite on libkrun and on QEMU with KVM, or the benchmark. One line of
 * JSON on stdout for each case and each figure.
 * It must not build anything: the outer disk brings all files.
 *
 * @module
 */
import { assertRejects, assertStringIncludes } from "@std/assert";
import { vmmCommand } from "../../bootstrap/run/self.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { cacheDir, exists } from "../../vm/base/layout.ts";
import { VMM_BUNDLE_FILE } from "../../vm/base/source.ts";
import { LibkrunVmm } from "../../vm/libkrun/driver.ts";
import type { Vmm } from "../../vm/machine/vmm.ts";
import { QemuVmm } from "../../vm/qemu/driver.ts";
import { type Case, CASES } from "../conformance/cases.ts";
import { type Bench, bootGuest } from "../conformance/guest.ts";
import { benchRows } from "./inside_bench.ts";
import { bootCluster } from "./inside_cluster.ts";
import { contextGuest, initGuest } from "./inside_context.ts";
import { CONTEXT_CASE, INIT_CASE, REFUSED_CASE, TSI_CASE } from "./inside_names.ts";
import { attempt, tell } from "./inside_tell.ts";
import { tsiGuest } from "./inside_tsi.ts";

const cache = cacheDir();
/** The probe's bound leaves room for a host that does something else, too. */
const PROBE = {
  kernelPath: `${cache}/vmlinux`,
  cacheDir: "/tmp/cache",
  probeTimeoutMs: 60_000,
} as const;

/** The VMM's process, which starts as it does for users. */
const VMM_PROCESS = `/gateway/${VMM_BUNDLE_FILE}`;
const driver = (flag?: string) =>
  new LibkrunVmm({
    ...PROBE,
    child: (plan) => vmmCommand(plan, VMM_PROCESS),
    flag: flag ?? `${cache}/libkrun.so.1.19.7`,
  });

/** Libraries that are refused, each by its own sentence. */
const REFUSED = [
  [`${cache}/libkrun-no-net.so`, 'was built without the feature "net"'],
  [`${cache}/libkrun-old.so`, "has no krun_add_disk3, which is there since 1.17.0"],
  [`${cache}/vmlinux`, "cannot be loaded"],
] as const;

async function main(): Promise<void> {
  await Deno.mkdir("/tmp/cache", { recursive: true });
  const vmm = driver();
  if (!await usable(vmm)) return;
  const bench = benchOf(vmm);
  if (Deno.args[0] === "bench") {
    for (const row of await benchRows(bench)) tell({ kind: "row", ...row });
    return;
  }
  if (Deno.args[0] === "cluster") {
    const run = await bootCluster(bench).catch((error) => ({ error: String(error) }));
    return tell({ kind: "cluster", ...run });
  }
  await runCases(bench, [...CASES, ...await libkrunCases(bench)]);
  const qemu = new QemuVmm(PROBE);
  if (await usable(qemu)) await runCases(benchOf(qemu), CASES);
}

/** Whether the probe boot with it worked. */
async function usable(vmm: Vmm): Promise<boolean> {
  const signal = new AbortController().signal;
  const started = performance.now();
  const check = await vmm.check({ span: silentSpan(), signal });
  tell({ kind: "check", vmm: vmm.name, ...check, ms: Math.round(performance.now() - started) });
  return check.usable;
}

function benchOf(vmm: Vmm): Bench {
  return {
    vmm,
    kernelPath: `${cache}/vmlinux`,
    rootImage: `${cache}/root.erofs`,
    gvproxy: `${cache}/gvproxy`,
    dir: "/tmp",
    layeredDisk: cache,
    hostAddress: "10.77.0.1",
    emulated: false,
    tscKHz: null,
    timeoutMs: 60_000,
  };
}

/** What is tried with libkrun alone. */
async function libkrunCases(bench: Bench): Promise<Case[]> {
  const stock = `${cache}/stock/libkrun.so.1.19.7`;
  const always = [
    { name: REFUSED_CASE, run: () => refused(bench) },
    { name: CONTEXT_CASE, run: () => contextGuest(bench, `${cache}/libkrun.so.1.19.7`) },
  ];
  if (!await exists(stock)) return always;
  return [
    ...always,
    { name: INIT_CASE, run: () => initGuest(bench, stock, `${cache}/stock/libkrunfw.so.5`) },
    { name: TSI_CASE, run: () => tsiGuest({ ...bench, vmm: driver(stock) }) },
  ];
}

async function runCases(bench: Bench, cases: readonly Case[]): Promise<void> {
  const vmm = bench.vmm.name;
  for (const { name, run, only } of cases) {
    if (only !== undefined && only !== vmm) continue;
    const { error, ms } = await attempt(() => run(bench));
    tell({ kind: "case", vmm, name, error, ms });
  }
}

async function refused(bench: Bench): Promise<void> {
  for (const [path, why] of REFUSED) {
    const error = await assertRejects(
      () => bootGuest({ ...bench, vmm: driver(path) }, { argv: ["/bin/true"] }),
      GatewayError,
    );
    assertStringIncludes(error.why, why);
  }
}

await main();
tell({ kind: "end" });
