/**
 * Pods with a NetworkPolicy, for a walk through a cluster: one may ask the server, one may not. Addresses and not names
 * are asked, so that only the policy can be the reason of a refusal.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { waitFor } from "../../vm/base/wait.ts";
import type { Client } from "./client.ts";
import type { TestHome } from "./harness.ts";

const NAMESPACE = "policy";
const READY_MS = 240_000;
/** How long one question waits: an emulated guest answers within one second. */
const ASK_SECONDS = 5;

function podOf(name: string, command: string, probe = ""): string {
  return `
apiVersion: v1
kind: Pod
metadata: {name: ${name}, namespace: ${NAMESPACE}, labels: {app: ${name}}}
spec:
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  containers:
  - name: c
    image: gateway.local/busybox:1.37
    command: [sh, -c, "trap exit TERM; ${command} & wait"]
${probe}
---`;
}

const PROBE =
  `    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1, timeoutSeconds: 10}`;

const OBJECTS = `
apiVersion: v1
kind: Namespace
metadata: {name: ${NAMESPACE}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: ${NAMESPACE}}
spec: {podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friend, namespace: ${NAMESPACE}}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: friend}}}]
    ports: [{port: 8000, endPort: 8999}]
---
${
  podOf("server", "cd /tmp; echo hello >index.html; busybox httpd -f -p 8080", PROBE) +
  podOf("friend", "sleep 100000") + podOf("stranger", "sleep 100000")
}
`;

/** The pods, their policies, and who reaches whom. */
export class PolicyPods {
  constructor(private readonly home: TestHome, private readonly client: Client) {}

  /** Makes the policies before the pods; the server is ready in spite of them, since kubelet's probes are the node's. */
  async create(): Promise<void> {
    await this.home.ok(["kubectl", "--", "apply", "-f", "-"], { stdin: OBJECTS });
    await this.ready();
  }

  /** Waits for all three. */
  async ready(): Promise<void> {
    const wait = ["wait", "--for=condition=Ready", "--all", `--timeout=${READY_MS / 1000}s`];
    await this.home.ok(["kubectl", "--", "-n", NAMESPACE, ...wait, "pod"], {
      timeoutMs: READY_MS + 30_000,
    });
  }

  /** The friend is served, the stranger gets no answer. */
  async assertClosed(): Promise<void> {
    const address = await this.#address();
    assertEquals(await this.#ask("friend", address), "hello");
    assertEquals(await this.#ask("stranger", address), "", "the policy does not hold");
  }

  /** Removes the policies; now the stranger is served, too. */
  async removePolicies(): Promise<void> {
    const address = await this.#address();
    await this.home.ok(["kubectl", "--", "-n", NAMESPACE, "delete", "networkpolicy", "--all"]);
    await waitFor({
      what: "the stranger to be served without a policy",
      probe: async () => (await this.#ask("stranger", address)) === "hello" || undefined,
      timeoutMs: 60_000,
      intervalMs: 500,
    });
  }

  /** A field that this Kubernetes does not have is refused, and nothing is made. */
  async assertUnknownFieldRefused(): Promise<void> {
    const { code, stderr } = await this.home.call(["kubectl", "--", "apply", "-f", "-"], {
      stdin: UNKNOWN_FIELD,
    });
    assert(code !== 0 && stderr.includes('unknown field "spec.denyAll"'), stderr);
  }

  async remove(): Promise<void> {
    await this.home.ok(["kubectl", "--", "delete", "namespace", NAMESPACE], { timeoutMs: 120_000 });
  }

  async #address(): Promise<string> {
    const pod = await this.client.kubectlJson(["-n", NAMESPACE, "get", "pod", "server"]);
    return pod.status.podIP;
  }

  async #ask(from: string, address: string): Promise<string> {
    const ask = ["wget", "-q", "-T", `${ASK_SECONDS}`, "-O", "-", `http://${address}:8080/`];
    const result = await this.home.call([
      "kubectl",
      "--",
      "-n",
      NAMESPACE,
      "exec",
      from,
      "--",
      ...ask,
    ]);
    return result.stdout.trim();
  }
}

const UNKNOWN_FIELD = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: newer, namespace: ${NAMESPACE}}
spec: {podSelector: {}, denyAll: true}
`;
