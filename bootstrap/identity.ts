/**
 * Makes a guest that went on from another instance's memory an instance of its own: host name, ssh host key and machine
 * id inside, its certificates in the cluster, and proof that the old ones are refused.
 * What the two go on sharing (the cluster's own authority and keys) is written in docs/architecture.md.
 * It must not be used for an instance that goes on as itself.
 *
 * @module
 */
import { join } from "@std/path";
import type { GvproxyClient } from "../net/gvproxy.ts";
import { hostPort, LOOPBACK } from "../net/forward.ts";
import type { JsonValue, Span } from "../vm/event.ts";
import type { SavedState } from "../vm/saved_state.ts";
import { pause, waitFor } from "../vm/wait.ts";
import { ApiClient } from "./api_request.ts";
import { type ApiCredentials, readCredentials } from "./kubeconfig.ts";
import { RELOADS_ANNOTATION } from "./manifests.ts";
import type { Pki } from "./pki.ts";
import { GUEST_ADDRESS, GUEST_API_PORT } from "./plan.ts";
import { getOnce } from "./probe_request.ts";
import { NAMESPACE, SECRET_NAMES, secretObjects } from "./secrets.ts";

const ADOPT_TIMEOUT_MS = 3 * 60_000;
const CALL_TIMEOUT_MS = 20_000;
/** kubelet may have looked at the Secret just before it changed; it is told to look again after this. */
const NUDGE_INTERVAL_MS = 1500;

/** What {@linkcode adoptCluster} works with. */
export interface AdoptParts {
  readonly from: NonNullable<SavedState["from"]>;
  readonly pki: Pki;
  /** The forwarded API, null when the user wants none; then one is opened for this alone. */
  readonly apiPort: number | null;
  readonly gvproxy: GvproxyClient;
  /** The cluster's own certificates are made anew, so a saved kubeconfig is of no use. */
  readonly renewed: boolean;
  /** The port that leads to the service. */
  readonly servicePort: number;
  /** Reads the guest's kubeconfig where the saved state has none. */
  readonly readKubeconfig: () => Promise<string>;
  readonly span: Span;
  readonly guarded: AbortSignal;
}

/**
 * Puts the instance's certificates into the cluster and waits until the service uses them and refuses the old ones.
 *
 * @throws GatewayError `service-not-ready` when it does not come to that, or the signal's reason.
 */
export async function adoptCluster(parts: AdoptParts): Promise<void> {
  const { span, guarded } = parts;
  await using stack = new AsyncDisposableStack();
  const credentials = await apiCredentials(parts);
  const port = parts.apiPort ?? await temporaryPort(stack, parts.gvproxy);
  using api = new ApiClient(port, credentials);
  await span.run("secrets", () => applySecrets(api, parts.pki, guarded));
  await span.run("certificates in use", async () => {
    const stop = new AbortController();
    const nudging = keepNudging(api, AbortSignal.any([guarded, stop.signal]));
    try {
      await waitForNewCertificates(parts);
    } finally {
      stop.abort();
      await nudging;
    }
  });
}

async function apiCredentials(parts: AdoptParts): Promise<ApiCredentials> {
  const { k3sYaml } = parts.from;
  const kept = k3sYaml === null || parts.renewed
    ? undefined
    : await Deno.readTextFile(k3sYaml).catch(() => undefined);
  return readCredentials(kept ?? await parts.readKubeconfig());
}

async function temporaryPort(stack: AsyncDisposableStack, gvproxy: GvproxyClient): Promise<number> {
  const port = await gvproxy.exposeLoopback(`${GUEST_ADDRESS}:${GUEST_API_PORT}`);
  stack.defer(() => gvproxy.unexpose(hostPort(LOOPBACK, port)).catch(() => {}));
  return port;
}

