/**
 * Makes a guest that went on from another instance's memory an instance of its own: host name, ssh host key and machine
 * id inside, its certificates in the cluster, and proof that the old ones are refused.
 * What the two go on sharing (the cluster's own authority and keys) is written in docs/saved-states.md.
 * It must not be used for an instance that goes on as itself.
 *
 * @module
 */
import { join } from "@std/path";
import { reachedAt } from "../../net/forward.ts";
import type { GvproxyClient } from "../../net/gvproxy.ts";
import type { JsonValue, Span } from "../../vm/base/event.ts";
import { pause, waitFor } from "../../vm/base/wait.ts";
import type { PortForward } from "../../vm/instance/instance.ts";
import type { SavedState } from "../../vm/instance/saved_state.ts";
import type { Payload } from "../payload/payload.ts";
import {
  namespacesOf,
  type SecretMaterial,
  secretNames,
  secretObjects,
} from "../payload/secrets.ts";
import { usesTls } from "../payload/service.ts";
import { openApiPort } from "./access.ts";
import { ClusterApi } from "./api.ts";
import { type ApiCredentials, readCredentials } from "./kubeconfig.ts";
import { localTransport } from "./local_transport.ts";
import { deletePod, isOwnedBy, type Pod, secretUse } from "./pods.ts";
import type { RequestTls } from "./probe_request.ts";
import { askOnce } from "./readiness.ts";
import { placementLines } from "./secret_volumes.ts";

/** On a pod whose service takes changed certificates into use by itself: it is not restarted when they change. */
export const RELOADS_ANNOTATION = "gateway.local/reloads-certificates";

const ADOPT_TIMEOUT_MS = 3 * 60_000;
const CALL_TIMEOUT_MS = 20_000;
/** How long a service may take to notice files that were placed, before kubelet is asked to sync them. */
const PLACED_MS = 5000;
/** kubelet may have looked at the Secret just before it knew of the change; it is told to look again after this. */
const NUDGE_INTERVAL_MS = 500;

/** What {@linkcode adoptCluster} works with. */
export interface AdoptParts {
  readonly from: NonNullable<SavedState["from"]>;
  readonly payload: Payload;
  /** What the payload's Secrets are filled with. */
  readonly material: SecretMaterial;
  /** The forwarded API, null when the user wants none; then one is opened for this alone. */
  readonly apiPort: number | null;
  readonly gvproxy: GvproxyClient;
  /** The cluster's own certificates are made anew, so a saved kubeconfig is of no use. */
  readonly renewed: boolean;
  /** The forward that leads to the service. */
  readonly forward: PortForward;
  /** Reads the guest's kubeconfig where the saved state has none. */
  readonly readKubeconfig: () => Promise<string>;
  /** Puts files of Secrets into running pods; may reject, then kubelet does it. See {@linkcode placementLines}. */
  readonly placeFiles: (lines: Promise<string>) => Promise<void>;
  readonly span: Span;
  readonly guarded: AbortSignal;
  /** The payload's own bound, as much as is left of it. */
  readonly timeoutMs: number;
}

/**
 * Puts the instance's certificates into the cluster and waits until the service uses them and refuses the old ones.
 *
 * @throws GatewayError `service-not-ready` when it does not come to that, or the signal's reason.
 */
export async function adoptCluster(parts: AdoptParts): Promise<void> {
  const { span, payload } = parts;
  if (payload.secrets.length === 0) return;
  const credentials = await apiCredentials(parts);
  await using opened = await openApiPort(parts.apiPort, parts.gvproxy);
  using api = new ClusterApi(localTransport(opened.port, credentials));
  const nudger = new Nudger(api, payload);
  const stop = new AbortController();
  const signal = AbortSignal.any([parts.guarded, stop.signal]);
  const given = span.run("secrets", () => applySecrets(api, parts));
  nudger.waitFor(placeFiles(nudger, given, { ...parts, guarded: signal }));
  await given;
  await span.run("certificates in use", async () => {
    const nudging = nudger.keepNudging(signal);
    try {
      await nudger.replaced(parts);
      // Of another service nobody can see from outside what it does with them.
      if (usesTls(payload.service.protocol)) await waitForNewCertificates(parts);
    } finally {
      stop.abort();
      await nudging;
    }
    // kubelet may have read the old Secrets just before, and would write them back.
    await nudger.touchOnce(parts.guarded);
  });
}

