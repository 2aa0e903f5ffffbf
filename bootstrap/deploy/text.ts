/**
 * What is told of a deployment, as text. Pure.
 * It must not print.
 *
 * @module
 */
import { formatMs } from "../../vm/base/wait.ts";
import type { DeployOutcome, DeployReport } from "./deploy.ts";
import { objectDiff } from "./diff.ts";
import { idOf, objectLabel } from "./objects.ts";

/** What `deploy` ends with. */
export function deployText(report: DeployReport, elapsedMs: number): string {
  const count = (change: string) => report.objects.filter((one) => one.change === change).length;
  const counts = `${count("create")} created, ${count("update")} changed, ` +
    `${count("same")} unchanged, ${report.removed.length} removed`;
  if (report.dryRun) {
    const lines = [
      ...report.objects.filter(({ change }) => change !== "same")
        .map((one) => `would ${one.change} ${objectLabel(one)}`),
      ...report.removed.map((one) => `would remove ${objectLabel(one)}`),
    ];
    return [...lines, `nothing was done; it would be: ${counts}`].join("\n");
  }
  return [
    `DEPLOYED in ${formatMs(elapsedMs)}: ${counts}`,
    ...(report.endpoint ? [`endpoint      ${report.endpoint}`] : []),
    ...(report.clientFiles ? [`client files  ${report.clientFiles}`] : []),
  ].join("\n");
}

/** What `deploy --diff` prints: each object that would change with its lines. */
export function diffText({ planned, stale }: DeployOutcome): string {
  const parts = planned.filter(({ change }) => change !== "same").map((one) => {
    const note = one.checked ? "" : " (not looked at by the cluster: what it needs comes with it)";
    return `${one.change} ${objectLabel(idOf(one.object))}${note}\n${
      objectDiff(one.live, one.after)
    }`;
  });
  for (const { id, live } of stale) {
    parts.push(`remove ${objectLabel(id)}\n${objectDiff(live, undefined)}`);
  }
  return parts.length === 0 ? "nothing would change" : parts.join("\n\n");
}
