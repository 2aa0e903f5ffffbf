/**
 * `gateway deploy` as a process against a small API server, and what it says when something is wrong. The same against
 * a real cluster is in tests/vm/deploy_test.ts.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { X509Certificate } from "node:crypto";
import { deploy, type DeployRequest } from "../bootstrap/deploy/deploy.ts";
import { removeDeployment } from "../bootstrap/deploy/remove.ts";
import { diffText } from "../bootstrap/deploy/views.ts";
import { assertGatewayError } from "./fakes/gateway_error.ts";
import { silentSpan } from "../vm/event.ts";
import { run } from "../vm/process.ts";
import { type FakeKube, startFakeKube, writeFakeConfig } from "./fakes/kube_api.ts";
import { Sandbox } from "./sandbox.ts";

// deno-lint-ignore no-explicit-any
type Json = any;

const NODE = {
  metadata: { name: "n1" },
  status: {
    addresses: [{ type: "InternalIP", address: "192.0.2.7" }],
    conditions: [{ type: "Ready", status: "True" }],
    images: [{ names: ["gateway.local/demo:1"] }],
  },
};

/** What a Deployment's controller would say once all pods are there. */
function becomeReady(object: Json): void {
  if (object.kind !== "Deployment") return;
  const { generation } = object.metadata;
  const replicas = object.spec.replicas ?? 1;
  object.status = {
    ...{ observedGeneration: generation, replicas, updatedReplicas: replicas },
    availableReplicas: replicas,
  };
}

/** A fake cluster with one ready node, and a user with a kubeconfig for it. */
async function withKube(
  fn: (kube: FakeKube, gateway: Sandbox["gateway"], sandbox: Sandbox) => Promise<void>,
): Promise<void> {
  await using kube = startFakeKube();
  await using sandbox = await Sandbox.make();
  const file = await writeFakeConfig(sandbox.top, kube.port);
  kube.objects.set("/api/v1/nodes/n1", structuredClone(NODE));
  kube.onApply = becomeReady;
  await fn(
    kube,
    (args) => sandbox.gateway(["deploy", "--kubeconfig", file, "--context", "fake", ...args]),
    sandbox,
  );
}

const DEPLOYMENT = "/apis/apps/v1/namespaces/openshell/deployments/gateway-demo";
const TLS = "/api/v1/namespaces/openshell/secrets/openshell-server-tls";
const INVENTORY = "/api/v1/namespaces/openshell/configmaps/gateway-deploy-demo";

Deno.test("deploy applies, says what is unchanged, writes client files, and removes", () =>
  withKube(async (kube, gateway, { env }) => {
    const first = await gateway([]);
    assertEquals(first.code, 0, first.stderr);
    assertStringIncludes(first.stdout, "6 created, 0 changed, 0 unchanged, 0 removed");
    assertStringIncludes(first.stdout, "endpoint      https://192.0.2.7:30051");
    const server = new X509Certificate(atob(kube.objects.get(TLS).data["tls.crt"]));
    assertEquals(server.checkIP("192.0.2.7"), "192.0.2.7");
    const entry = join(env.XDG_CONFIG_HOME, "openshell/gateways/deployed-fake-demo");
    const { gateway_endpoint } = JSON.parse(await Deno.readTextFile(join(entry, "metadata.json")));
    assertEquals(gateway_endpoint, "https://192.0.2.7:30051");
    const ca = await Deno.readTextFile(join(entry, "mtls/ca.crt"));
    assert(server.verify(new X509Certificate(ca).publicKey));
    assertEquals(JSON.parse(kube.objects.get(INVENTORY).data.inventory).ownsNamespace, true);

    const again = await gateway([]);
    assertStringIncludes(again.stdout, "0 created, 0 changed, 6 unchanged, 0 removed");
    const moved = await gateway(["--address", "gw.example:443"]);
    assertStringIncludes(moved.stdout, "endpoint      https://gw.example:443");
    const renewed = new X509Certificate(atob(kube.objects.get(TLS).data["tls.crt"]));
    assertEquals([renewed.checkHost("gw.example"), renewed.checkIP("192.0.2.7")], [
      ...["gw.example", "192.0.2.7"],
    ]);

    const removed = await gateway(["--remove"]);
    assertEquals(removed.code, 0, removed.stderr);
    assertEquals(removed.stdout, 'Removed 5 objects and the namespace "openshell".\n');
    assert(!kube.objects.has(DEPLOYMENT) && !kube.objects.has(TLS));
    assertEquals(await Deno.stat(entry).catch(() => "gone"), "gone");
    assertEquals((await gateway(["--remove", "--dry-run"])).code, 0);
  }));

