import { assertEquals } from "@std/assert";
import type { KubeObject } from "./api.ts";
import { progressOf } from "./progress.ts";

Deno.test("progressOf() reads each kind's status", () => {
  const of = (kind: string, spec: unknown, status: unknown, generation = 2) => {
    const metadata = { name: "x", generation };
    const { state, words } = progressOf({ apiVersion: "v1", kind, metadata, spec, status });
    return `${state}: ${words}`;
  };
  const seen = { observedGeneration: 2 };
  assertEquals([
    of("Deployment", { replicas: 2 }, { observedGeneration: 1, availableReplicas: 2 }),
    of("Deployment", { replicas: 2 }, { ...seen, updatedReplicas: 1 }),
    of("Deployment", { replicas: 2 }, { ...seen, updatedReplicas: 2, replicas: 3 }),
    of("Deployment", { replicas: 2 }, { ...seen, updatedReplicas: 2, availableReplicas: 2 }),
    of("Deployment", {}, {
      ...seen,
      conditions: [{ type: "Progressing", reason: "ProgressDeadlineExceeded", message: "late" }],
    }),
    of("StatefulSet", { replicas: 2 }, { ...seen, updatedReplicas: 1, readyReplicas: 2 }),
    of("StatefulSet", { replicas: 2 }, { ...seen, updatedReplicas: 2, readyReplicas: 2 }),
    of("DaemonSet", {}, { ...seen, desiredNumberScheduled: 3, updatedNumberScheduled: 3 }),
    of("DaemonSet", {}, {
      ...seen,
      ...{ desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberAvailable: 3 },
    }),
    of("Job", {}, { active: 1 }),
    of("Job", {}, { conditions: [{ type: "Complete", status: "True" }] }),
    of("Job", {}, { conditions: [{ type: "Failed", status: "True", message: "too often" }] }),
    of("PersistentVolumeClaim", {}, { phase: "Pending" }),
    of("PersistentVolumeClaim", {}, { phase: "Bound" }),
    of("PersistentVolumeClaim", {}, { phase: "Lost" }),
    of("ConfigMap", undefined, undefined),
  ], [
    "waiting: not yet seen by its controller",
    "waiting: 1 of 2 pods made",
    "waiting: 1 old pods still there",
    "ready: 2 of 2 pods ready",
    "failed: late",
    "waiting: 1 of 2 pods up to date",
    "ready: 2 of 2 pods ready",
    "waiting: 0 of 3 pods ready",
    "ready: 3 of 3 pods ready",
    "waiting: 1 running, 0 done, 0 failed",
    "ready: complete",
    "failed: too often",
    "waiting: no volume yet",
    "ready: bound",
    "failed: the volume it was bound to is gone",
    "ready: applied",
  ]);
});

const metadata = { name: "a", generation: 3 };
const deployment = (status: unknown, replicas = 2): KubeObject => ({
  ...{ apiVersion: "apps/v1", kind: "Deployment", metadata },
  ...{ spec: { replicas }, status },
});
const done = { observedGeneration: 3, replicas: 2, updatedReplicas: 2, availableReplicas: 2 };
const isCurrent = (object: KubeObject) => progressOf(object).state === "ready";

Deno.test("progressOf() is ready only when all pods are of the newest form and available", () => {
  assertEquals(isCurrent(deployment(done)), true);
  assertEquals(isCurrent(deployment(undefined)), false);
  assertEquals(isCurrent(deployment({ ...done, observedGeneration: 2 })), false);
  assertEquals(isCurrent(deployment({ ...done, updatedReplicas: 1 })), false);
  assertEquals(isCurrent(deployment({ ...done, availableReplicas: 1 })), false);
  // One of before is still there.
  assertEquals(isCurrent(deployment({ ...done, replicas: 3 })), false);
  assertEquals(isCurrent(deployment({ observedGeneration: 3 }, 0)), true);
});

Deno.test("progressOf() counts the nodes of a DaemonSet", () => {
  const daemons = (updatedNumberScheduled: number) => ({
    ...{ apiVersion: "apps/v1", kind: "DaemonSet", metadata },
    status: {
      ...{ observedGeneration: 3, desiredNumberScheduled: 1, numberAvailable: 1 },
      updatedNumberScheduled,
    },
  });
  assertEquals([isCurrent(daemons(1)), isCurrent(daemons(0))], [true, false]);
});
