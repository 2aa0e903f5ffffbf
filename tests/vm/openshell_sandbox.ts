/**
 * What a user of OpenShell's stand-in does with a sandbox, what it is made of, and what it may reach.
 * It must not start or stop an instance.
 *
 * @module
 */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { waitFor } from "../../vm/base/wait.ts";
import type { Client } from "./client.ts";
import type { TestHome } from "./harness.ts";
import { OpenshellCli } from "./openshell_cli.ts";

const POD = "default--first";
/** A pod that is nobody's sandbox. */
const STRANGER = `
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: openshell}
spec:
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  containers:
  - {name: c, image: "gateway.local/busybox:1.37", imagePullPolicy: Never, command: [sleep, "100000"]}
`;
const POD_TIMEOUT_MS = 3 * 60_000;
/** Longer than kubelet takes to restart what does not answer the chart's own probes: three times five seconds. */
const BUSY_SECONDS = 30;

/** The commands for the user that `up` ends with, without their first word. */
export function printedCommands(stdout: string): string[][] {
  return [...stdout.matchAll(/^ +openshell (.*)$/gm)].map(([, words]) => words!.split(" "));
}

/** Does what READY says, which makes the sandbox "first", and uses it. */
export async function useSandbox(home: TestHome, printed: readonly string[][]): Promise<void> {
  const user = await OpenshellCli.of(home);
  assertEquals(printed.map(([word]) => word), ["status", "sandbox", "sandbox"]);
  const said = [];
  for (const words of printed) said.push(await user.ok(...words));
  assertMatch(said[0]!, /Authentication: Authenticated/);
  assertMatch(said[2]!, /^Linux /);
  assertMatch(await user.ok("sandbox", "list"), /^first +Ready$/m);

  assertEquals(await user.sh("first", "echo hello; pwd; id -u"), "hello\n/sandbox\n1000\n");
  const fail = ["sh", "-c", "echo no >&2; exit 7"];
  const failed = await user.call("sandbox", "exec", "--name", "first", "--", ...fail);
  assertEquals([failed.code, failed.stdout, failed.stderr], [7, "", "no\n"]);
  await user.sh("first", "echo kept >note");
  assertEquals(await user.sh("first", "cat note"), "kept\n");
}

/** The sandbox "first" as the cluster has it. */
export async function isMadeAsMeant(home: TestHome, client: Client): Promise<void> {
  const inOpenshell = (...words: string[]) =>
    client.kubectlJson(["get", ...words, "-n", "openshell"]);
  const { metadata, spec } = await inOpenshell("pod", POD);
  assertEquals([metadata.ownerReferences[0].kind, spec.restartPolicy], ["Sandbox", "Never"]);
  assertEquals(metadata.labels["openshell.ai/managed-by"], "openshell");
  const image = spec.volumes.find((one: { image?: unknown }) => one.image !== undefined)?.image;
  assertStringIncludes(image.reference, "/supervisor:");
  assertEquals(image.pullPolicy, "Never");
  // One replica works without waiting for a lease.
  const leases = await client.kubectlJson(["get", "leases", "-n", "agent-sandbox-system"]);
  assertEquals(leases.items, []);
  // The controller's webhook converts to the version that is not stored.
  const alpha = await inOpenshell("sandboxes.v1alpha1.agents.x-k8s.io", POD);
  assertEquals(alpha.apiVersion, "agents.x-k8s.io/v1alpha1");
  await getsNoLogin(home, client, spec);
}

interface PodSpec {
  readonly serviceAccountName: string;
  readonly automountServiceAccountToken: boolean;
  readonly volumes: readonly {
    readonly projected?: {
      readonly sources: readonly { readonly serviceAccountToken?: { readonly audience: string } }[];
    };
  }[];
}

