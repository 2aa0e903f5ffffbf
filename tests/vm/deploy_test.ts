/**
 * `gateway deploy` against the API of an instance: a payload in a namespace and on a NodePort of its own beside the
 * instance's own one. Functions are called where the command line has no payload of that content.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { parse, stringify } from "yaml";
import { deploy, type DeployRequest } from "../../bootstrap/deploy/deploy.ts";
import { type DeployPayload, deployPayload } from "../../bootstrap/deploy/payload.ts";
import { removeDeployment } from "../../bootstrap/deploy/remove.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { Client } from "./client.ts";
import { freePort, TestHome, withEvidence } from "./harness.ts";

const UP_TIMEOUT_MS = 75 * 60_000;
const NODE_PORT = 30061;
const NAMESPACE = "tried";
const CONTEXT = "gateway";
const DEMO = new URL("../../rootfs/payloads/demo/", import.meta.url);

/** The demo under another namespace and port, with more objects. */
async function payload(extra: readonly object[] = []): Promise<DeployPayload> {
  const dir = await Deno.makeTempDir({ prefix: "gw-payload-" });
  const moved = (text: string) =>
    text.replaceAll("openshell-", "@").replaceAll("openshell", NAMESPACE).replaceAll(
      "@",
      "openshell-",
    )
      .replaceAll("30051", String(NODE_PORT)).replace("name: demo\nname", "name: tried\nname")
      .replace("  - gateway-demo.yaml", "  - gateway-demo.yaml\n  - extra.yaml");
  try {
    for (const name of ["payload.yaml", "gateway-demo.yaml"]) {
      const text = await Deno.readTextFile(new URL(name, DEMO));
      await Deno.writeTextFile(join(dir, name), moved(text));
    }
    const objects = [configMap("always", "1"), ...extra];
    const text = objects.map((object) => stringify(object)).join("---\n");
    await Deno.writeTextFile(join(dir, "extra.yaml"), text);
    const { signal } = new AbortController();
    return await deployPayload(dir, { span: silentSpan(), signal, assumeYes: true });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const configMap = (name: string, value: string) => ({
  ...{ apiVersion: "v1", kind: "ConfigMap", metadata: { name }, data: { value } },
});

/** Starts a program that ends at once. */
const crashing = {
  ...{ apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "crash" } },
  spec: {
    selector: { matchLabels: { app: "crash" } },
    template: {
      metadata: { labels: { app: "crash" } },
      spec: {
        containers: [{
          ...{ name: "c", image: "gateway.local/busybox:1.37", imagePullPolicy: "Never" },
          command: ["sh", "-c", "echo no database; exit 3"],
          // Without one it is ready for the moment that it runs.
          readinessProbe: { exec: { command: ["test", "-e", "/ready"] } },
        }],
      },
    },
  },
};

Deno.test("deploy to the API of an instance", async (t) => {
  await using home = await TestHome.make();
  const client = new Client(home);
  const [port, outer] = [freePort(), freePort()];
  const size = ["--memory", "3072", "--cpus", "2"];
  await home.ok(["up", "--detach", "--port", `${port}:30051`, ...size], {
    timeoutMs: UP_TIMEOUT_MS,
  });
  await home.ok(["port", "add", `${outer}:${NODE_PORT}`]);
  for (const name of ["XDG_DATA_HOME", "XDG_CONFIG_HOME"]) Deno.env.set(name, home.env[name]!);
  const kubeconfig = (await client.status()).kubeconfig;
  const request = async (extra: readonly object[] = [], more: Partial<DeployRequest> = {}) => ({
    ...{ context: CONTEXT, kubeconfig, payload: await payload(extra) },
    ...{ address: { host: "127.0.0.1", port: outer }, dryRun: false, forceConflicts: false },
    ...{ wait: true, timeoutMs: 180_000 },
    ...more,
  });
  const told = () => ({ span: silentSpan(), signal: AbortSignal.timeout(5 * 60_000) });
  const step = (name: string, fn: () => Promise<void>) =>
    t.step(name, () => withEvidence(home, "default", fn));
  const found = async (...args: string[]) =>
    (await home.call(["kubectl", "--", "get", "-n", NAMESPACE, "-o", "name", ...args])).stdout;
  const podUid = async () => {
    const { items } = await client.kubectlJson(["get", "pods", "-n", NAMESPACE]);
    return items.map((pod: { metadata: { uid: string } }) => pod.metadata.uid).join();
  };

  await step("a dry run changes nothing", async () => {
    const { report } = await deploy(await request([], { dryRun: true }), told());
    assertEquals(new Set(report.objects.map(({ change }) => change)), new Set(["create"]));
    assertEquals(await found("all,secrets,configmaps"), "");
  });

  await step("it is made, waited for, and answers only to its clients", async () => {
    const extra = [configMap("kept", "1"), configMap("leaves", "1")];
    const { report } = await deploy(await request(extra), told());
    assertEquals(report.endpoint, `https://127.0.0.1:${outer}`);
    const status = { ...await client.status(), endpoint: report.endpoint! };
    const deployed = { ...status, clientFiles: report.clientFiles! };
    const answer = await client.curl(deployed);
    assertEquals(answer.code, 0, answer.stderr);
    assert((await client.curl(deployed, "/", true)).code !== 0, "it answers without a certificate");
    assert((await client.curl(status)).code !== 0, "the instance's certificate works with it");
  });

  await step("deployed again it is the same, down to its pod", async () => {
    const before = await podUid();
    const extra = [configMap("kept", "1"), configMap("leaves", "1")];
    const { report } = await deploy(await request(extra), told());
    assertEquals(report.objects.filter(({ change }) => change !== "same"), []);
    assertEquals(await podUid(), before);
  });

  await step(
    "what changes is changed, what leaves is removed, what is not ours stays",
    async () => {
      const stranger = ["create", "configmap", "stranger", "-n", NAMESPACE];
      await home.ok(["kubectl", "--", ...stranger]);
      const { report } = await deploy(await request([configMap("kept", "2")]), told());
      const change = report.objects.filter(({ change }) => change !== "same");
      assertEquals(change.map(({ name, change }) => [name, change]), [["kept", "update"]]);
      assertEquals(report.removed.map(({ name }) => name), ["leaves"]);
      const names = (await found("configmaps")).trim().split("\n").sort();
      assertEquals(
        names,
        ["always", "gateway-deploy-tried", "kept", "kube-root-ca.crt", "stranger"].map((name) =>
          `configmap/${name}`
        ),
      );
    },
  );

  await step("a field of another manager is named, and taken over when told", async () => {
    const patch = ["patch", "configmap", "kept", "-n", NAMESPACE, "--field-manager", "somebody"];
    await home.ok(["kubectl", "--", ...patch, "--type", "merge", "-p", '{"data":{"value":"3"}}']);
    const wanted = [configMap("kept", "4")];
    const error = await deploy(await request(wanted), told()).catch((error) => error);
    assertEquals(error.code, "deploy-failed");
    assertEquals(error.why, 'another manager owns fields of it: .data.value belongs to "somebody"');
    await deploy(await request(wanted, { forceConflicts: true }), told());
    const { data } = await client.kubectlJson(["get", "configmap", "kept", "-n", NAMESPACE]);
    assertEquals(data.value, "4");
  });

  await step("a narrow user is told what it lacks, and changes nothing", async () => {
    await home.ok(["kubectl", "--", "apply", "-f", "-"], { stdin: NARROW });
    const { stdout: token } = await home.ok([
      ...["kubectl", "--", "create", "token", "narrow", "-n", NAMESPACE],
    ]);
    const config = parse(await Deno.readTextFile(kubeconfig));
    config.users[0].user = { token: token.trim() };
    const file = join(home.home, "narrow.yaml");
    await Deno.writeTextFile(file, stringify(config));
    const wanted = [configMap("kept", "5")];
    const narrow = { kubeconfig: file };
    const error = await deploy(await request(wanted, narrow), told()).catch((error) => error);
    assertEquals(error.code, "permission");
    for (const verb of ["create", "patch"]) {
      const right = `"${verb}" on "deployments.apps" in the namespace "${NAMESPACE}"`;
      assertStringIncludes(error.why, right);
    }
    assert(!error.why.includes('on "configmaps"'), error.why);
    const { data } = await client.kubectlJson(["get", "configmap", "kept", "-n", NAMESPACE]);
    assertEquals(data.value, "4");
    // What it may do, it does: nothing but configmaps, in a namespace that it may not change.
    const small = {
      ...await payload(),
      name: "small",
      documents: () => Promise.resolve([stringify(configMap("own", "1"))]),
    };
    const { report } = await deploy(await request([], { ...narrow, payload: small }), told());
    assertEquals(report.objects.map(({ name, change }) => [name, change]), [["own", "create"]]);
    await removeDeployment({ ...await request(), ...narrow, payload: small }, told());
    assert(!(await found("configmaps")).includes("own"));
  });

  await step("what does not become ready ends by its bound, with what was seen", async () => {
    const context = told();
    const error = await deploy(await request([crashing], { timeoutMs: 30_000 }), context).catch((
      e,
    ) => e);
    assertEquals([error.code, error.what], [
      ...["deploy-failed", "Timed out after 30 s waiting for the payload to be ready"],
    ]);
    const seen = context.span.events.filter(({ kind }) => kind === "warn").map((e) => e.message);
    assertStringIncludes(seen.join("\n"), "pod crash-");
    assertStringIncludes(seen.join("\n"), "no database");
  });

  await step("the command line says what is in the way of the instance's own payload", async () => {
    const words = ["deploy", "--context", CONTEXT, "--kubeconfig", kubeconfig, "--dry-run"];
    const { code, stderr } = await home.call(words);
    assertEquals(code, 1);
    assertStringIncludes(stderr, "another manager owns fields of it: .data");
    assertStringIncludes(stderr, "--force-conflicts");
    const taken = await home.ok([...words, "--force-conflicts"]);
    assertStringIncludes(taken.stdout, "would update Secret openshell/openshell-server-tls");
    const wrong = await home.call(["deploy", "--context", "no", "--kubeconfig", kubeconfig]);
    assertStringIncludes(wrong.stderr, 'the contexts there are "gateway"');
  });

  await step("removed, it is gone with its client files and all but what is not ours", async () => {
    const removed = await removeDeployment(await request(), told());
    assertEquals(removed.namespaceRemoved, false);
    assertEquals(await found("all,secrets,persistentvolumeclaims"), "");
    assertStringIncludes(await found("configmaps"), "stranger");
    const gateways = [...Deno.readDirSync(join(home.home, "config/openshell/gateways"))];
    assertEquals(gateways.map(({ name }) => name), ["gateway"]);
    assertEquals(await client.answers(), true);
    // Without a stranger the namespace goes, too.
    await home.ok(["kubectl", "--", "delete", "namespace", NAMESPACE], { timeoutMs: 180_000 });
    await deploy(await request([], { wait: false }), told());
    assertEquals((await removeDeployment(await request(), told())).namespaceRemoved, true);
  });
});

const NARROW = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: narrow, namespace: ${NAMESPACE}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: narrow, namespace: ${NAMESPACE}}
rules:
- {apiGroups: [""], resources: [configmaps], verbs: [get, list, create, patch, delete]}
- {apiGroups: [apps], resources: [deployments], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: narrow, namespace: ${NAMESPACE}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: narrow}
subjects: [{kind: ServiceAccount, name: narrow, namespace: ${NAMESPACE}}]
`;
