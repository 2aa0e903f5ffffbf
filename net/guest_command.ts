/**
 * Runs ssh to a guest and collects what its program prints, which is not trusted.
 *
 * @module
 */
import { run, type RunOptions, type RunResult } from "../vm/base/process.ts";

/** Of stdout and of stderr; the longest answer, a list of a thousand images, has a tenth of it. */
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;

/** Runs ssh. @throws GatewayError as {@linkcode run}. */
export function runSsh(
  options: Omit<RunOptions, "maxOutputBytes" | "logPath">,
): Promise<RunResult> {
  return run("ssh", { ...options, maxOutputBytes: MAX_OUTPUT_BYTES });
}
