import { assertEquals } from "@std/assert";
import { isCurrent, type Workload } from "./payload_change.ts";

const metadata = { name: "a", generation: 3 };
const deployment = (status: Workload["status"], replicas = 2): Workload => ({
  ...{ metadata, spec: { replicas }, status },
});
const done = { observedGeneration: 3, replicas: 2, updatedReplicas: 2, availableReplicas: 2 };

Deno.test("isCurrent() is true only when all pods are of the newest form and available", () => {
  assertEquals(isCurrent(deployment(done)), true);
  assertEquals(isCurrent(deployment(undefined)), false);
  assertEquals(isCurrent(deployment({ ...done, observedGeneration: 2 })), false);
  assertEquals(isCurrent(deployment({ ...done, updatedReplicas: 1 })), false);
  assertEquals(isCurrent(deployment({ ...done, availableReplicas: 1 })), false);
  // One of before is still there.
  assertEquals(isCurrent(deployment({ ...done, replicas: 3 })), false);
  assertEquals(isCurrent(deployment({ observedGeneration: 3 }, 0)), true);
});

Deno.test("isCurrent() counts the nodes of a DaemonSet", () => {
  const daemons = (updatedNumberScheduled: number): Workload => ({
    metadata,
    status: {
      ...{ observedGeneration: 3, desiredNumberScheduled: 1, numberAvailable: 1 },
      updatedNumberScheduled,
    },
  });
  assertEquals([isCurrent(daemons(1)), isCurrent(daemons(0))], [true, false]);
});