/** Ends when kubelet is to be asked for the same: some time after the files are there, or when they cannot be placed. */
async function placeFiles(nudger: Nudger, given: Promise<void>, parts: AdoptParts): Promise<void> {
  try {
    const pods = await nudger.reloading(parts.guarded);
    if (pods.length === 0) return;
    const lines = given.then(() =>
      placementLines(pods, secretObjects(parts.payload, parts.material))
    );
    // Whoever reads them hears of it.
    lines.catch(() => {});
    await parts.placeFiles(lines);
    await pause(PLACED_MS, parts.guarded);
  } catch {
    // A guest of an older root image cannot, and kubelet does it anyway.
  }
}

async function apiCredentials(parts: AdoptParts): Promise<ApiCredentials> {
  const { k3sYaml } = parts.from;
  const kept = k3sYaml === null || parts.renewed
    ? undefined
    : await Deno.readTextFile(k3sYaml).catch(() => undefined);
  return readCredentials(kept ?? await parts.readKubeconfig());
}

async function applySecrets(api: ClusterApi, parts: AdoptParts): Promise<void> {
  const objects = secretObjects(parts.payload, parts.material);
  await waitFor({
    what: "the cluster's API to take the certificates",
    probe: async (inner) => {
      await Promise.all(objects.map((object) =>
        api.call({
          method: "PATCH",
          // The same manager as the auto-deploy folder's, which will say the same.
          path: `/api/v1/namespaces/${object.metadata!.namespace}/secrets/` +
            object.metadata!.name +
            "?fieldManager=deploy@k3s&force=true",
          type: "application/apply-patch+yaml",
          body: object as unknown as JsonValue,
          signal: inner,
        })
      ));
      return true;
    },
    timeoutMs: Math.min(ADOPT_TIMEOUT_MS, parts.timeoutMs),
    intervalMs: 200,
    probeTimeoutMs: CALL_TIMEOUT_MS,
    signal: parts.guarded,
    code: "service-not-ready",
    hint: "run `gateway logs --source cluster`, or start it with `gateway up --cold`",
  });
}

/**
 * Makes kubelet look at the pods that use the certificates: one that reloads them is touched, so that its volumes are
 * synced at once and not within a minute; another is replaced, once.
 */
class Nudger {
  readonly #namespaces: readonly string[];
  /** The pods that were there at the first look, by namespace: younger ones have the new Secrets. */
  readonly #old = new Map<string, ReadonlySet<string>>();
  /** Namespaces in which the last look found a pod that is to be replaced. */
  readonly #leaving = new Set<string>();
  /** Pods were touched, or may be now. */
  #touched = false;
  #mayTouch = false;

  constructor(private readonly api: ClusterApi, private readonly payload: Payload) {
    this.#namespaces = namespacesOf(payload);
  }

