/**
 * One real cluster from nothing to gone: what the README promises, and what has to survive.
 * Booting it is dear under emulation, so one test walks through everything in order. cluster_test.ts has the walks of
 * each run, tests/long/walks_test.ts the other combinations.
 *
 * @module
 */
import {
  assert,
  assertEquals,
  assertGreater,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { join } from "@std/path";
import { makeOneFile } from "../../bootstrap/package/one_file.ts";
import { run } from "../../vm/base/process.ts";
import { pause, waitFor } from "../../vm/base/wait.ts";
import { Client, type Status } from "./client.ts";
import { assertEgress } from "./egress.ts";
import { assertDefaultRoleComesBack, assertDocuments, removeDefaultRole } from "./api_server.ts";
import { freePort, FROM_SOURCES, TestHome, withEvidence } from "./harness.ts";
import { HostServices } from "./host_services.ts";
import { PolicyPods } from "./policies.ts";
import { deployLog, restartsAfter } from "./started_again.ts";

const UP_TIMEOUT_MS = 15 * 60_000;
const BUILD_TIMEOUT_MS = 75 * 60_000;

const size = ["--memory", "3072", "--cpus", "2"];

/** One walk through everything. */
export interface Walk {
  /**
   * Cold: booted from nothing. Restored: resumed from the golden state of this machine. All promises are the same; what
   * takes long and does not depend on the first start is looked at in the restored walk only.
   */
  readonly kind: "cold" | "restored";
  /** How `gateway` runs. */
  readonly from: "its sources" | "one file";
}

/** Registers the test of a walk. */
export function testWalk(how: Walk): void {
  const name = `a ${how.kind} cluster, by gateway from ${how.from}`;
  Deno.test(`${name}, from nothing to gone`, async (t) => {
    const dir = await Deno.makeTempDir();
    try {
      const file = join(dir, "gateway");
      if (how.from === "one file") await makeOneFile(file, new AbortController().signal);
      await using home = await TestHome.make(how.from === "one file" ? [file] : FROM_SOURCES);
      await home.ok(["build", "all"], { timeoutMs: BUILD_TIMEOUT_MS });
      await walk(t, home, how);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  });
}

async function walk(
  t: Deno.TestContext,
  home: TestHome,
  { kind }: Walk,
): Promise<void> {
  const port = freePort();
  const client = new Client(home);
  await using services = new HostServices(home);
  const { status, curl, kubectlJson } = {
    status: (name?: string) => client.status(name),
    curl: (report: Status, path: string, bare?: boolean) => client.curl(report, path, bare),
    kubectlJson: (...args: string[]) => client.kubectlJson(args),
  };
  const policies = new PolicyPods(home, client);
  let restarts: Record<string, number> = {};
  const step = (name: string, fn: () => Promise<void>) =>
    t.step(name, () => withEvidence(home, "default", fn));
  const restoredStep = async (name: string, fn: () => Promise<void>) => {
    if (kind === "restored") await step(name, fn);
  };

  await step("up --detach ends with READY", async () => {
    const cold = kind === "cold" ? ["--cold"] : [];
    const { stdout } = await home.ok(
      ["up", "--detach", "--port", `${port}:30051`, ...size, ...cold],
      { timeoutMs: UP_TIMEOUT_MS },
    );
    assertStringIncludes(stdout, `https://127.0.0.1:${port}`);
    assertMatch(stdout, /^READY in/);
  });

  await step("the service answers with the client's certificate and refuses without", async () => {
    const report = await status();
    const good = await curl(report, "/");
    assertEquals(good.code, 0, good.stderr);
    assertGreater(good.stdout.length, 0);
    const without = await curl(report, "/", true);
    assert(without.code !== 0, "it answered without a client certificate");
    const plain = await run("curl", { args: ["-sS", `http://127.0.0.1:${port}/`], check: false });
    assert(!plain.stdout.includes(good.stdout));
  });

  await step("the client files are OpenShell's, private, and name the active gateway", async () => {
    const report = await status();
    const config = join(home.home, "config/openshell");
    assertEquals((await Deno.readTextFile(join(config, "active_gateway"))).trim(), "gateway");
    const metadata = JSON.parse(
      await Deno.readTextFile(join(config, "gateways/gateway/metadata.json")),
    );
    assertEquals([metadata.gateway_endpoint, metadata.auth_mode], [report.endpoint, "mtls"]);
    const mode = async (path: string) => (await Deno.stat(path)).mode! & 0o777;
    assertEquals(await mode(report.clientFiles), 0o700);
    assertEquals(await mode(join(report.clientFiles, "tls.key")), 0o600);
    assertEquals(await mode(report.kubeconfig), 0o600);
  });

  await step("kubectl sees one Ready node, from the host and from the guest", async () => {
    const nodes = await kubectlJson("get", "nodes");
    assertEquals([nodes.items.length, await client.nodeReady()], [1, "True"]);
    const inside = await home.ok(["exec", "--", "kubectl", "get", "nodes", "--no-headers"]);
    assertMatch(inside.stdout, /^gateway\s+Ready\b/);
  });

  await step("the kubeconfig works from the host for any client", async () => {
    const { KubeConfig, CoreV1Api } = await import("@kubernetes/client-node");
    const config = new KubeConfig();
    config.loadFromFile((await status()).kubeconfig);
    assertEquals(config.getCurrentContext(), "gateway");
    const { items } = await config.makeApiClient(CoreV1Api).listNode();
    assertEquals(items.map((node) => node.metadata?.name), ["gateway"]);
  });

  await step("clients learn the fields of all kinds", () => assertDocuments(home));

  await step("exec passes streams, arguments and the exit code through", async () => {
    assertMatch((await home.ok(["exec", "--", "uname", "-a"])).stdout, /^Linux gateway .*-gateway/);
    const odd = await home.ok(["exec", "--", "printf", "<%s>", "a b", "$HOME", "'", ""]);
    assertEquals(odd.stdout, "<a b><$HOME><'><>");
    const failed = await home.call(["exec", "--", "sh", "-c", "cat; echo err >&2; exit 9"], {
      stdin: "in",
    });
    assertEquals([failed.code, failed.stdout, failed.stderr], [9, "in", "err\n"]);
    const killed = await home.call(["exec", "sh", "-c", "kill -9 $$"]);
    assertEquals([killed.code, killed.stdout, killed.stderr], [137, "", ""]);
  });

  await step("a signal to exec ends the program in the guest", async () => {
    const script = "echo up; exec sleep 4711";
    await using exec = await home.start(["exec", "--", "sh", "-c", script]);
    await exec.says("up\n");
    exec.signal("SIGTERM");
    assertEquals((await exec.exited).code, 143);
    const left = await home.call(["exec", "--", "pgrep", "-f", "sleep [4]711"]);
    assertEquals([left.code, left.stdout], [1, ""]);
  });

  await step("shell reads commands, cp carries files both ways, plain ssh works", async () => {
    assertStringIncludes((await home.ok(["shell"], { stdin: "echo $((6*7))\n" })).stdout, "42");
    const file = join(home.home, "note");
    await Deno.writeTextFile(file, "hello");
    await home.ok(["cp", file, "default:/root/note"]);
    await home.ok(["cp", "default:/root/note", `${file}.back`]);
    assertEquals(await Deno.readTextFile(`${file}.back`), "hello");
    const config = join(home.home, "data/gateway/instances/default/ssh/config");
    const { stdout } = await run("ssh", { args: ["-F", config, "default", "cat", "/root/note"] });
    assertEquals(stdout, "hello");
  });

  await step("logs show the console and the cluster; the timeline has host and guest", async () => {
    // A restored guest has been through its stages before; its console begins with what it does now.
    const mark = kind === "cold" ? "cluster-start" : "adopted";
    assertMatch((await home.ok(["logs"])).stdout, new RegExp(`^gateway: \\d+\\.\\d+ ${mark}`, "m"));
    assertGreater((await home.ok(["logs", "--source", "cluster"])).stdout.length, 0);
    await using following = await home.start(["logs", "-f"]);
    await following.says(mark);
    const { rows } = {
      rows: JSON.parse((await home.ok(["status", "--timeline", "--json"])).stdout),
    };
    const names = rows.map((row: { name: string }) => row.name);
    const stages = kind === "cold" ? ["init", "cluster-start"] : ["adopted", "identity"];
    for (const name of ["start vm", ...stages, "service ready"]) {
      assert(names.includes(name), `${name} is missing in ${names}`);
    }
  });

  await step("status tells sizes within the promises", async () => {
    const report = await status();
    const resident = Object.fromEntries(report.processes.map((p) => [p.role, p.residentMiB]));
    assert(resident.gvproxy! <= 60, `gvproxy has ${resident.gvproxy} MiB`);
    assertEquals(report.state, "running");
  });

  await step("a port can be added and removed while it runs", async () => {
    const extra = freePort();
    const report = await status();
    await home.ok(["port", "add", `${extra}:30051`]);
    const through = { ...report, endpoint: `https://127.0.0.1:${extra}` };
    assertEquals((await curl(through, "/")).code, 0);
    await home.ok(["port", "remove", `${extra}:30051`]);
    assert((await curl(through, "/")).code !== 0);
  });

  await step(
    "a port of this host's loopback is opened to the guest, and no other",
    async () => {
      await services.open();
      await services.downAndUp();
    },
  );

  await step("manifests in the auto-deploy folder are applied, re-applied and pruned", async () => {
    const path = "/var/lib/rancher/k3s/server/manifests/test.yaml";
    const write = (value: string) =>
      home.ok(["exec", "--", "sh", "-c", `cat >${path}`], {
        stdin:
          `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: auto, namespace: default}\ndata: {v: "${value}"}\n`,
      });
    const value = async () =>
      (await home.call(["kubectl", "--", "get", "cm", "auto", "-o", "jsonpath={.data.v}"])).stdout;
    const becomes = (wanted: string) =>
      waitFor({
        what: `"${wanted}" in the ConfigMap`,
        probe: async () => (await value()) === wanted || undefined,
        timeoutMs: 60_000,
        intervalMs: 1000,
      });
    await write("1");
    await becomes("1");
    await write("2");
    await becomes("2");
    await home.ok(["exec", "--", "rm", path]);
    await becomes("");
  });

  await step("a volume claim on local-path is bound and written", async () => {
    await home.ok(["kubectl", "--", "apply", "-f", "-"], {
      stdin: pvcPod(services.askingContainer),
    });
    await waitFor({
      what: "the pod with the volume",
      probe: async () => {
        const pod = await kubectlJson("get", "pod", "keeper");
        return pod.status.phase === "Succeeded" || undefined;
      },
      timeoutMs: 240_000,
      intervalMs: 2000,
    });
    await home.ok(["exec", "--", "sync"]);
  });

  await step("a pod reaches the opened port of this host by name, and no other", async () => {
    await services.assertHeardByPod("keeper");
  });

  await restoredStep(
    "network policies hold between pods, and an unknown field is refused",
    async () => {
      await policies.create();
      await policies.assertClosed();
      await policies.assertUnknownFieldRefused();
    },
  );

  await step("a second up of a running instance is refused", async () => {
    const { code, stderr } = await home.call(["up", "--port", `${freePort()}:30051`]);
    assertEquals(code, 1);
    assertStringIncludes(stderr, "it is running already");
  });

  await step("down stops cleanly and leaves nothing running", async () => {
    restarts = await client.settledRestarts();
    // What is missing of an unchanged manifest comes back with the next start.
    await client.sh("k3s kubectl delete storageclass local-path");
    await removeDefaultRole(home);
    await home.ok(["down"], { timeoutMs: 120_000 });
    await home.assertClean();
    const stopped = (await home.events("default")).find((record) => record.name === "stopped");
    assertEquals(stopped?.attrs?.state, "clean");
    const refused = await home.call(["exec", "--", "true"]);
    assertEquals(refused.code, 1);
    assertStringIncludes(refused.stderr, 'Cannot reach the instance "default"');
  });

  await step("started again it keeps its ports, its certificates and its data", async () => {
    await home.ok(["up", "--detach"], { timeoutMs: UP_TIMEOUT_MS });
    const report = await status();
    assertEquals(report.endpoint, `https://127.0.0.1:${port}`);
    assertEquals((await curl(report, "/")).code, 0);
    assertEquals(await client.sh("cat /var/lib/rancher/k3s/storage/*/kept"), "kept\n");
    await services.assertOpen();
  });

  await step("started again only manifests with a missing object are applied", async () => {
    const last = await deployLog(client, "local-path.yaml");
    assertStringIncludes(last, "gateway-coredns.yaml is deployed already");
    // Packets to services without rules yet, or to pods from before the start, must not leave the machine.
    const texts = (await home.events("default")).map(({ message }) => message ?? "");
    assertEquals(texts.filter((text) => /connection to 10\.4[23]\./.test(text)), []);
    await client.sh("k3s kubectl get storageclass local-path");
  });

  await step("started again no pod had to try twice", async () => {
    // A pod that starts before it finds the API server may end and be restarted once more.
    const once = Object.entries(restarts).map(([pod, count]) => [pod, count + 1] as const);
    assertEquals(await restartsAfter(client, restarts), Object.fromEntries(once));
  });

  await restoredStep("started again the network policies hold", async () => {
    await policies.ready();
    await policies.assertClosed();
  });

  await step("suspend leaves nothing running, and up goes on with the same pods", async () => {
    const before = await client.settledPods();
    await home.ok(["suspend"]);
    await home.assertClean();
    const [listed] = JSON.parse((await home.ok(["list", "--json"])).stdout);
    assertEquals(listed.state, "suspended");
    await pause(3000);
    await home.ok(["up", "--detach"], { timeoutMs: 60_000 });
    assertEquals((await curl(await status(), "/")).code, 0);
    assertEquals([await client.pods(), await client.nodeReady()], [before, "True"]);
    await services.assertOpen();
  });

  await restoredStep("private addresses are closed until allowed", () => assertEgress(home));

  await restoredStep(
    "after a resume the network policies hold until they are removed",
    async () => {
      await policies.assertClosed();
      await policies.removePolicies();
      await policies.remove();
    },
  );

  await step("a default role that was taken away is back", () => assertDefaultRoleComesBack(home));

  await step("after a resume the guest's clock is the host's", async () => {
    const offset = await client.clockOffset();
    assert(Math.abs(offset) < 50, `${offset} ms off`);
  });

  await restoredStep(
    "a second instance runs beside it with ports and a CA of its own",
    async () => {
      const other = freePort();
      await home.ok(
        [
          ...["up", "--detach", "--name", "second", "--port", `${other}:30051`, "--no-kube-api"],
          ...size,
        ],
        { timeoutMs: UP_TIMEOUT_MS },
      );
      const [first, second] = [await status(), await status("second")];
      assertEquals((await curl(first, "/")).code, 0);
      assertEquals((await curl(second, "/")).code, 0);
      const crossed = await curl({ ...second, clientFiles: first.clientFiles }, "/");
      assert(crossed.code !== 0, "the first one's files work with the second");
      assertEquals(second.kubeconfig, null as unknown as string);
      await services.assertClosed("second");
      await services.assertOpen();
      await home.ok(["rm", "--force", "second"], { timeoutMs: 120_000 });
      assertEquals((await curl(first, "/")).code, 0);
    },
  );

  await step("rm takes the instance, its kubeconfig and its client files away", async () => {
    const report = await status();
    await home.ok(["rm", "--force", "default"], { timeoutMs: 120_000 });
    await home.assertClean();
    for (const path of [report.kubeconfig, report.clientFiles]) {
      assertEquals(await Deno.stat(path).then(() => "there", () => "gone"), "gone", path);
    }
    assertEquals(JSON.parse((await home.ok(["list", "--json"])).stdout), []);
  });
}

const pvcPod = (more: string) => `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: keep, namespace: default}
spec: {accessModes: [ReadWriteOnce], storageClassName: local-path, resources: {requests: {storage: 16Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: keeper, namespace: default}
spec:
  restartPolicy: Never
  containers:
  - name: write
    image: gateway.local/busybox:1.37
    imagePullPolicy: Never
    command: [sh, -c, "echo kept >/data/kept && sync"]
    volumeMounts: [{name: data, mountPath: /data}]
  - ${more}
  volumes: [{name: data, persistentVolumeClaim: {claimName: keep}}]
`;