/** The key in a sandbox is the client's, which opens nothing alone; and no token that a user has can be had there. */
async function getsNoLogin(home: TestHome, client: Client, spec: PodSpec): Promise<void> {
  const user = await OpenshellCli.of(home);
  const digest = "sha256sum /etc/openshell-tls/client/tls.key | cut -d ' ' -f 1";
  const key = await Deno.readFile(join((await client.status()).clientFiles, "tls.key"));
  const own = new Uint8Array(await crypto.subtle.digest("SHA-256", key)).toHex();
  assertEquals((await user.sh("first", digest)).trim(), own);

  const sources = spec.volumes.flatMap(({ projected }) => projected?.sources ?? []);
  const audiences = sources.map(({ serviceAccountToken }) => serviceAccountToken?.audience);
  assertEquals(audiences, ["openshell-gateway"]);
  assertEquals(spec.automountServiceAccountToken, false);
  const account = `system:serviceaccount:openshell:${spec.serviceAccountName}`;
  const ask = ["auth", "can-i", "create", "serviceaccounts/token", "-n", "openshell"];
  const may = await home.call(["kubectl", "--", ...ask, "--as", account]);
  assertEquals([may.code, may.stdout], [1, "no\n"], may.stderr);
}

/** A service of the host that was opened is heard in the sandbox, and no other port of that host. */
export async function hearsTheHost(home: TestHome, port: number, says: string): Promise<void> {
  const user = await OpenshellCli.of(home);
  for (const host of ["host.openshell.internal", "host.docker.internal"]) {
    const ask = ["wget", "-q", "-O", "-", "-T", "20", `http://${host}:${port}/`];
    assertEquals(await user.ok("sandbox", "exec", "--name", "first", "--", ...ask), says);
    const other = `http://${host}:${port + 1}/`;
    const closed = await user.call("sandbox", "exec", "-n", "first", "--", ...ask.with(-1, other));
    assertEquals([closed.code, closed.stdout], [1, ""]);
  }
}

/** The chart's policy keeps other pods from the port by which programs are started in the sandbox. */
export async function refusesStrangers(home: TestHome, client: Client): Promise<void> {
  const kubectl = (args: readonly string[], stdin?: string) =>
    home.ok(["kubectl", "--", "-n", "openshell", ...args], { stdin, timeoutMs: POD_TIMEOUT_MS });
  const { status: { podIP } } = await client.kubectlJson(["get", "pod", POD, "-n", "openshell"]);
  const opens = async () => {
    const ask = `nc -w 5 ${podIP} 2222 </dev/null >/dev/null 2>&1 && echo open || echo closed`;
    return (await kubectl(["exec", "stranger", "--", "busybox", "timeout", "20", "sh", "-c", ask]))
      .stdout;
  };
  await kubectl(["apply", "-f", "-"], STRANGER);
  await kubectl(["wait", "--for=condition=Ready", "--timeout=120s", "pod/stranger"]);
  assertEquals(await opens(), "closed\n");
  // Without the policy it would be open, so it is the policy that closes it.
  const { items } = await client.kubectlJson(["get", "networkpolicies", "-n", "openshell"]);
  assertEquals(items.length, 1);
  await kubectl(["delete", "networkpolicies", "--all"]);
  await waitFor({
    what: "the port to be open without the policy",
    probe: async () => await opens() === "open\n" ? true : undefined,
    timeoutMs: 60_000,
    intervalMs: 1000,
  });
  const { apiVersion, kind, metadata, spec } = items[0];
  const { name, namespace, labels, annotations } = metadata;
  const again = { apiVersion, kind, metadata: { name, namespace, labels, annotations }, spec };
  await kubectl(["apply", "-f", "-"], JSON.stringify(again));
  await kubectl(["delete", "pod", "stranger"]);
}

/** A guest whose processors are all busy answers its probes late, and kubelet restarts nothing for it. */
export async function staysUpWhileBusy(client: Client): Promise<void> {
  const restarts = async () =>
    (await client.kubectlJson(["get", "pod", "openshell-0", "-n", "openshell"]))
      .status.containerStatuses[0].restartCount;
  const before = await restarts();
  const loop = `busybox timeout ${BUSY_SECONDS} sh -c 'while :; do :; done'`;
  await client.sh(`for i in 1 2 3 4 5 6 7 8; do ${loop} & done; wait`);
  assertEquals(await restarts(), before);
}
