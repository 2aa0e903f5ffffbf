/**
 * `gateway deploy` as a process against a small API server, and what it says when something is wrong with what it was
 * told.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { X509Certificate } from "node:crypto";
import { run } from "../vm/base/process.ts";
import {
  becomeReady,
  type FakeKube,
  READY_NODE,
  startFakeKube,
  writeFakeConfig,
} from "./fakes/kube_api.ts";
import { Sandbox } from "./sandbox.ts";

// deno-lint-ignore no-explicit-any
type Json = any;

/** A fake cluster with one ready node, and a user with a kubeconfig for it. */
async function withKube(
  fn: (kube: FakeKube, gateway: Sandbox["gateway"], sandbox: Sandbox) => Promise<void>,
): Promise<void> {
  await using kube = startFakeKube();
  await using sandbox = await Sandbox.make();
  const file = await writeFakeConfig(sandbox.top, kube.port);
  kube.objects.set("/api/v1/nodes/n1", structuredClone(READY_NODE));
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
    args: ["info", "--json", new URL("../bootstrap/commands/deploy.ts", import.meta.url).pathname],
  });
  const { modules } = JSON.parse(stdout) as Json;
  const own = modules.find((one: Json) => one.specifier.endsWith("/commands/deploy.ts"));
  const eager = own.dependencies.filter((one: Json) => one.code && !one.isDynamic);
  // How commands are defined is all that it needs before it runs.
  assertEquals(eager.map((one: Json) => one.specifier), ["./kit.ts"]);
});
