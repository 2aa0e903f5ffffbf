/**
 * Tries what the matrix says this host can: fresh VMs whose program is the guest's checker, and a whole cluster in an
 * instance of its own that is removed afterwards.
 * It must not touch the user's instances, and no try may outlast its bound.
 *
 * @module
 */
import { join } from "@std/path";
import { freeLoopbackPort } from "../../net/forward.ts";
import { CollectedBytes } from "../../vm/base/collected_bytes.ts";
import { digestFile } from "../../vm/base/digest.ts";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { abortError, describeError, GatewayError } from "../../vm/base/error.ts";
import { EventLog, type Span } from "../../vm/base/event.ts";
import { cacheDir, dataDir, ensurePrivateDir } from "../../vm/base/layout.ts";
import { QemuVmm } from "../../vm/qemu/driver.ts";
import { ArtifactStore } from "../../vm/store/artifact.ts";
import { builderFacts } from "../../vm/store/builder.ts";
import { type BootArtifacts, ensureArtifacts } from "../artifacts/ensure.ts";
import { libkrunDriver } from "../plan/choose_vmm.ts";
import { hostFacts, resolveOptions, type UpRequest } from "../plan/options.ts";
import { rm } from "../run/down.ts";
import { execInFreshVm } from "../start/exec.ts";
import { up } from "../start/up.ts";
import {
  type MatrixCase,
  matrixCases,
  type MatrixHost,
  type MatrixReport,
  type MatrixRow,
  whyNotRun,
} from "./matrix.ts";
import { countOutcomes, readVerification, verifyWords } from "./verify.ts";

/** How the matrix is tried. */
export interface MatrixOptions {
  readonly span: Span;
  readonly signal: AbortSignal;
  /** As root, install missing host tools. */
  readonly assumeYes: boolean;
  /** Try whole clusters, too: minutes under emulation. */
  readonly clusters: boolean;
  /** A Debian kernel; the newest in /boot by default. */
  readonly debianKernel?: string;
  /** Told each row as it is there. */
  readonly onRow?: (row: MatrixRow) => void;
}

const EXEC_TIMEOUT_MS = 180_000;
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;
const CLUSTER_TIMEOUT_MS = 15 * 60_000;

/** Tries everything, saves the report below the data folder and returns it with the file's path. */
export async function runMatrix(
  options: MatrixOptions,
): Promise<{ readonly report: MatrixReport; readonly path: string }> {
  const { signal, span } = options;
  const artifacts = await ensureArtifacts({ ...options, store: new ArtifactStore() });
  const host = await lookAtHost(artifacts, options);
  const rows: MatrixRow[] = [];
  for (const one of matrixCases()) {
    const why = whyNotRun(one, host);
    const row: MatrixRow = why === ""
      ? await tryCase(one, host, options)
      : { ...one, outcome: "not-run", detail: why, seconds: null };
    if (signal.aborted) throw abortError(signal);
    rows.push(row);
    options.onRow?.(row);
  }
  const builder = await builderFacts([], signal);
  const report: MatrixReport = {
    date: new Date().toISOString(),
    host: `${builder.host}, ${hostFacts().cpus} CPUs, ${hostFacts().memoryMiB} MiB`,
    gateway: `${builder.gateway}, commit ${builder.gitCommit ?? "unknown"}`,
    digests: await digestsOf(artifacts, host),
    ok: rows.every(({ kernel, outcome }) => kernel !== "ours" || outcome !== "fail"),
    rows,
  };
  await ensurePrivateDir(dataDir());
  const path = join(dataDir(), "matrix.json");
  await writeFileAtomic(path, JSON.stringify(report, null, 2) + "\n", 0o644);
  span.log(`saved as ${path}`);
  return { report, path };
}

async function digestsOf(
  artifacts: BootArtifacts,
  host: MatrixHost,
): Promise<Record<string, string>> {
  const { kernel, root, gvproxy } = artifacts;
  const digests: Record<string, string> = {
    "vmlinux": kernel.files.vmlinux!.sha256,
    "root.erofs": root.files["root.erofs"]!.sha256,
    "gvproxy": gvproxy.files.gvproxy!.sha256,
  };
  if (host.debianKernel !== "") digests["debian vmlinuz"] = await digestFile(host.debianKernel);
  return digests;
}

async function lookAtHost(artifacts: BootArtifacts, options: MatrixOptions): Promise<MatrixHost> {
  const kernelPath = artifacts.kernel.files.vmlinux!.path;
  const vmm = new QemuVmm({ kernelPath, cacheDir: cacheDir() });
  const check = await vmm.check(options);
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
    debianKernel: options.debianKernel ?? await newestDebianKernel(),
    noCluster: options.clusters ? "" : "left out by --no-clusters",
    noClusterWithoutNet: reason({ net: "none" }),
  };
}

