/**
 * How far an object has come, read off its status. Pure.
 * It must not ask the cluster, nor wait.
 *
 * @module
 */
import type { KubeObject } from "./api.ts";

/** What an object's status says. */
export interface Progress {
  readonly state: "ready" | "waiting" | "failed";
  /** For people: `1 of 2 pods ready`. */
  readonly words: string;
}

/** Kinds that are waited for. */
export const WAITED_KINDS: readonly string[] = [
  ...["Deployment", "StatefulSet", "DaemonSet", "Job", "PersistentVolumeClaim", "HelmChart"],
];

const ready = (words: string): Progress => ({ state: "ready", words });
const waiting = (words: string): Progress => ({ state: "waiting", words });
const failed = (words: string): Progress => ({ state: "failed", words });

/** Of one object; of kinds that have no progress "ready". */
export function progressOf(object: KubeObject): Progress {
  const { kind, metadata, status = {} } = object;
  const generation = metadata.generation ?? 0;
  const controlled = ["Deployment", "StatefulSet", "DaemonSet"].includes(kind);
  if (controlled && (status.observedGeneration ?? 0) < generation) {
    return waiting("not yet seen by its controller");
  }
  switch (kind) {
    case "Deployment":
      return deploymentProgress(object);
    case "StatefulSet":
      return statefulSetProgress(object);
    case "DaemonSet": {
      const wanted = status.desiredNumberScheduled ?? 0;
      if (object.spec?.updateStrategy?.type === "OnDelete") {
        return counted(status.numberAvailable ?? 0, wanted);
      }
      const updated = status.updatedNumberScheduled ?? 0;
      return counted(Math.min(updated, status.numberAvailable ?? 0), wanted);
    }
    case "Job":
      return jobProgress(object);
    case "PersistentVolumeClaim":
      return claimProgress(object);
    default:
      return ready("applied");
  }
}

function counted(have: number, wanted: number): Progress {
  const words = `${have} of ${wanted} pods ready`;
  return have >= wanted ? ready(words) : waiting(words);
}

// deno-lint-ignore no-explicit-any
const condition = (object: KubeObject, type: string): any =>
  object.status?.conditions?.find((one: { type: string }) => one.type === type);

function deploymentProgress(object: KubeObject): Progress {
  const { spec, status = {} } = object;
  const wanted = spec?.replicas ?? 1;
  const progressing = condition(object, "Progressing");
  if (progressing?.reason === "ProgressDeadlineExceeded") {
    return failed(progressing.message ?? "it made no progress within its deadline");
  }
  const updated = status.updatedReplicas ?? 0;
  if (updated < wanted) return waiting(`${updated} of ${wanted} pods made`);
  if ((status.replicas ?? 0) > updated) {
    return waiting(`${status.replicas - updated} old pods still there`);
  }
  return counted(status.availableReplicas ?? 0, wanted);
}

function statefulSetProgress({ spec, status = {} }: KubeObject): Progress {
  const wanted = spec?.replicas ?? 1;
  const have = status.readyReplicas ?? 0;
  if (spec?.updateStrategy?.type === "OnDelete") return counted(have, wanted);
  const partition = spec?.updateStrategy?.rollingUpdate?.partition ?? 0;
  const updated = status.updatedReplicas ?? 0;
  const toUpdate = Math.max(0, wanted - partition);
  if (updated < toUpdate) return waiting(`${updated} of ${toUpdate} pods up to date`);
  return counted(have, wanted);
}

function jobProgress(object: KubeObject): Progress {
  if (condition(object, "Complete")?.status === "True") return ready("complete");
  const bad = condition(object, "Failed");
  if (bad?.status === "True") return failed(bad.message ?? bad.reason ?? "it failed");
  if (object.spec?.suspend) return ready("suspended");
  const { active = 0, succeeded = 0, failed: lost = 0 } = object.status ?? {};
  return waiting(`${active} running, ${succeeded} done, ${lost} failed`);
}

function claimProgress({ status = {} }: KubeObject): Progress {
  if (status.phase === "Bound") return ready("bound");
  if (status.phase === "Lost") return failed("the volume it was bound to is gone");
  return waiting("no volume yet");
}
