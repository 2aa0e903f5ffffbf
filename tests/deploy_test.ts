/**
 * What a deployment does, against a small API server on loopback. The command line is in tests/deploy_command_test.ts, the
 * same against a real cluster in tests/vm/deploy_test.ts.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { X509Certificate } from "node:crypto";
import { deploy, type DeployRequest } from "../bootstrap/deploy/deploy.ts";
import { removeDeployment } from "../bootstrap/deploy/remove.ts";
import { diffText } from "../bootstrap/deploy/text.ts";
import { toJsonText } from "../bootstrap/yaml/kube_yaml.ts";
import { silentSpan } from "../vm/base/event.ts";
import { assertGatewayError } from "./fakes/gateway_error.ts";
import {
  becomeReady,
  type FakeKube,
  READY_NODE,
  startFakeKube,
  writeFakeConfig,
} from "./fakes/kube_api.ts";
import { Sandbox } from "./sandbox.ts";

/** Calls the function itself, since payloads of any content are tried. */
function request(file: string, documents: readonly object[], more: Partial<DeployRequest> = {}) {
  return {
    context: "fake",
    kubeconfig: file,
    payload: {
      name: "try",
      namespace: "try",
      nodePort: 30999,
      wantsJwt: false,
      documents: () => Promise.resolve(documents.map((one) => toJsonText(one))),
    },
    ...{ dryRun: false, forceConflicts: false, wait: true, timeoutMs: 3000 },
    ...more,
  };
}

const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: "try" } };
const map = (name: string, value: string) => ({
  ...{ apiVersion: "v1", kind: "ConfigMap", metadata: { name }, data: { value } },
});
const workload = (image: string) => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "app" },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: "app" } },
    template: {
      metadata: { labels: { app: "app" } },
      spec: { containers: [{ name: "c", image }] },
    },
  },
});

/** A fake cluster, and folders of this process's own for what a deployment keeps. */
async function withFunctions(
  fn: (
    kube: FakeKube,
    file: string,
    told: { span: ReturnType<typeof silentSpan>; signal: AbortSignal },
  ) => Promise<void>,
): Promise<void> {
  await using kube = startFakeKube();
  await using sandbox = await Sandbox.make();
  kube.objects.set("/api/v1/nodes/n1", structuredClone(READY_NODE));
  kube.onApply = becomeReady;
  const names = ["XDG_DATA_HOME", "XDG_CONFIG_HOME"] as const;
  const before = names.map((name) => Deno.env.get(name));
  for (const name of names) Deno.env.set(name, sandbox.env[name]);
  try {
    const file = await writeFakeConfig(sandbox.top, kube.port);
    await fn(kube, file, { span: silentSpan(), signal: new AbortController().signal });
  } finally {
    names.forEach((name, at) =>
      before[at] === undefined ? Deno.env.delete(name) : Deno.env.set(name, before[at])
    );
  }
}

Deno.test("deploy() removes what left the payload, and only what it lists and applied", () =>
  withFunctions(async (kube, file, told) => {
    const at = (name: string) => `/api/v1/namespaces/try/configmaps/${name}`;
    await deploy(request(file, [namespace, map("a", "1"), map("b", "1"), map("c", "1")]), told);
    kube.objects.set(at("stranger"), { ...map("stranger", "1"), metadata: { name: "stranger" } });
    // "c" was removed and made anew by somebody else.
    kube.objects.set(at("c"), { ...map("c", "theirs"), metadata: { name: "c", uid: "u" } });
    const { report } = await deploy(request(file, [namespace, map("a", "2")]), told);
    assertEquals(report.removed.map(({ name }) => name), ["b"]);
    assertEquals(
      [at("a"), at("b"), at("c"), at("stranger")].map((path) => kube.objects.has(path)),
      [
        ...[true, false, true, true],
      ],
    );
    assertEquals(kube.objects.get(at("a")).data.value, "2");
    assert(told.span.events.some(({ message }) => message?.includes("try/c stays")));

    const removed = await removeDeployment(request(file, []), told);
    assertEquals([removed.removed.map(({ name }) => name), removed.namespaceRemoved], [
      ["a"],
      false,
    ]);
    assert(kube.objects.has(at("stranger")) && kube.objects.has("/api/v1/namespaces/try"));
  }));