async function newestDebianKernel(): Promise<string> {
  const names: string[] = [];
  try {
    for await (const { name } of Deno.readDir("/boot")) {
      if (/^vmlinuz-\d.*-amd64$/.test(name)) names.push(name);
    }
  } catch {
    return "";
  }
  const newest = names.sort(new Intl.Collator("en", { numeric: true }).compare).at(-1);
  return newest === undefined ? "" : join("/boot", newest);
}

async function tryCase(
  one: MatrixCase,
  host: MatrixHost,
  options: MatrixOptions,
): Promise<MatrixRow> {
  const started = performance.now();
  const { outcome, detail } = await (async (): Promise<Tried> => {
    try {
      return one.mode === "exec"
        ? await tryExec(one, host, options)
        : await tryCluster(one, options);
    } catch (error) {
      if (options.signal.aborted) throw error;
      // A driver that finds out by trying that it cannot run here.
      const absent = error instanceof GatewayError &&
        ["vmm-missing", "not-supported", "tool-missing"].includes(error.code);
      if (absent) return { outcome: "not-run" as const, detail: error.why };
      return { outcome: "fail" as const, detail: describeError(error) };
    }
  })();
  const seconds = outcome === "not-run" ? null : (performance.now() - started) / 1000;
  return { ...one, outcome, detail, seconds };
}

type Tried = Pick<MatrixRow, "outcome" | "detail">;

/** The VMM of a case, as options of a start. */
function machineOf(one: MatrixCase) {
  return {
    vmm: one.vmm === "libkrun" ? "libkrun" : "qemu",
    accelerator: { "qemu-tcg": "tcg", "qemu-kvm": "kvm", "libkrun": undefined }[one.vmm] as
      | "tcg"
      | "kvm"
      | undefined,
  };
}

/** Runs the guest's checker as the only program of a fresh VM; with a network, only once it has its address. */
async function tryExec(
  one: MatrixCase,
  host: MatrixHost,
  options: MatrixOptions,
): Promise<Tried> {
  const { vmm, accelerator } = machineOf(one);
  const script = one.net === "none" ? 'exec "$@"' : 'ip -4 -o addr show dev eth0 >&2 && exec "$@"';
  const request = {
    name: "matrix",
    assumeYes: options.assumeYes,
    vmm,
    net: one.net,
    exec: ["/bin/sh", "-c", script, "sh", ...verifyWords()],
  };
  const upOptions = {
    ...resolveOptions(request, hostFacts()),
    accelerator,
    kernelPath: one.kernel === "debian" ? host.debianKernel : undefined,
  };
  const [stdout, stderr] = [collector(), collector()];
  const startMs = Date.now();
  const code = await execInFreshVm(upOptions, {
    log: new EventLog(),
    signal: AbortSignal.any([options.signal, AbortSignal.timeout(EXEC_TIMEOUT_MS)]),
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

/** Boots an instance to READY and removes it. */
async function tryCluster(one: MatrixCase, options: MatrixOptions): Promise<Tried> {
  const { vmm, accelerator } = machineOf(one);
  const name = `matrix-${crypto.randomUUID().slice(0, 8)}`;
  const ports = [{ address: "127.0.0.1", hostPort: freeLoopbackPort(), guestPort: 30051 }];
  const { assumeYes } = options;
  // From nothing: a saved state would not show what the kernel can do.
  const request = { name, assumeYes, vmm, net: one.net, ports, kubeApi: false, cold: true };
  const stop = new AbortController();
  const bound = AbortSignal.timeout(CLUSTER_TIMEOUT_MS);
  const started = performance.now();
  let ready: string | undefined;
  try {
    await up({ ...resolveOptions(request, hostFacts()), accelerator }, {
      log: new EventLog(),
      early: [],
      signal: AbortSignal.any([options.signal, stop.signal, bound]),
      owned: new Set(),
      onReady: ({ vmmDescription }) => {
        const seconds = ((performance.now() - started) / 1000).toFixed(1);
        ready = `READY after ${seconds} s on ${vmmDescription}`;
        stop.abort();
      },
    });
  } catch (error) {
    if (options.signal.aborted || ready === undefined) throw error;
  } finally {
    const cleanup = { span: options.span, signal: AbortSignal.timeout(120_000), force: true };
    await rm(name, cleanup).catch(() => {});
  }
  if (ready !== undefined) return { outcome: "pass", detail: ready };
  return { outcome: "fail", detail: `it was not READY within ${CLUSTER_TIMEOUT_MS / 60_000} min` };
}
