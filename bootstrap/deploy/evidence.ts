/**
 * What is to be seen of objects that did not become ready: their pods, events and the ends of logs, bounded, on lines
 * for people.
 * It must not change anything, and a question that the cluster refuses is no error.
 *
 * @module
 */
import type { ClusterApi, KubeObject } from "../cluster/api.ts";
import {
  type ClusterEvent,
  containersOf,
  eventLines,
  isReady,
  lastLog,
  podWords,
} from "../cluster/pod_story.ts";
import { openText } from "../view/redact.ts";

const MOST = { pods: 4, events: 6, logLines: 12, columns: 240 };

/** Lines about one object. */
export async function gatherEvidence(
  api: ClusterApi,
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
  const bad = pods.map(({ metadata, status = {} }) => ({ pod: metadata.name, status }))
    .filter(({ status }) => !isReady(status)).slice(0, MOST.pods);
  const lines = bad.map(({ pod, status }) => {
    const words = podWords(status);
    return `pod ${pod}: ${words.length > 0 ? words.join("; ") : status.phase ?? "no status"}`;
  });
  if (selector !== undefined && pods.length === 0) lines.push("no pod was made");
  lines.push(
    ...eventLines(eventsAbout(await ask(`${root}/events`, {}), object, pods), MOST.events),
  );
  for (const { pod, status } of bad) {
    const container = containersOf(status).find(({ ready }) => !ready);
    if (!container) continue;
    const log = await lastLog(api, { namespace, pod, container, lines: MOST.logLines }, signal);
    if (log.length === 0) continue;
    lines.push(`log of ${pod}/${container.name}:`, ...log.map((line) => `  ${line}`));
  }
  return lines.map((line) => openText(line, MOST.columns));
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

/** Warnings about it or its pods, and all about what has no pods. */
function eventsAbout(
  events: readonly KubeObject[],
  object: KubeObject,
  pods: readonly KubeObject[],
): readonly ClusterEvent[] {
  const names = new Set([object, ...pods].map(({ metadata }) => metadata.name));
  return (events as readonly (KubeObject & ClusterEvent)[]).filter((
    { involvedObject, type, kind },
  ) =>
    (names.has(involvedObject?.name ?? "") ||
      involvedObject?.name?.startsWith(`${object.metadata.name}-`)) &&
    (type === "Warning" || kind === "PersistentVolumeClaim" || pods.length === 0)
  );
}