async function applySecrets(api: ApiClient, pki: Pki, signal: AbortSignal): Promise<void> {
  const objects = secretObjects(pki) as { metadata: { name: string } }[];
  await waitFor({
    what: "the cluster's API take the certificates",
    probe: async (inner) => {
      await Promise.all(objects.map((object) =>
        api.call({
          method: "PATCH",
          // The same manager as the auto-deploy folder's, which will say the same.
          path: `/api/v1/namespaces/${NAMESPACE}/secrets/${object.metadata.name}` +
            "?fieldManager=deploy@k3s&force=true",
          type: "application/apply-patch+yaml",
          body: object as unknown as JsonValue,
          signal: inner,
        })
      ));
      return true;
    },
    timeoutMs: ADOPT_TIMEOUT_MS,
    intervalMs: 200,
    probeTimeoutMs: CALL_TIMEOUT_MS,
    signal,
    code: "service-not-ready",
    hint: "run `gateway logs --source cluster`, or start it with `gateway up --cold`",
  });
}

interface PodLike {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly annotations?: Record<string, string>;
  };
  readonly spec: {
    readonly volumes?: readonly { readonly secret?: { readonly secretName?: string } }[];
  };
}

/**
 * Makes kubelet look at the pods that mount the certificates: one that reloads them is touched, so that its volumes are
 * synced at once and not within a minute; another is replaced, once.
 */
async function keepNudging(api: ApiClient, signal: AbortSignal): Promise<void> {
  const replaced = new Set<string>();
  for (let round = 1; !signal.aborted; round++) {
    try {
      await nudge(api, round, replaced, signal);
    } catch {
      // The API may be busy right after it went on; the next round tries again.
    }
    await pause(NUDGE_INTERVAL_MS, signal).catch(() => {});
  }
}

async function nudge(
  api: ApiClient,
  round: number,
  replaced: Set<string>,
  signal: AbortSignal,
): Promise<void> {
  const pods = `/api/v1/namespaces/${NAMESPACE}/pods`;
  const list = await api.call({ method: "GET", path: pods, signal }) as unknown as {
    items: PodLike[];
  };
  const ours = new Set<string>(Object.values(SECRET_NAMES));
  const first = replaced.size === 0 && round === 1;
  await Promise.all(list.items.map(async ({ metadata, spec }) => {
    if (!spec.volumes?.some(({ secret }) => ours.has(secret?.secretName ?? ""))) return;
    const path = `${pods}/${metadata.name}`;
    if (metadata.annotations?.[RELOADS_ANNOTATION] === "true") {
      const body = {
        metadata: { annotations: { "gateway.local/nudged": `${Date.now()}-${round}` } },
      };
      await api.call({ method: "PATCH", path, body, type: "application/merge-patch+json", signal });
    } else if (first || replaced.has(metadata.uid)) {
      replaced.add(metadata.uid);
      await api.call({ method: "DELETE", path, signal });
    }
  }));
}

async function waitForNewCertificates(parts: AdoptParts): Promise<void> {
  const { pki, from, servicePort: port, guarded } = parts;
  const read = (name: string) => Deno.readTextFile(join(from.pkiDir, name)).catch(() => undefined);
  const [certPem, keyPem] = await Promise.all([read("client.crt"), read("client.key")]);
  const current = { caPem: pki.caPem, certPem: pki.client.certPem, keyPem: pki.client.keyPem };
  await waitFor({
    what: "the service use this instance's certificates",
    probe: async (signal) => {
      // The demo answers plain HTTP, another service may not: an answer at all is enough, TLS has said yes by then.
      await getOnce({ port, path: "/", tls: current, signal });
      if (!certPem || !keyPem) return true;
      const old = { caPem: pki.caPem, certPem, keyPem };
      const answer = await getOnce({ port, path: "/", tls: old, signal }).catch(() => undefined);
      if (answer) throw new Error(`it still lets in the client of "${from.name}"`);
      return true;
    },
    timeoutMs: ADOPT_TIMEOUT_MS,
    intervalMs: 50,
    probeTimeoutMs: CALL_TIMEOUT_MS,
    signal: guarded,
    code: "service-not-ready",
    hint: "run `gateway kubectl -- get pods -n openshell`, or start it with `gateway up --cold`",
  });
  if (!certPem || !keyPem) {
    parts.span.warn(`the certificates of "${from.name}" are gone, so their refusal was not tried`);
  }
}
