/**
 * What pods, events and logs tell of a thing that does not become ready, in words for people. `up` and `deploy` choose the
 * pods and the bounds; how each is told is here, once.
 * It must not change anything in the cluster. Its lines are as the cluster gives them: whoever shows them takes out secrets.
 *
 * @module
 */
import { pause } from "../../vm/base/wait.ts";
import type { ClusterApi } from "./api.ts";

/** A container as a pod's status has it. */
export interface ContainerStatus {
  readonly name: string;
  readonly ready: boolean;
  readonly restartCount: number;
  readonly state?: {
    readonly waiting?: { readonly reason?: string; readonly message?: string };
    readonly terminated?: { readonly reason?: string; readonly exitCode?: number };
  };
}

/** The parts of a pod's status that are told. */
export interface PodStatus {
  readonly phase?: string;
  readonly reason?: string;
  readonly conditions?: readonly {
    readonly type: string;
    readonly status: string;
    readonly reason?: string;
    readonly message?: string;
  }[];
  readonly initContainerStatuses?: readonly ContainerStatus[];
  readonly containerStatuses?: readonly ContainerStatus[];
}

/** An event of the cluster. */
export interface ClusterEvent {
  readonly type?: string;
  readonly reason?: string;
  readonly message?: string;
  readonly count?: number;
  readonly lastTimestamp?: string | null;
  readonly eventTime?: string | null;
  readonly involvedObject?: { readonly kind?: string; readonly name?: string };
}

/** Whether the pod serves, or has done its work. Pure. */
export function isReady({ phase, conditions = [] }: PodStatus): boolean {
  return phase === "Succeeded" ||
    conditions.some(({ type, status }) => type === "Ready" && status === "True");
}

/** Its containers, those that prepare it first. Pure. */
export function containersOf(status: PodStatus): readonly ContainerStatus[] {
  return [...status.initContainerStatuses ?? [], ...status.containerStatuses ?? []];
}

/** What is notable about it: no place on a node, and each container that is not as it should be. Pure. */
export function podWords(status: PodStatus): string[] {
  const unplaced = status.conditions?.find(({ type, status }) =>
    type === "PodScheduled" && status === "False"
  );
  if (unplaced) return [`not placed on a node: ${unplaced.message ?? unplaced.reason ?? "why?"}`];
  return containersOf(status).flatMap(({ name, ready, restartCount, state = {} }) => {
    const again = restartCount > 0 ? `, started ${restartCount + 1} times` : "";
    const { waiting, terminated } = state;
    if (waiting) {
      const why = waiting.message ? `: ${waiting.message}` : "";
      return [`${name} waits (${waiting.reason ?? "no reason"}${why})${again}`];
    }
    if (ready) return again === "" ? [] : [`${name} runs${again}`];
    if (!terminated) return [`${name} runs and is not ready${again}`];
    const why = terminated.reason === "OOMKilled" ? " (out of memory)" : "";
    return [`${name} ended with code ${terminated.exitCode}${why}${again}`];
  });
}

/** Events as lines, the newest last, each once and at most so many. Pure. */
export function eventLines(events: readonly ClusterEvent[], most: number): string[] {
  const at = ({ lastTimestamp, eventTime }: ClusterEvent) => lastTimestamp ?? eventTime ?? "";
  const lines = events.toSorted((a, b) => at(a) < at(b) ? -1 : 1).map((event) => {
    const { involvedObject: about, reason, message, count = 1 } = event;
    const times = count > 1 ? ` (${count} times)` : "";
    return `event ${about?.kind ?? "?"} ${about?.name ?? "?"}: ${reason}: ${message}${times}`;
  });
  return [...new Set(lines)].slice(-most);
}

/** Whose log is wanted, and how many lines of its end. */
export interface LogQuestion {
  readonly namespace: string;
  readonly pod: string;
  readonly container: ContainerStatus;
  readonly lines: number;
}

/** kubelet answers so, as if it were the log, for a container that it has removed. */
const REMOVED = "unable to retrieve container logs for ";
/** A container that ends again and again takes the place of the one that was asked for, until kubelet has told of it. */
const LOG_TRIES = 4;
const LOG_INTERVAL_MS = 700;

/** The end of a container's log, empty lines left out; none where there is none yet. Rejects with the signal's reason. */
export async function lastLog(
  api: Pick<ClusterApi, "text">,
  { namespace, pod, container, lines }: LogQuestion,
  signal: AbortSignal,
): Promise<string[]> {
  // What a crashed container said is in the log of the try before.
  const crashed = container.restartCount > 0 && container.state?.waiting !== undefined;
  const query = `container=${encodeURIComponent(container.name)}&tailLines=${lines}` +
    `&limitBytes=16384${crashed ? "&previous=true" : ""}`;
  const root = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`;
  const path = `${root}/${encodeURIComponent(pod)}/log?${query}`;
  for (let left = LOG_TRIES; left > 0; left--) {
    const text = await api.text({ method: "GET", path, signal }).catch((error) => {
      if (signal.aborted) throw error;
      return "";
    });
    if (!text.startsWith(REMOVED)) {
      return text.split("\n").filter((line) => line.trim() !== "").slice(-lines);
    }
    if (left > 1) await pause(LOG_INTERVAL_MS, signal);
  }
  return [];
}
