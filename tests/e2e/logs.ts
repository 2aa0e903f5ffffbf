/**
 * What a failed end-to-end run leaves to read: the instance's logs and what its cluster holds.
 *
 * @module
 */
import { join } from "@std/path";
import type { RunResult } from "../../vm/base/process.ts";

/** What is kept: a file's name and the words of `gateway` that print it. Secrets are not among it. */
const PARTS: readonly (readonly [file: string, words: readonly string[]])[] = [
  ...(["console", "cluster", "gvproxy", "vmm", "events"] as const).map((source) =>
    [`${source}.log`, ["logs", "--source", source]] as const
  ),
  ["status.json", ["status", "--json"]],
  ["timeline.txt", ["status", "--timeline"]],
  ["pods.txt", ["kubectl", "--", "get", "pods", "-A", "-o", "wide"]],
  ["pods-described.txt", ["kubectl", "--", "describe", "pods", "-A"]],
  ["cluster-events.txt", ["kubectl", "--", "get", "events", "-A", "--sort-by=.lastTimestamp"]],
];

/** Writes the logs into a folder that only this user can read; returns the folder. */
export async function collectLogs(
  gateway: (args: readonly string[]) => Promise<RunResult>,
  name: string,
  dir: string,
): Promise<string> {
  await Deno.mkdir(dir, { recursive: true, mode: 0o700 });
  const keep = async (file: string, words: readonly string[]) => {
    const at = words.indexOf("--");
    const own = at < 0 ? words : words.slice(0, at);
    const { stdout, stderr } = await gateway([
      ...[...own, "--name", name],
      ...(at < 0 ? [] : words.slice(at)),
    ]);
    await Deno.writeTextFile(join(dir, file), stdout || stderr, { mode: 0o600 });
    return stdout;
  };
  for (const [file, words] of PARTS) await keep(file, words);
  const every = ["get", "pods", "-A", "-o"];
  const path = 'jsonpath={range .items[*]}{.metadata.namespace} {.metadata.name}{"\\n"}{end}';
  const pods = await keep("pods.list", ["kubectl", "--", ...every, path]);
  for (const line of pods.trim().split("\n").filter((one) => one.includes(" "))) {
    const [namespace, pod] = line.split(" ");
    const log = ["logs", "-n", namespace!, pod!, "--all-containers", "--tail=2000"];
    await keep(`pod-${namespace}-${pod}.log`, ["kubectl", "--", ...log]);
  }
  return dir;
}
