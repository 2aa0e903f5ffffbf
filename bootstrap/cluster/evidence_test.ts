import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { errorText, GatewayError } from "../../vm/base/error.ts";
import { loadPayload } from "../payload/choose.ts";
import type { ApiCall } from "./api.ts";
import { gatherEvidence, keepAdvice, notReady } from "./evidence.ts";

const demo = await loadPayload("demo");
const { signal } = new AbortController();
const SECRET = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgabcdefghijk";

/** Answers as an API does, by what a path holds; everything else is an empty list. */
function api(answers: Readonly<Record<string, unknown>>) {
  const find = (path: string) => Object.entries(answers).find(([part]) => path.includes(part))?.[1];
  return {
    call: ({ path }: ApiCall) => Promise.resolve((find(path) ?? { items: [] }) as never),
    text: ({ path }: ApiCall) => {
      const found = find(path);
      return Promise.resolve(typeof found === "string" ? found : "");
    },
  };
}

const waiting = {
  metadata: { name: "web-1" },
  status: {
    phase: "Pending",
    conditions: [{ type: "Ready", status: "False" }],
    containerStatuses: [{
      ...{ name: "web", ready: false, restartCount: 0 },
      state: { waiting: { reason: "ErrImageNeverPull", message: "it is not here" } },
    }],
  },
};
const crashing = {
  metadata: { name: "db-1" },
  status: {
    phase: "Running",
    conditions: [{ type: "Ready", status: "False" }],
    containerStatuses: [{
      ...{ name: "db", ready: false, restartCount: 3 },
      state: { waiting: { reason: "CrashLoopBackOff" } },
    }],
  },
};
const fine = {
  metadata: { name: "ok-1" },
  status: { phase: "Running", conditions: [{ type: "Ready", status: "True" }] },
};

Deno.test("gatherEvidence() shows pods that are not ready, warnings and the ends of logs", async () => {
  const { lines } = await gatherEvidence(
    api({
      "/pods/db-1/log?container=db&tailLines=10&limitBytes=16384&previous=true": "one\n\ntwo\n",
      "/events": {
        items: [
          {
            ...{ reason: "BackOff", message: "again", count: 4, lastTimestamp: "2026-02" },
            involvedObject: { kind: "Pod", name: "db-1" },
          },
          {
            ...{ reason: "Failed", message: "not here", lastTimestamp: "2026-01" },
            involvedObject: { kind: "Pod", name: "web-1" },
          },
        ],
      },
      "/pods": { items: [waiting, fine, crashing] },
    }),
    demo,
    signal,
  );
  assertEquals(lines, [
    "pod openshell/web-1: Pending, not ready; web waits (ErrImageNeverPull: it is not here)",
    "pod openshell/db-1: Running, not ready; db waits (CrashLoopBackOff), started 4 times",
    "event Pod web-1: Failed: not here",
    "event Pod db-1: BackOff: again (4 times)",
    ...["log of db-1/db:", "  one", "  two"],
  ]);
});

Deno.test("gatherEvidence() says when there is no pod", async () => {
  const { lines } = await gatherEvidence(api({}), demo, signal);
  assertEquals(lines, ["no pod is in the namespace openshell"]);
});

Deno.test("gatherEvidence() reads a chart's failure off its HelmChart when the job is gone", async () => {
  const chart = {
    metadata: {
      name: "web",
      annotations: { "helm.gateway.local/error": "Error: web.yaml:3: no colour\nsecond line" },
    },
  };
  const payload = {
    ...demo,
    charts: [{ name: "web", values: {}, from: { kind: "folder", path: "/x" } }],
  } as const;
  const { chartFault, lines } = await gatherEvidence(
    api({ "/helmcharts": { items: [chart] } }),
    payload,
    signal,
  );
  assertEquals(
    chartFault,
    'the chart "web" could not be installed: Error: web.yaml:3: no colour second line',
  );
  assertEquals(lines.slice(0, 2), [
    "chart web: Error: web.yaml:3: no colour",
    "chart web: second line",
  ]);
});

Deno.test("gatherEvidence() tells why a chart was not installed in Helm's words", async () => {
  const chart = "helmcharts.helm.cattle.io/chart";
  const job = {
    metadata: { name: "helm-install-web", labels: { [chart]: "web" } },
    status: { failed: 2 },
  };
  const helmPod = {
    metadata: { name: "helm-install-web-x" },
    status: { containerStatuses: [{ name: "helm", ready: false, restartCount: 0 }] },
  };
  const payload = {
    ...demo,
    charts: [{ name: "web", values: {}, from: { kind: "folder", path: "/x" } }],
  } as const;
  const { chartFault, lines } = await gatherEvidence(
    api({
      "/jobs": { items: [job] },
      "/pods/helm-install-web-x/log": "installing\nError: parse error at (web.yaml:3)\nbye\n",
      "job-name%3Dhelm-install-web": { items: [helmPod] },
    }),
    payload,
    signal,
  );
  assertEquals(
    chartFault,
    'the chart "web" could not be installed: Error: parse error at (web.yaml:3)',
  );
  assertEquals(lines.slice(0, 2), ["chart web: not installed, 2 tries failed", "  installing"]);
});

const silence = new GatewayError({
  ...{
    code: "service-not-ready",
    what: "Timed out after 3.5 s waiting for an open port",
    why: "closed",
    fix: "look",
  },
});

Deno.test("notReady() is one bounded error without secrets", () => {
  const told = { payload: demo, keep: false, instance: "dev" };
  const lines = ["a", SECRET, ...Array.from({ length: 500 }, () => "long ".repeat(200))];
  const error = notReady(silence, { ...told, lines, deployLog: ["10-a.yaml: refused"] });
  assertEquals([error.code, error.what, error.why, error.exitCode], [
    ...["service-not-ready", 'Timed out after 12 min 0 s waiting for the payload "demo" to answer'],
    ...["the last wait was for an open port: closed", 1],
  ]);
  assertStringIncludes(error.fix, "`gateway up --name dev --keep`");
  assertEquals(error.details.slice(0, 3), ["manifests: 10-a.yaml: refused", "a", "(removed)"]);
  const text = errorText(error);
  assert(text.split("\n").length <= 63);
  assert(text.split("\n").every((line) => line.length <= 300));
});

Deno.test("notReady() keeps the words of a wait that ended before its bound", () => {
  const final = new GatewayError({
    ...{ code: "service-not-ready", what: "Cannot ask for the health of the service" },
    ...{ why: "status 12", fix: "correct it" },
  });
  const error = notReady(final, { payload: demo, keep: false, instance: "default", lines: [] });
  assertEquals([error.what, error.why], [
    'Cannot ask for the health of the service of the payload "demo"',
    "status 12",
  ]);
  assertEquals(error.fix, `correct it; ${keepAdvice("default")}`);
});

Deno.test("notReady() says how to look into a VM that is kept", () => {
  const error = notReady(silence, { payload: demo, keep: true, instance: "default", lines: [] });
  assertEquals(
    error.fix,
    "look inside with `gateway kubectl -- get pods -A`, then stop it: gateway down",
  );
});