Deno.test("deploy() applies a change in the last digit of a 64-bit integer", () =>
  withFunctions(async (kube, file, told) => {
    const counter = (count: bigint) => ({ ...map("counter", "1"), count });
    const path = "/api/v1/namespaces/try/configmaps/counter";
    await deploy(request(file, [namespace, counter(9007199254740992n)]), told);
    assertEquals(kube.objects.get(path).count, 9007199254740992n);
    await deploy(request(file, [namespace, counter(9007199254740993n)]), told);
    assertEquals(kube.objects.get(path).count, 9007199254740993n);
  }));

Deno.test("deploy() names who owns a field, changes nothing, and takes it over when told", () =>
  withFunctions(async (kube, file, told) => {
    await deploy(request(file, [namespace, map("a", "1"), map("b", "1")]), told);
    const path = "/api/v1/namespaces/try/configmaps/b";
    kube.objects.get(path).metadata.managedFields = [
      { manager: "kubectl-edit", operation: "Update", paths: [".data.value"] },
    ];
    kube.changes.length = 0;
    const changed = [namespace, map("a", "2"), map("b", "2")];
    await assertGatewayError(() => deploy(request(file, changed), told), {
      code: "deploy-failed",
      what: 'Cannot apply the ConfigMap "b" in the namespace "try"',
      why: 'another manager owns fields of it: .data.value belongs to "kubectl-edit"',
      fix: "add --force-conflicts to take them over, or leave those fields out of the payload",
    });
    assertEquals(kube.changes, []);
    await deploy(request(file, changed, { forceConflicts: true }), told);
    assertEquals(kube.objects.get(path).data.value, "2");
  }));

Deno.test("deploy() names every right that is missing before it changes anything", () =>
  withFunctions(async (kube, file, told) => {
    kube.allowed = new Set([
      ...["get", "create", "patch"].map((verb) => `${verb} configmaps`),
      ...["get deployments", "get namespaces", "create namespaces", "patch namespaces"],
    ]);
    const documents = [namespace, map("a", "1"), workload("gateway.local/demo:1")];
    await assertGatewayError(() => deploy(request(file, documents), told), {
      code: "permission",
      what: 'Cannot deploy with the context "fake"',
      why: 'its user lacks "create" on "deployments.apps" in the namespace "try", ' +
        '"patch" on "deployments.apps" in the namespace "try"; nothing was changed',
      fix: "ask who runs the cluster for a Role with them; " +
        "`kubectl --context fake auth can-i create deployments.apps -n try` tells when it is there",
    });
    assertEquals(kube.changes, []);
  }));

Deno.test("deploy() leaves a namespace that is there and that the user may not change", () =>
  withFunctions(async (kube, file, told) => {
    kube.allowed = new Set(["get", "create", "patch"].map((verb) => `${verb} configmaps`));
    kube.objects.set("/api/v1/namespaces/try", { ...namespace });
    const { report } = await deploy(request(file, [namespace, map("a", "1")]), told);
    assertEquals(report.objects.map(({ kind }) => kind), ["ConfigMap"]);
    kube.objects.clear();
    kube.allowed.add("get namespaces");
    const error = await deploy(request(file, [namespace, map("a", "1")]), told).catch((e) => e);
    assertStringIncludes(error.why, 'its user lacks "create" on "namespaces" in the cluster');
  }));