Deno.test("deploy --dry-run and --diff change nothing, here and there, and show no secret", () =>
  withKube(async (kube, gateway, sandbox) => {
    const before = await sandbox.files();
    const dry = await gateway(["--dry-run"]);
    assertEquals(dry.code, 0, dry.stderr);
    assertStringIncludes(dry.stdout, "would create Deployment openshell/gateway-demo");
    assertEquals([kube.changes, await sandbox.files()], [[], before]);

    assertEquals((await gateway([])).code, 0);
    kube.changes.length = 0;
    kube.objects.get(DEPLOYMENT).spec.replicas = 3;
    const secret = kube.objects.get(TLS).data;
    const old = secret["tls.key"];
    secret["tls.key"] = btoa("another key");
    const { stdout } = await gateway(["--diff"]);
    assertStringIncludes(stdout, "update Deployment openshell/gateway-demo");
    assertStringIncludes(stdout, "-  replicas: 3\n+  replicas: 1");
    assertStringIncludes(stdout, "-  tls.key: (hidden, before)\n+  tls.key: (hidden, after)");
    for (const value of [old, btoa("another key"), atob(old)]) assert(!stdout.includes(value));
    assertEquals(kube.changes, []);
  }));

/** Calls the function itself, since payloads of any content are tried. */
function request(file: string, documents: readonly Json[], more: Partial<DeployRequest> = {}) {
  return {
    context: "fake",
    kubeconfig: file,
    payload: {
      name: "try",
      namespace: "try",
      nodePort: 30999,
      wantsJwt: false,
      documents: () => Promise.resolve(documents.map((one) => JSON.stringify(one))),
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
  kube.objects.set("/api/v1/nodes/n1", structuredClone(NODE));
  kube.onApply = becomeReady;
  const names = ["XDG_DATA_HOME", "XDG_CONFIG_HOME"];
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
    const started = performance.now();
    const error = await deploy(request(file, [namespace, workload("x/y:1")]), told).catch((e) => e);
    assert(performance.now() - started < 20_000);
    assertEquals([error.code, error.what, error.why], [
      "deploy-failed",
      "Cannot see the payload ready within 3 s",
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

Deno.test("deploy tells what is wrong with a kubeconfig, a context or the way to the cluster", () =>
  withKube(async (kube, gateway, sandbox) => {
    const file = join(sandbox.top, "kubeconfig.yaml");
    const other = await sandbox.gateway(["deploy", "--kubeconfig", file, "--context", "prod"]);
    assertEquals([other.code, other.stderr], [
      2,
      `error: Cannot find the context "prod" in "${file}"\n  why: the contexts there are "fake"\n` +
      "  fix: pass --context fake, or another file with --kubeconfig\n",
    ]);
    const missing = join(sandbox.top, "missing.yaml");
    const gone = await sandbox.gateway(["deploy", "--kubeconfig", missing, "--context", "a"]);
    assertEquals([gone.code, gone.stderr.split("\n").slice(0, 2)], [2, [
      `error: Cannot read the kubeconfig "${missing}"`,
      "  why: there is no such file",
    ]]);
    const folder = await sandbox.gateway([
      ...["deploy", "--kubeconfig", sandbox.top, "--context", "a"],
    ]);
    assertStringIncludes(folder.stderr, "why: it is a folder");
    const broken = join(sandbox.top, "broken.yaml");
    await Deno.writeTextFile(broken, "users: [{name: a, user: {token: s3cr3t-t0ken}\n  x: [");
    const unread = await sandbox.gateway(["deploy", "--kubeconfig", broken, "--context", "a"]);
    assertStringIncludes(unread.stderr, "why: it is not the YAML of a kubeconfig");
    assert(!unread.stderr.includes("s3cr3t"));
    await kube[Symbol.asyncDispose]();
    const down = await gateway([]);
    assertEquals(down.code, 1);
    assertStringIncludes(down.stderr, 'Cannot reach the cluster of the context "fake" at http://');
    assertEquals(await sandbox.files(), ["broken.yaml", "kubeconfig.yaml"]);
  }));

Deno.test("deploy tells what is wrong with its words", () =>
  withKube(async (kube, gateway) => {
    for (
      const [args, why] of [
        [["--address", "a:99999"], "99999 is not a port"],
        [["--address", "::1"], "certificates are made for DNS names and IPv4 addresses only"],
        [["--address", "300.1.1.1"], '"300.1.1.1" is no IPv4 address'],
        [["--image-prefix", "Registry/X"], "it is not REGISTRY[:PORT][/PATH] in lower case"],
        [["--timeout", "0"], "it is not a number of seconds from 1 to 86400"],
        [["--remove", "--diff"], "a removal changes no object"],
        [["--payload", "nothing"], "and a folder's has a slash in it"],
        [["--name", "ghost"], "there are no instances yet"],
      ] as const
    ) {
      const { code, stderr } = await gateway(args);
      assert(code === 2 || code === 1, stderr);
      assertStringIncludes(stderr, why);
    }
    assertEquals(kube.changes, []);
  }));

Deno.test("--help does not load the client library", async () => {
  const { stdout } = await run(Deno.execPath(), {
    args: ["info", "--json", new URL("../bootstrap/deploy_command.ts", import.meta.url).pathname],
  });
  const { modules } = JSON.parse(stdout) as Json;
  const own = modules.find((one: Json) => one.specifier.endsWith("/deploy_command.ts"));
  const eager = own.dependencies.filter((one: Json) => one.code && !one.isDynamic);
  assertEquals(eager.map((one: Json) => one.specifier), []);
});
