/**
 * The matrix of `deno task matrix`: every combination of VMM, network and mode, and which of them this host can try.
 * Pure; run.ts looks at the host and tries.
 * It must not leave a combination out: what is not tried has its reason.
 *
 * @module
 */
import { columns } from "../../bootstrap/view/table.ts";

/** Who runs the VM, and how. */
const MATRIX_VMMS = ["qemu-tcg", "qemu-kvm", "libkrun"] as const;
/** How it is connected. */
const MATRIX_NETS = ["gvproxy", "none"] as const;
/** A VM with one program, or a whole cluster. */
const MATRIX_MODES = ["exec", "cluster"] as const;

/** One combination. */
export interface MatrixCase {
  readonly vmm: typeof MATRIX_VMMS[number];
  readonly net: typeof MATRIX_NETS[number];
  readonly mode: typeof MATRIX_MODES[number];
}

/** One combination and what came of it. */
export interface MatrixRow extends MatrixCase {
  readonly outcome: "pass" | "fail" | "not-run";
  /** What was seen, or why it was not tried. */
  readonly detail: string;
  /** Wall time of the try; null when it was not tried. */
  readonly seconds: number | null;
}

/** What this host can do; "" where it can, else the reason. */
export interface MatrixHost {
  readonly vmms: Readonly<Record<MatrixCase["vmm"], string>>;
  /** Why no cluster is tried; "" to try. */
  readonly noCluster: string;
  /** Why a cluster needs a network, in the words of `up` itself. */
  readonly noClusterWithoutNet: string;
}

/** What `--json` prints, and the file it is saved in. */
export interface MatrixReport {
  /** ISO 8601. */
  readonly date: string;
  /** Operating system, kernel and processors of the host. */
  readonly host: string;
  /** Version and commit of this program. */
  readonly gateway: string;
  /** sha256 of what was booted, by file. */
  readonly digests: Readonly<Record<string, string>>;
  /** Whether what was tried passed. */
  readonly ok: boolean;
  readonly rows: readonly MatrixRow[];
}

/** Every combination, in a fixed order. */
export function matrixCases(): MatrixCase[] {
  return MATRIX_VMMS.flatMap((vmm) =>
    MATRIX_NETS.flatMap((net) => MATRIX_MODES.map((mode) => ({ vmm, net, mode })))
  );
}

/** Why a combination is not tried here; "" when it is. */
export function whyNotRun(one: MatrixCase, host: MatrixHost): string {
  if (host.vmms[one.vmm] !== "") return host.vmms[one.vmm];
  if (one.mode === "exec") return "";
  if (one.net === "none") return host.noClusterWithoutNet;
  if (one.vmm === "qemu-tcg" && host.vmms["qemu-kvm"] === "") {
    return "an instance takes KVM where a probe boot with it works";
  }
  return host.noCluster;
}

/** The table. */
export function matrixText(report: MatrixReport): string {
  const cells = report.rows.map((row) => [
    row.vmm,
    row.net,
    row.mode,
    row.outcome === "not-run" ? "not run" : row.outcome,
    row.seconds === null ? "" : `${row.seconds.toFixed(1)} s`,
    row.detail,
  ]);
  const all = [["VMM", "NET", "MODE", "OUTCOME", "TIME", ""], ...cells];
  const tried = report.rows.filter(({ outcome }) => outcome !== "not-run").length;
  const failed = report.rows.filter(({ outcome }) => outcome === "fail").length;
  return [
    ...columns(all),
    "",
    ...Object.entries(report.digests).map(([file, sha256]) => `${file.padEnd(16)} ${sha256}`),
    `${tried} of ${report.rows.length} tried, ${failed} failed; ${report.date}; gateway ${report.gateway}`,
    `host ${report.host}`,
  ].join("\n");
}