Deno.test("deploy() ends a wait by its bound, with pods, events and the end of the log", () =>
  withFunctions(async (kube, file, told) => {
    kube.onApply = (object) => {
      if (object.kind === "Deployment") {
        object.status = { observedGeneration: 1, updatedReplicas: 1 };
      }
    };
    kube.objects.set("/api/v1/namespaces/try/pods/app-1", {
      metadata: { name: "app-1", labels: { app: "app" } },
      status: {
        containerStatuses: [{
          ...{ name: "c", ready: false, restartCount: 3 },
          state: { waiting: { reason: "CrashLoopBackOff", message: "back-off" } },
        }],
      },
    });
    kube.objects.set("/api/v1/namespaces/try/events/e", {
      ...{ metadata: { name: "e" }, type: "Warning", reason: "BackOff", message: "it fell over" },
      involvedObject: { kind: "Pod", name: "app-1" },
    });
    const error = await deploy(request(file, [namespace, workload("x/y:1")]), told).catch((e) => e);
    assertEquals([error.code, error.what, error.why], [
      "deploy-failed",
      "Timed out after 3 s waiting for the payload to be ready",
      'Deployment "app" in the namespace "try": 0 of 1 pods ready',
    ]);
    const lines = told.span.events.filter(({ kind }) => kind === "warn").map((e) => e.message);
    assertEquals(lines, [
      "Deployment try/app: 0 of 1 pods ready",
      "  pod app-1: c waits (CrashLoopBackOff: back-off), started 4 times",
      "  event Pod app-1: BackOff: it fell over",
      "  log of app-1/c:",
      "    first line",
      "    panic: no database",
    ]);
  }));

Deno.test("deploy() refuses images and charts that the cluster cannot have", () =>
  withFunctions(async (kube, file, told) => {
    const missing = [namespace, workload("gateway.local/other:1")];
    const error = await deploy(request(file, missing), told).catch((e) => e);
    assertEquals([error.code, error.what], [
      "not-supported",
      'Cannot run the images "gateway.local/other:1" in this cluster',
    ]);
    const imagePrefix = "registry.example:5000/gw/";
    const { planned } = await deploy(request(file, missing, { imagePrefix }), told);
    const { containers } = planned.at(-1)!.object.spec.template.spec;
    assertEquals(containers[0].image, "registry.example:5000/gw/other:1");
    const chart = { apiVersion: "helm.cattle.io/v1", kind: "HelmChart", metadata: { name: "h" } };
    const changes = kube.changes.length;
    const refused = await deploy(request(file, [namespace, chart]), told).catch((e) => e);
    assertStringIncludes(refused.why, "this cluster has no Helm controller");
    assertEquals(kube.changes.length, changes);
  }));

Deno.test("deploy() waits for a load balancer's address and puts it into the certificate", () =>
  withFunctions(async (kube, file, told) => {
    kube.onApply = (object) => {
      if (object.kind !== "Service") return;
      object.status = { loadBalancer: { ingress: [{ hostname: "lb.example" }] } };
    };
    const service = {
      ...{ apiVersion: "v1", kind: "Service", metadata: { name: "s" } },
      spec: { type: "LoadBalancer", ports: [{ port: 8443 }] },
    };
    let names = "";
    const asked = request(file, []);
    const { report } = await deploy({
      ...asked,
      payload: {
        ...asked.payload,
        documents: ({ certificates: { server } }) => {
          names = new X509Certificate(server.certPem).subjectAltName ?? "";
          return Promise.resolve([namespace, service].map((one) => JSON.stringify(one)));
        },
      },
    }, told);
    assertEquals(report.endpoint, "https://lb.example:8443");
    assertStringIncludes(names, "DNS:lb.example");
  }));

Deno.test("diffText() tells what a removal takes away without values of Secrets", () =>
  withFunctions(async (_kube, file, told) => {
    const secret = {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "s" },
      data: { k: "aGlkZQ==" },
    };
    await deploy(request(file, [namespace, secret]), told);
    const text = diffText(await deploy(request(file, [namespace], { dryRun: true }), told));
    assertStringIncludes(text, "remove Secret try/s");
    assertStringIncludes(text, "-  k: (hidden)");
    assert(!text.includes("aGlkZQ=="));
  }));
