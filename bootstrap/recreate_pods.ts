/**
 * Pods that a boot of the guest ends for good: their restart policy is Never, and their controller leaves a failed pod
 * alone. A payload names the kinds that own such pods; after a boot the failed ones are deleted, and the controllers
 * create them again.
 *
 * @module
 */
import { describeError } from "../vm/error.ts";
import type { Span } from "../vm/event.ts";
import { startBeside } from "../vm/together.ts";
import { waitFor } from "../vm/wait.ts";
import type { ApiClient } from "./api_request.ts";
import { type ApiAccess, withApi } from "./guest_api.ts";

/** How {@linkcode recreateLostPods} finds pods. */
export interface RecreateOptions {
  /** `Kind.group` of the owners, such as `Sandbox.agents.x-k8s.io`. */
  readonly kinds: readonly string[];
  /** When this run of the guest began, ms since 1970. */
  readonly startedAt: number;
  readonly signal: AbortSignal;
}

/** Kubelet looks at all pods of before within seconds of its start; under emulation and load within minutes. */
const SETTLE_TIMEOUT_MS = 5 * 60_000;
const INTERVAL_MS = 2000;
const CALL_TIMEOUT_MS = 20_000;

interface Pod {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly creationTimestamp: string;
    readonly deletionTimestamp?: string;
    readonly ownerReferences?: readonly {
      readonly apiVersion: string;
      readonly kind: string;
      readonly controller?: boolean;
    }[];
  };
  readonly status?: {
    readonly phase?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly lastTransitionTime?: string;
    }[];
    readonly containerStatuses?: readonly {
      readonly state?: { readonly running?: { readonly startedAt?: string } };
    }[];
  };
}

type Api = Pick<ApiClient, "call">;

/**
 * Runs {@linkcode recreateLostPods} beside what follows READY and logs what was done; what goes wrong becomes a warning.
 * Disposing the stack ends it and waits for that.
 */
export function startRecreating(
  stack: AsyncDisposableStack,
  span: Span,
  access: ApiAccess,
  options: RecreateOptions,
): void {
  startBeside(stack, options.signal, async (signal) => {
    try {
      const recreate = (api: Api) => recreateLostPods(api, { ...options, signal });
      const pods = await withApi(access, signal, recreate);
      if (pods.length === 0) return;
      const names = pods.join(", ");
      span.log(`created again after the boot: ${names}; processes in them are lost, volumes kept`);
    } catch (error) {
      if (signal.aborted) return;
      span.warn(`pods of before were not looked after: ${describeError(error)}`);
    }
  });
}

/**
 * Waits until kubelet has looked at every pod of before and deletes those that failed by the boot. Pods that had failed
 * before it stay as they are. Returns namespace/name of each deleted pod.
 *
 * @throws GatewayError `timeout` with the pod that kubelet did not look at, or the signal's reason.
 */
export async function recreateLostPods(api: Api, options: RecreateOptions): Promise<string[]> {
  const { startedAt, signal } = options;
  const deleted = new Set<string>();
  return await waitFor({
    what: "kubelet look at the pods of before the start",
    probe: async (inner) => {
      const pods = (await ownedPods(api, options.kinds, inner))
        .filter((pod) => Date.parse(pod.metadata.creationTimestamp) < startedAt);
      let unseen: Pod | undefined;
      for (const pod of pods) {
        const fate = fateOf(pod, startedAt);
        if (fate === "lost") deleted.add(await deletePod(api, pod, inner));
        else if (fate === "unseen") unseen ??= pod;
      }
      if (unseen) throw new Error(`${nameOf(unseen)} is not looked at yet`);
      return [...deleted];
    },
    timeoutMs: SETTLE_TIMEOUT_MS,
    intervalMs: INTERVAL_MS,
    probeTimeoutMs: CALL_TIMEOUT_MS,
    signal,
  });
}

/**
 * What became of a pod of before the start. Pure.
 * unseen: its status is still that of before. lost: it failed by the start. kept: it runs, or had ended before.
 */
export function fateOf({ metadata, status }: Pod, startedAt: number): "unseen" | "lost" | "kept" {
  if (metadata.deletionTimestamp !== undefined) return "kept";
  const phase = status?.phase;
  if (phase === "Failed") {
    const changes = (status?.conditions ?? [])
      .map(({ lastTransitionTime }) => Date.parse(lastTransitionTime ?? ""));
    // Whole seconds: the API cuts the rest off.
    return changes.some((at) => at >= Math.floor(startedAt / 1000) * 1000) ? "lost" : "kept";
  }
  if (phase !== "Running") return "kept";
  const started = (status?.containerStatuses ?? [])
    .map(({ state }) => Date.parse(state?.running?.startedAt ?? ""));
  return started.some((at) => at < startedAt) ? "unseen" : "kept";
}

/** Whether the controller of a pod is an object of one of the kinds. Pure. */
export function isOwnedBy(
  { metadata }: { readonly metadata: Pick<Pod["metadata"], "ownerReferences"> },
  kinds: readonly string[],
): boolean {
  const owner = metadata.ownerReferences?.find(({ controller }) => controller === true);
  if (!owner) return false;
  const [group, version] = owner.apiVersion.split("/");
  return kinds.includes(version === undefined ? owner.kind : `${owner.kind}.${group}`);
}

async function ownedPods(api: Api, kinds: readonly string[], signal: AbortSignal): Promise<Pod[]> {
  const { items } = await api.call({ method: "GET", path: "/api/v1/pods", signal }) as unknown as {
    items: readonly Pod[];
  };
  return items.filter((pod) => isOwnedBy(pod, kinds));
}

async function deletePod(api: Api, pod: Pod, signal: AbortSignal): Promise<string> {
  const { namespace, name, uid } = pod.metadata;
  const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
  // Not one of the same name that was created meanwhile.
  const body = { preconditions: { uid } };
  await api.call({ method: "DELETE", path, body, signal }).catch((error) => {
    // Gone already, or another one.
    if (!/answered (404|409)/.test(String(error))) throw error;
  });
  return nameOf(pod);
}

function nameOf({ metadata }: Pod): string {
  return `${metadata.namespace}/${metadata.name}`;
}
