/**
 * Tries what the matrix says this host can: fresh VMs whose program is the guest's checker, and a whole cluster in a home
 * of its own.
 * It must not touch the user's instances, and no try may outlast its bound.
 *
 * @module
 */
import { type BootArtifacts, ensureArtifacts } from "../../bootstrap/artifacts/ensure.ts";
import { countOutcomes, readVerification, verifyWords } from "../../bootstrap/inspect/verify.ts";
import { chooseVmm, libkrunDriver } from "../../bootstrap/plan/choose_vmm.ts";
import { hostFacts, resolveOptions, type UpRequest } from "../../bootstrap/plan/options.ts";
import { execWith } from "../../bootstrap/start/exec.ts";
import { kernelFile } from "../../kernel/kernel.ts";
import { CollectedBytes } from "../../vm/base/collected_bytes.ts";
import { abortError, describeError, GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { cacheDir } from "../../vm/base/layout.ts";
import { QemuVmm } from "../../vm/qemu/driver.ts";
import { builderFacts } from "../../vm/store/builder.ts";
import { WITHOUT_HARDWARE } from "../fakes/no_hardware.ts";
import { freePort, TestHome } from "../vm/harness.ts";
import {
  type MatrixCase,
  matrixCases,
  type MatrixHost,
  type MatrixReport,
  type MatrixRow,
  whyNotRun,
} from "./matrix.ts";

/** How the matrix is tried. */
export interface MatrixOptions {
  readonly span: Span;
  readonly signal: AbortSignal;
  /** Try whole clusters, too: minutes under emulation. */
  readonly clusters: boolean;
  /** Told each row as it is there. */
  readonly onRow: (row: MatrixRow) => void;
}

const EXEC_TIMEOUT_MS = 180_000;
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;
const CLUSTER_TIMEOUT_MS = 15 * 60_000;

/** Tries everything. */
export async function runMatrix(options: MatrixOptions): Promise<MatrixReport> {
  const { signal } = options;
  const artifacts = await ensureArtifacts({ ...options, assumeYes: true });
  const host = await lookAtHost(artifacts, options);
  const rows: MatrixRow[] = [];
  for (const one of matrixCases()) {
    const why = whyNotRun(one, host);
    const row: MatrixRow = why === ""
      ? await tryCase(one, artifacts, options)
      : { ...one, outcome: "not-run", detail: why, seconds: null };
    if (signal.aborted) throw abortError(signal);
    rows.push(row);
    options.onRow(row);
  }
  const builder = await builderFacts([], signal);
  const { kernel, root, gvproxy } = artifacts;
  return {
    date: new Date().toISOString(),
    host: `${builder.host}, ${hostFacts().cpus} CPUs, ${hostFacts().memoryMiB} MiB`,
    gateway: `${builder.gateway}, commit ${builder.gitCommit ?? "unknown"}`,
    digests: {
      "kernel": kernelFile(kernel).sha256,
      "root.erofs": root.files["root.erofs"]!.sha256,
      "gvproxy": gvproxy.files.gvproxy!.sha256,
    },
    ok: rows.every(({ outcome }) => outcome !== "fail"),
    rows,
  };
}

async function lookAtHost(artifacts: BootArtifacts, options: MatrixOptions): Promise<MatrixHost> {
  const kernelPath = kernelFile(artifacts.kernel).path;
  const check = await new QemuVmm({ kernelPath, cacheDir: cacheDir() }).check(options);
  const libkrun = await (await libkrunDriver(kernelPath)).check(options);
  const reason = (request: Partial<UpRequest>) => {
    try {
      resolveOptions({ name: "matrix", assumeYes: false, ...request }, hostFacts());
      return "";
    } catch (error) {
      if (error instanceof GatewayError) return error.why;
      throw error;
    }
  };
  return {
    vmms: {
      "qemu-tcg": check.usable ? "" : check.why,
      "qemu-kvm": !check.usable || check.accelerator !== "kvm" ? check.why : "",
      "libkrun": libkrun.usable ? "" : libkrun.why,
    },
    noCluster: options.clusters ? "" : "left out by --no-clusters",
    noClusterWithoutNet: reason({ net: "none" }),
  };
}

async function tryCase(
  one: MatrixCase,
  artifacts: BootArtifacts,
  options: MatrixOptions,
): Promise<MatrixRow> {
  const started = performance.now();
  const attempt = one.mode === "exec" ? tryExec(one, artifacts, options) : tryCluster(one);
  const { outcome, detail } = await attempt.catch((error): Tried => {
    if (options.signal.aborted) throw error;
    return { outcome: "fail", detail: describeError(error) };
  });
  return { ...one, outcome, detail, seconds: (performance.now() - started) / 1000 };
}

type Tried = Pick<MatrixRow, "outcome" | "detail">;

const vmmOf = ({ vmm }: MatrixCase) => vmm === "libkrun" ? "libkrun" : "qemu";

/** Runs the guest's checker as the only program of a fresh VM; with a network, only once it has its address. */
async function tryExec(
  one: MatrixCase,
  artifacts: BootArtifacts,
  { span, signal }: MatrixOptions,
): Promise<Tried> {
  const script = one.net === "none" ? 'exec "$@"' : 'ip -4 -o addr show dev eth0 >&2 && exec "$@"';
  const options = resolveOptions({
    ...{ name: "matrix", assumeYes: true, vmm: vmmOf(one), net: one.net },
    exec: ["/bin/sh", "-c", script, "sh", ...verifyWords()],
  }, hostFacts());
  const chosen = await chooseVmm(artifacts, {
    ...{ ...options, span, signal },
    ...(one.vmm === "qemu-tcg" ? { candidate: WITHOUT_HARDWARE } : {}),
  });
  const parts = {
    ...chosen,
    kernelPath: kernelFile(artifacts.kernel).path,
    rootImage: artifacts.root.files["root.erofs"]!.path,
    gvproxy: artifacts.gvproxy.files.gvproxy!.path,
  };
  const [stdout, stderr] = [collector(), collector()];
  const startMs = Date.now();
  const code = await execWith(parts, options, {
    span,
    signal: AbortSignal.any([signal, AbortSignal.timeout(EXEC_TIMEOUT_MS)]),
    streams: { stdin: new Blob([]).stream(), stdout, stderr },
  });
  if (code !== 0) {
    return { outcome: "fail", detail: stderr.text().trim() || `the program gave ${code}` };
  }
  const report = readVerification(stdout.text(), "matrix", { startMs, endMs: Date.now() });
  const network = one.net === "none" ? "" : `; ${/inet ([\d.]+)/.exec(stderr.text())?.[1]}`;
  return { outcome: report.ok ? "pass" : "fail", detail: `${countOutcomes(report)}${network}` };
}

/** Keeps the beginning of what the guest prints. */
function collector() {
  const kept = new CollectedBytes(MAX_OUTPUT_BYTES);
  return {
    write: (data: Uint8Array) => {
      kept.add(data);
      return Promise.resolve(data.length);
    },
    text: () => kept.text(),
  };
}

/** Boots an instance from nothing to READY: a saved state would not show what the kernel can do. */
async function tryCluster(one: MatrixCase): Promise<Tried> {
  await using home = await TestHome.make();
  const port = `${freePort()}:30051`;
  const started = performance.now();
  const { code, stderr } = await home.call(
    ["up", "--detach", "--cold", "--no-kube-api", "--vmm", vmmOf(one), "--port", port],
    {
      timeoutMs: CLUSTER_TIMEOUT_MS,
      // The library that this host has, and not the one that the tests name to have none.
      env: { GATEWAY_LIBKRUN: Deno.env.get("GATEWAY_LIBKRUN") ?? "" },
    },
  );
  if (code !== 0) return { outcome: "fail", detail: stderr.trim().replaceAll(/\s*\n\s*/g, "; ") };
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const { vmm } = JSON.parse((await home.call(["status", "--json"])).stdout);
  return { outcome: "pass", detail: `READY after ${seconds} s on ${vmm}` };
}
