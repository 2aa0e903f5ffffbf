/**
 * `gateway verify`: asks the agent of a running guest to try what the kernel has to be able to do, and judges the answer.
 * It must not try anything by itself: the agent's checks do, and the list they share with init says what they are for.
 *
 * @module
 */
import * as v from "valibot";
import { runSsh } from "../../net/guest_command.ts";
import { sshArgs, sshConfigPath } from "../../net/ssh.ts";
import { GUEST_AGENT } from "../../rootfs/contract.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { requireRunning } from "../../vm/instance/instance.ts";

const Result = v.object({
  level: v.picklist(["required", "optional"]),
  check: v.string(),
  options: v.array(v.string()),
  breaks: v.string(),
  outcome: v.picklist(["pass", "fail", "skip"]),
  found: v.string(),
  ms: v.number(),
});

const Report = v.object({ kernel: v.string(), results: v.array(Result) });

/** One check of the guest: what it needs, what breaks without it, how it went. */
export type CapabilityResult = Readonly<v.InferOutput<typeof Result>>;

/** `gateway verify --json`. */
export interface CapabilityReport {
  /** Name of the instance, or of the VM that was started for it. */
  readonly instance: string;
  /** The guest's kernel, as `uname -r` says it. */
  readonly kernel: string;
  /** When the checks ran, ISO 8601. */
  readonly date: string;
  /** Whether no required check failed. */
  readonly ok: boolean;
  /** In the order of the list. */
  readonly results: readonly CapabilityResult[];
}

/** The slowest guest needs about ten seconds for all checks. */
const VERIFY_TIMEOUT_MS = 180_000;

/** The words that run the checks in a guest, between two readings of its clock. */
export function verifyWords(): string[] {
  const script = 'date +%s; "$0" verify; code=$?; date +%s; exit $code';
  return ["sh", "-c", script, GUEST_AGENT];
}

/** This host's clock around the run of {@linkcode verifyWords}, in milliseconds. */
export interface HostWindow {
  readonly startMs: number;
  readonly endMs: number;
}

/** What a clock in whole seconds, and a step of the host's own, may be apart. */
const CLOCK_TOLERANCE_S = 2;

/**
 * Reads what {@linkcode verifyWords} print. A right clock cannot be before the host's at the start at its first reading,
 * nor after the host's at the end at its last one, however slow the guest is.
 *
 * @throws GatewayError `guest-failed` as {@linkcode parseCapabilities}.
 */
export function readVerification(
  text: string,
  instance: string,
  { startMs, endMs }: HostWindow,
): CapabilityReport {
  const [, first, json = "", last] = /^(\d+)\n([\s\S]*?)\n?(\d+)\n?$/.exec(text) ?? [];
  if (first === undefined) throw notVerified(instance, "the guest's answer is no report of checks");
  const behind = startMs / 1000 - Number(first);
  const ahead = Number(last) - endMs / 1000;
  const apart = Math.round(Math.max(behind, ahead));
  const wrong = apart > CLOCK_TOLERANCE_S;
  const where = behind > ahead ? "behind" : "ahead of";
  const clock = {
    outcome: wrong ? "fail" : "pass",
    found: wrong ? `it is at least ${apart} s ${where} the host's` : "it agrees with the host's",
  } as const;
  const report = parseCapabilities(json, instance);
  const results = report.results.map((row) =>
    row.check === "clock.wall" ? { ...row, ...clock } : row
  );
  return { ...report, results, ok: isOk(results) };
}

function isOk(results: readonly CapabilityResult[]): boolean {
  return !results.some(({ level, outcome }) => level === "required" && outcome === "fail");
}

/**
 * Reads the agent's report.
 *
 * @throws GatewayError `guest-failed` when it is none, as from an image that is older than this program.
 */
export function parseCapabilities(text: string, instance: string): CapabilityReport {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    json = undefined;
  }
  const parsed = v.safeParse(Report, json);
  if (!parsed.success || parsed.output.results.length === 0) {
    throw notVerified(instance, "the guest's answer is no report of checks");
  }
  const { kernel, results } = parsed.output;
  return { instance, kernel, date: new Date().toISOString(), ok: isOk(results), results };
}

/**
 * Runs all checks in a running instance.
 *
 * @throws GatewayError `instance-unknown`, `instance-stopped`, `guest-unreachable`, `guest-failed`.
 */
export async function verifyInstance(name: string, signal: AbortSignal): Promise<CapabilityReport> {
  const { paths } = await requireRunning(name);
  const startMs = Date.now();
  const { code, stdout, stderr } = await runSsh({
    args: sshArgs(sshConfigPath(paths.sshDir), name, verifyWords()),
    signal,
    timeoutMs: VERIFY_TIMEOUT_MS,
    check: false,
  });
  // 255 is ssh's own failure.
  if (code === 255) {
    throw new GatewayError({
      code: "guest-unreachable",
      what: `Cannot verify the instance "${name}"`,
      why: stderr.trim().split("\n").at(-1) || "ssh could not reach it",
      fix: `wait until \`gateway status --name ${name}\` says ready, then try again`,
    });
  }
  if (code !== 0) {
    throw notVerified(name, stderr.trim().split("\n")[0] || `its agent ended with code ${code}`);
  }
  return readVerification(stdout, name, { startMs, endMs: Date.now() });
}

function notVerified(instance: string, why: string): GatewayError {
  return new GatewayError({
    code: "guest-failed",
    what: `Cannot verify the instance "${instance}"`,
    why,
    fix: `start it from this program's image: gateway down --name ${instance}, then gateway up`,
  });
}

/** How many required and optional checks passed, failed and were skipped. */
export function countOutcomes(report: CapabilityReport): string {
  const words = (["required", "optional"] as const).map((level) => {
    const rows = report.results.filter((row) => row.level === level);
    const count = (outcome: string) => rows.filter((row) => row.outcome === outcome).length;
    const skipped = count("skip") === 0 ? "" : `, ${count("skip")} skipped`;
    return `${level} ${count("pass")} of ${rows.length} pass${skipped}`;
  });
  return words.join("; ");
}

/** The table: check, outcome, the options it needs, what breaks without them; below a row that did not pass, why. */
export function capabilityText(report: CapabilityReport): string {
  const rows = report.results.map((row) => [
    row.check,
    row.level === "optional" && row.outcome === "fail" ? "absent" : row.outcome,
    row.options.join(" "),
    `${row.breaks}${row.level === "optional" ? " (optional)" : ""}`,
    row.outcome === "pass" ? "" : row.found,
  ]);
  const all = [["CHECK", "OUTCOME", "NEEDS", "WITHOUT IT", ""], ...rows];
  const widths = [0, 1, 2].map((at) =>
    Math.min(40, Math.max(...all.map((row) => row[at]!.length)))
  );
  const lines = all.flatMap((row) => {
    const cells = widths.map((width, at) => row[at]!.padEnd(width));
    const [breaks, found] = row.slice(widths.length);
    return [`${cells.join("  ")}  ${breaks}`, ...(found === "" ? [] : [`    found: ${found}`])];
  });
  const verdict = `${report.ok ? "ok" : "NOT OK"}: ${
    countOutcomes(report)
  }; kernel ${report.kernel}`;
  return [...lines, "", verdict].join("\n");
}
