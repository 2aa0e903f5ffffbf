import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { type ApiCall, ApiFailure } from "./api.ts";
import { fateOf, recreateLostPods, replaceOldPods } from "./recreate_pods.ts";

const STARTED = Date.parse("2026-11-28T12:00:00.500Z");
const BEFORE = "2026-11-28T11:00:00Z";
const AFTER = "2026-11-28T12:00:00Z";
const KINDS = ["Sandbox.agents.x-k8s.io"];

function pod(name: string, status: unknown, more: Record<string, unknown> = {}) {
  const owner = { apiVersion: "agents.x-k8s.io/v1beta1", kind: "Sandbox", controller: true };
  const metadata = {
    ...{ name, namespace: "openshell", uid: `uid-${name}`, creationTimestamp: BEFORE },
    ...{ ownerReferences: [owner], ...more },
  };
  return { metadata, spec: {}, status } as Parameters<typeof fateOf>[0];
}

type Status = Parameters<typeof fateOf>[0]["status"];

const failed = (at: string) => ({
  phase: "Failed",
  conditions: [{ type: "PodScheduled", lastTransitionTime: BEFORE }, {
    ...{ type: "Ready", lastTransitionTime: at },
  }],
});
const running = (at: string) => ({
  ...{ phase: "Running", containerStatuses: [{ state: { running: { startedAt: at } } }] },
});

Deno.test("fateOf() tells a pod that failed by the boot from one that had failed before", () => {
  assertEquals(fateOf(pod("a", failed(AFTER)), STARTED), "lost");
  assertEquals(fateOf(pod("a", failed(BEFORE)), STARTED), "kept");
  assertEquals(fateOf(pod("a", running(BEFORE)), STARTED), "unseen");
  assertEquals(fateOf(pod("a", running("2026-11-28T12:00:09Z")), STARTED), "kept");
  assertEquals(fateOf(pod("a", { phase: "Succeeded" }), STARTED), "kept");
  // Kubelet has reported terminated containers, but the phase is not Failed yet.
  const between = { phase: "Running", containerStatuses: [{ state: { terminated: {} } }] };
  const { metadata } = pod("a", between);
  const fate = (restartPolicy: string) =>
    fateOf({ metadata, status: between as Status, spec: { restartPolicy } }, STARTED);
  assertEquals(["Never", "Always", "OnFailure"].map(fate), ["unseen", "kept", "kept"]);
  const leaving = pod("a", failed(AFTER), { deletionTimestamp: AFTER });
  assertEquals(fateOf(leaving, STARTED), "kept");
});

/** An API with lists of pods, one after the other; the last one stays. */
function api(lists: readonly (readonly unknown[])[]) {
  const deleted: unknown[] = [];
  let asked = 0;
  const call = ({ method, path, body }: ApiCall) => {
    if (method === "DELETE") {
      deleted.push([path, body]);
      return Promise.resolve(null as never);
    }
    const items = lists[Math.min(asked++, lists.length - 1)];
    return Promise.resolve({ items } as never);
  };
  return { call, deleted, asked: () => asked };
}

const payload = {
  namespace: "openshell",
  recreatePodsOf: KINDS,
  secrets: [{ name: "client" }, { name: "elsewhere", namespace: "other" }],
} as unknown as Parameters<typeof replaceOldPods>[1]["payload"];

const options = { payload, startedAt: STARTED };

Deno.test("recreateLostPods() waits for kubelet and deletes just the pods that the boot ended", async () => {
  const other = pod("job", failed(AFTER), { ownerReferences: [] });
  const young = pod("young", failed(AFTER), { creationTimestamp: "2026-11-28T12:00:30Z" });
  const old = pod("old", failed(BEFORE));
  const given = api([
    [pod("one", running(BEFORE)), old, other, young],
    [pod("one", failed(AFTER)), old, other, young],
  ]);
  const { signal } = new AbortController();
  assertEquals(await recreateLostPods(given, { ...options, signal }), ["openshell/one"]);
  assertEquals(given.asked(), 2);
  assertEquals(given.deleted, [
    ["/api/v1/namespaces/openshell/pods/one", { preconditions: { uid: "uid-one" } }],
  ]);
});

Deno.test("recreateLostPods() goes by a pod that is gone meanwhile, and ends with the signal", async () => {
  const { signal } = new AbortController();
  const given = api([[pod("one", failed(AFTER))]]);
  const gone = (call: ApiCall) =>
    call.method === "DELETE"
      ? Promise.reject(new ApiFailure(409, "Conflict", "the UID in the precondition differs"))
      : given.call(call);
  assertEquals(await recreateLostPods({ call: gone }, { ...options, signal }), ["openshell/one"]);
  const waiting = api([[pod("one", running(BEFORE))]]);
  const ended = AbortSignal.timeout(50);
  const error = await assertRejects(() => recreateLostPods(waiting, { ...options, signal: ended }));
  assertStringIncludes(String(error), "signal");
});

Deno.test("replaceOldPods() ends the pods that hold a clone's Secrets of before, and no others", async () => {
  const mounting = (secretName: string) => ({ volumes: [{ secret: { secretName } }] });
  const { signal } = new AbortController();
  const given = api([[
    { ...pod("one", running(BEFORE)), spec: mounting("client") },
    { ...pod("two", running(BEFORE)), spec: mounting("elsewhere") },
    { ...pod("job", running(BEFORE), { ownerReferences: [] }), spec: mounting("client") },
    {
      ...pod("young", running(AFTER), { creationTimestamp: "2026-11-28T12:00:30Z" }),
      spec: mounting("client"),
    },
  ]]);
  assertEquals(await replaceOldPods(given, { ...options, signal }), ["openshell/one"]);
  assertEquals(given.deleted, [
    ["/api/v1/namespaces/openshell/pods/one", { preconditions: { uid: "uid-one" } }],
  ]);
});