  /** The pods whose service reloads what is in their files, as soon as the API tells. Rejects with the signal's reason. */
  async reloading(signal: AbortSignal): Promise<Pod[]> {
    const secrets = (namespace: string) => secretNames(this.payload, namespace);
    return await waitFor({
      what: "the cluster's API to tell its pods",
      probe: async (inner) => {
        const lists = await Promise.all(
          this.#namespaces.map(async (namespace) =>
            (await this.#pods(namespace, inner)).filter((pod) =>
              secretUse(pod, secrets(namespace)) === "files" && reloads(pod) &&
              !isOwnedBy(pod, this.payload.recreatePodsOf)
            )
          ),
        );
        return lists.flat();
      },
      timeoutMs: ADOPT_TIMEOUT_MS,
      intervalMs: 200,
      probeTimeoutMs: CALL_TIMEOUT_MS,
      signal,
    });
  }

  /** Touches no pod before this is over. */
  waitFor(placing: Promise<void>): void {
    void placing.then(() => this.#mayTouch = true);
  }

  /** Touches what reloads, unless that was done. Never rejects. */
  async touchOnce(signal: AbortSignal): Promise<void> {
    if (this.#touched) return;
    this.#mayTouch = true;
    for (const namespace of this.#namespaces) {
      await this.#nudge(namespace, 0, signal).catch(() => {});
    }
  }

  /** Goes on until the signal aborts. Never rejects. */
  async keepNudging(signal: AbortSignal): Promise<void> {
    for (let round = 1; !signal.aborted; round++) {
      for (const namespace of this.#namespaces) {
        // The API may be busy right after it went on; the next round tries again.
        await this.#nudge(namespace, round, signal).catch(() => {});
      }
      await pause(NUDGE_INTERVAL_MS, signal).catch(() => {});
    }
  }

  /** Waits until every namespace was looked at and the pods to be replaced are gone: until then one may still answer. */
  async replaced(parts: AdoptParts): Promise<void> {
    await waitFor({
      what: "the payload's pods to take this instance's Secrets",
      probe: () => {
        const looked = this.#old.size === this.#namespaces.length;
        return Promise.resolve((looked && this.#leaving.size === 0) || undefined);
      },
      timeoutMs: Math.min(ADOPT_TIMEOUT_MS, parts.timeoutMs),
      signal: parts.guarded,
      code: "service-not-ready",
    });
  }

  async #nudge(namespace: string, round: number, signal: AbortSignal): Promise<void> {
    const { api, payload } = this;
    const pods = `/api/v1/namespaces/${namespace}/pods`;
    const items = await this.#pods(namespace, signal);
    const secrets = secretNames(payload, namespace);
    const old = this.#old.get(namespace) ?? new Set(items.map(({ metadata }) => metadata.uid));
    let leaving = false;
    await Promise.all(items.map(async (pod) => {
      const { name, uid } = pod.metadata;
      const use = secretUse(pod, secrets);
      // Pods of these owners are made anew after READY: they need the service as it is then.
      if (use === "none" || isOwnedBy(pod, payload.recreatePodsOf)) return;
      const path = `${pods}/${name}`;
      if (use === "files" && reloads(pod)) {
        if (!this.#mayTouch) return;
        this.#touched = true;
        const body = {
          metadata: { annotations: { "gateway.local/nudged": `${Date.now()}-${round}` } },
        };
        const type = "application/merge-patch+json";
        await api.call({ method: "PATCH", path, body, type, signal });
      } else if (old.has(uid)) {
        leaving = true;
        await deletePod(api, pod, signal);
      }
    }));
    if (leaving) this.#leaving.add(namespace);
    else this.#leaving.delete(namespace);
    this.#old.set(namespace, old);
  }

  /** From the API server's memory: a list that has to be current can wait three seconds for its watch of the database. */
  async #pods(namespace: string, signal: AbortSignal): Promise<readonly Pod[]> {
    const path = `/api/v1/namespaces/${namespace}/pods?resourceVersion=0`;
    return (await this.api.call<{ items: readonly Pod[] }>({ method: "GET", path, signal })).items;
  }
}

const reloads = ({ metadata }: Pod) => metadata.annotations?.[RELOADS_ANNOTATION] === "true";

async function waitForNewCertificates(parts: AdoptParts): Promise<void> {
  const { material, from, forward, guarded, payload } = parts;
  const { service } = payload;
  const read = (name: string) => Deno.readTextFile(join(from.pkiDir, name)).catch(() => undefined);
  const [certPem, keyPem] = await Promise.all([read("client.crt"), read("client.key")]);
  const { caPem, client } = material.certificates;
  const at = reachedAt(forward);
  const answers = (tls: RequestTls, signal: AbortSignal) =>
    askOnce(service, at, tls, signal).then(() => true, () => false);
  await waitFor({
    what: "the service to use this instance's certificates",
    probe: async (signal) => {
      // An answer at all is enough, TLS has said yes by then.
      await askOnce(service, at, { caPem, ...client }, signal);
      if (!certPem || !keyPem || !await answers({ caPem, certPem, keyPem }, signal)) return true;
      // One that asks nobody for a certificate cannot refuse one.
      if (await answers({ caPem }, signal)) return true;
      throw new Error(`it still lets in the client of "${from.name}"`);
    },
    timeoutMs: Math.min(ADOPT_TIMEOUT_MS, parts.timeoutMs),
    intervalMs: 50,
    probeTimeoutMs: CALL_TIMEOUT_MS,
    signal: guarded,
    code: "service-not-ready",
    hint: `run \`gateway kubectl -- get pods -n ${payload.namespace}\`, ` +
      "or start it with `gateway up --cold`",
  });
  if ((!certPem || !keyPem) && !from.self) {
    parts.span.warn(`the certificates of "${from.name}" are gone, so their refusal was not tried`);
  }
}
