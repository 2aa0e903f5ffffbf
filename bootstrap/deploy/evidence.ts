/**
 * What is to be seen of objects that did not become ready: their pods, events and the ends of logs, bounded, on lines
 * for people.
 * It must not change anything, and a question that the cluster refuses is no error.
 *
 * @module
 */
import type { KubeApi, KubeObject } from "./kube_api.ts";

const MOST = { pods: 4, events: 6, logLines: 12, columns: 240 };

/** A container as a pod's status has it. */
interface ContainerStatus {
  readonly name: string;
  readonly ready: boolean;
  readonly restartCount: number;
  readonly state?: {
    readonly waiting?: { readonly reason?: string; readonly message?: string };
    readonly terminated?: { readonly reason?: string; readonly exitCode?: number };
  };
}

/** Lines about one object. */
export async function gatherEvidence(
  api: KubeApi,
  object: KubeObject,
  signal: AbortSignal,
): Promise<string[]> {
  const namespace = object.metadata.namespace ?? "default";
  const root = `/api/v1/namespaces/${encodeURIComponent(namespace)}`;
  const ask = async (path: string, query: Record<string, string>) =>
    await api.list(path, signal, query).catch((error) => {
      if (signal.aborted) throw error;
      return [];
    });
  const selector = selectorOf(object);
  const pods = selector === undefined ? [] : await ask(`${root}/pods`, { labelSelector: selector });
  const bad = pods.filter((pod) => !isReady(pod)).slice(0, MOST.pods);
  const lines = bad.map((pod) => `pod ${pod.metadata.name}: ${podWords(pod)}`);
  if (selector !== undefined && pods.length === 0) lines.push("no pod was made");
  lines.push(...eventLines(await ask(`${root}/events`, {}), object, pods));
  for (const pod of bad) {
    const container = containersOf(pod).find(({ ready }) => !ready);
    if (container) lines.push(...await logLines(api, root, pod, container, signal));
  }
  return lines.map(openText);
}

/** True when an image that could not be pulled is among the reasons. */
export function saysNoImage(lines: readonly string[]): boolean {
  return lines.some((line) => /ErrImagePull|ImagePullBackOff|ErrImageNeverPull/.test(line));
}

function selectorOf({ kind, metadata, spec }: KubeObject): string | undefined {
  if (kind === "PersistentVolumeClaim") return undefined;
  if (kind === "Job") return `job-name=${metadata.name}`;
  const labels = spec?.selector?.matchLabels as Record<string, string> | undefined;
  return labels && Object.entries(labels).map(([key, value]) => `${key}=${value}`).join(",");
}

function isReady({ status = {} }: KubeObject): boolean {
  if (status.phase === "Succeeded") return true;
  return status.conditions?.some((one: { type: string; status: string }) =>
    one.type === "Ready" && one.status === "True"
  ) ?? false;
}

function containersOf({ status = {} }: KubeObject): ContainerStatus[] {
  return [...status.initContainerStatuses ?? [], ...status.containerStatuses ?? []];
}

function podWords(pod: KubeObject): string {
  const unscheduled = pod.status?.conditions?.find((one: { type: string; status: string }) =>
    one.type === "PodScheduled" && one.status === "False"
  );
  if (unscheduled) return `not placed on a node: ${unscheduled.message ?? unscheduled.reason}`;
  const words = containersOf(pod).flatMap(({ name, ready, restartCount, state = {} }) => {
    if (ready) return [];
    const { waiting, terminated } = state;
    const again = restartCount > 0 ? `, started ${restartCount + 1} times` : "";
    if (waiting) {
      const why = waiting.message ? `: ${waiting.message}` : "";
      return [`${name} waits (${waiting.reason ?? "no reason"}${why})${again}`];
    }
    if (terminated) return [`${name} ended with code ${terminated.exitCode}${again}`];
    return [`${name} runs and is not ready${again}`];
  });
  return words.length > 0 ? words.join("; ") : pod.status?.phase ?? "no status";
}

function eventLines(
  events: readonly KubeObject[],
  object: KubeObject,
  pods: readonly KubeObject[],
): string[] {
  const names = new Set([object, ...pods].map(({ metadata }) => metadata.name));
  const at = (event: KubeObject) => String(event.lastTimestamp ?? event.eventTime ?? "");
  const about = ({ involvedObject, type, kind }: KubeObject) =>
    (names.has(involvedObject?.name) ||
      involvedObject?.name?.startsWith(`${object.metadata.name}-`)) &&
    (type === "Warning" || kind === "PersistentVolumeClaim" || pods.length === 0);
  const lines = events.filter(about).toSorted((a, b) => at(a) < at(b) ? -1 : 1)
    .map(({ involvedObject, reason, message }) =>
      `event ${involvedObject?.kind} ${involvedObject?.name}: ${reason}: ${message}`
    );
  return [...new Set(lines)].slice(-MOST.events);
}

async function logLines(
  api: KubeApi,
  root: string,
  pod: KubeObject,
  container: ContainerStatus,
  signal: AbortSignal,
): Promise<string[]> {
  const query = {
    container: container.name,
    tailLines: String(MOST.logLines),
    limitBytes: "16384",
    // What a crashed container said is in the log of the try before.
    ...(container.restartCount > 0 && container.state?.waiting ? { previous: "true" } : {}),
  };
  const path = `${root}/pods/${encodeURIComponent(pod.metadata.name)}/log`;
  const text = await api.text({ method: "GET", path, query, signal }).catch((error) => {
    if (signal.aborted) throw error;
    return "";
  });
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  if (lines.length === 0) return [];
  return [
    `log of ${pod.metadata.name}/${container.name}:`,
    ...lines.slice(-MOST.logLines).map((line) => `  ${line}`),
  ];
}

/** A line that fits and holds neither terminal codes nor what looks like a key or token. */
function openText(line: string): string {
  return line
    // deno-lint-ignore no-control-regex
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, " ")
    .replace(
      /\b(bearer|token|password|secret|authorization)(["']?\s*[:=]\s*|\s+)\S+/gi,
      "$1$2(hidden)",
    )
    .replace(/[A-Za-z0-9+/_-]{60,}={0,2}/g, "(hidden)")
    .slice(0, MOST.columns);
}
