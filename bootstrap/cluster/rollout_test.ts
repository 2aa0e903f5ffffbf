import { assertEquals, assertRejects } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { loadPayload } from "../payload/choose.ts";
import { chartRevision } from "../payload/manifests.ts";
import type { ApiCall } from "./api.ts";
import { waitRolledOut } from "./rollout.ts";

const demo = await loadPayload("demo");
const { signal } = new AbortController();

/** An API whose answers are the lists of what a path holds; the record's digests come one after the other. */
function api(digests: readonly string[], lists: Readonly<Record<string, readonly unknown[]>> = {}) {
  let asked = 0;
  const call = ({ path }: ApiCall) => {
    if (path.includes("/configmaps")) {
      const digest = digests[Math.min(asked++, digests.length - 1)];
      return Promise.resolve({ items: [{ data: { digest } }] } as never);
    }
    const [, items = []] = Object.entries(lists).find(([part]) => path.includes(part)) ?? [];
    return Promise.resolve({ items } as never);
  };
  return { call, asked: () => asked };
}

const prepared = (charts: readonly string[] = []) => ({
  payload: {
    ...demo,
    charts: charts.map((name) => ({
      ...{ name, values: {} },
      from: { kind: "folder", path: "/x" } as const,
    })),
  },
  charts: charts.map((name) => new TextEncoder().encode(name)),
  ...{ digest: "new", images: [], later: [] },
});

const metadata = { name: "a", generation: 3 };
const deployment = (status: unknown) => ({ metadata, spec: { replicas: 2 }, status });
const done = { observedGeneration: 3, replicas: 2, updatedReplicas: 2, availableReplicas: 2 };

Deno.test("waitRolledOut() waits for the content and for every workload", async () => {
  const given = api(["old", "old", "new"], { deployments: [deployment(done)] });
  await waitRolledOut(given, prepared(), 5000, signal);
  assertEquals(given.asked(), 3);
  const late = api(["new"], { statefulsets: [deployment({ ...done, updatedReplicas: 1 })] });
  const error = await assertRejects(
    () => waitRolledOut(late, prepared(), 600, signal),
    GatewayError,
  );
  assertEquals([error.code, error.why], ["service-not-ready", "openshell/a is not rolled out yet"]);
});

Deno.test("waitRolledOut() waits for the job that installed this content, however slow the controller is", async () => {
  const labels = { "helmcharts.helm.cattle.io/chart": "web" };
  const chart = { metadata: { name: "web" } };
  const now = prepared(["web"]);
  const job = (content: string, succeeded = 1) => ({
    metadata: { name: "helm-install-web", labels },
    spec: { template: { spec: { containers: [{ env: [{ name: "CHART", value: content }] }] } } },
    status: { succeeded },
  });
  const revision = chartRevision(now.payload, now.payload.charts[0]!, now.charts[0]!);
  const good = job(revision);
  const why = async (lists: Readonly<Record<string, readonly unknown[]>>) =>
    (await assertRejects(
      () => waitRolledOut(api(["new"], lists), now, 300, signal),
      GatewayError,
    )).why;
  const missing = 'the chart "web" is not installed yet';
  assertEquals(await why({ "/helmcharts": [chart] }), missing);
  const failed = {
    metadata: { ...chart.metadata, annotations: { "helm.gateway.local/error": "x" } },
  };
  assertEquals(await why({ "/helmcharts": [failed], "/jobs": [good] }), missing);
  const leaving = { ...good, metadata: { ...good.metadata, deletionTimestamp: "2026-01-01" } };
  assertEquals(await why({ "/helmcharts": [chart], "/jobs": [leaving] }), missing);
  // The one that installed what was there before the change, which has succeeded, too.
  assertEquals(await why({ "/helmcharts": [chart], "/jobs": [job("web@sha256:0")] }), missing);
  assertEquals(await why({ "/helmcharts": [chart], "/jobs": [job(revision, 0)] }), missing);
  let looks = 0;
  const slow = api(["new"], { "/helmcharts": [chart] });
  const call = (asked: ApiCall) =>
    asked.path.includes("/jobs")
      ? Promise.resolve({ items: [++looks < 6 ? job("web@sha256:0") : good] } as never)
      : slow.call(asked);
  await waitRolledOut({ call }, now, 20_000, signal);
  assertEquals(looks, 6);
});
