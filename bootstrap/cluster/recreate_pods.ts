/**
 * Pods that a boot of the guest ends for good: their restart policy is Never, and their controller leaves a failed pod
 * alone. A payload names the kinds that own such pods; after a boot the failed ones are deleted, and the controllers
 * create them again. So are, in a clone, those that hold its source's certificates.
 *
 * @module
 */
import { describeError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { type Background, startBeside } from "../../vm/base/together.ts";
import { waitFor } from "../../vm/base/wait.ts";
import type { Payload } from "../payload/payload.ts";
import { secretNames } from "../payload/secrets.ts";
import { type ApiAccess, withApi } from "./access.ts";
import { deletePod, isOwnedBy, nameOf, type Pod, type PodApi, secretUse } from "./pods.ts";

/** How {@linkcode recreateLostPods} and {@linkcode replaceOldPods} find pods. */
export interface RecreateOptions {
  /** The kinds of the owners, and the Secrets whose users a clone replaces. */
  readonly payload: Pick<Payload, "recreatePodsOf" | "secrets" | "namespace">;
  /** When this run of the guest began, ms since 1970. */
  readonly startedAt: number;
  readonly signal: AbortSignal;
}

/** Kubelet looks at all pods of before within seconds of its start; under emulation and load within minutes. */
const SETTLE_TIMEOUT_MS = 5 * 60_000;
const INTERVAL_MS = 2000;
const CALL_TIMEOUT_MS = 20_000;

/**
 * Runs {@linkcode recreateLostPods}, or in a clone {@linkcode replaceOldPods}, beside what follows READY and logs what was
 * done; what goes wrong becomes a warning.
 */
export function startRecreating(
  span: Span,
  access: ApiAccess,
  options: RecreateOptions & { readonly adopted: boolean },
): Background {
  const [work, cause] = options.adopted
    ? [replaceOldPods, "with this instance's certificates"] as const
    : [recreateLostPods, "after the boot"] as const;
  return startBeside(options.signal, async (signal) => {
    try {
      const pods = await withApi(access, signal, (api) => work(api, { ...options, signal }));
      if (pods.length === 0) return;
      const names = pods.join(", ");
      span.log(`created again ${cause}: ${names}; processes in them are lost, volumes kept`);
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
export async function recreateLostPods(api: PodApi, options: RecreateOptions): Promise<string[]> {
  const { payload: { recreatePodsOf: kinds }, startedAt, signal } = options;
  const deleted = new Set<string>();
  return await waitFor({
    what: "kubelet to look at the pods of before the start",
    probe: async (inner) => {
      const pods = await podsOfBefore(api, kinds, startedAt, inner);
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
export function fateOf(
  { metadata, spec, status }: Pod,
  startedAt: number,
): "unseen" | "lost" | "kept" {
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
  if (started.some((at) => at < startedAt)) return "unseen";
  // Kubelet reports terminated containers a moment before it sets the pod's phase to Failed.
  const runs = started.some((at) => at >= startedAt);
  return runs || spec.restartPolicy !== "Never" ? "kept" : "unseen";
}

/**
 * Deletes the pods of before this run that have the payload's Secrets, which are another instance's. Returns
 * namespace/name of each deleted pod.
 *
 * @throws GatewayError `timeout` when the API does not take it, or the signal's reason.
 */
export async function replaceOldPods(api: PodApi, options: RecreateOptions): Promise<string[]> {
  const { payload, startedAt, signal } = options;
  const { recreatePodsOf: kinds } = payload;
  return await waitFor({
    what: "the end of the pods that have the source's certificates",
    probe: async (inner) => {
      const pods = await podsOfBefore(api, kinds, startedAt, inner);
      const holders = pods.filter((pod) =>
        secretUse(pod, secretNames(payload, pod.metadata.namespace)) !== "none"
      );
      return await Promise.all(holders.map((pod) => deletePod(api, pod, inner)));
    },
    timeoutMs: SETTLE_TIMEOUT_MS,
    intervalMs: INTERVAL_MS,
    probeTimeoutMs: CALL_TIMEOUT_MS,
    signal,
  });
}

async function podsOfBefore(
  api: PodApi,
  kinds: readonly string[],
  startedAt: number,
  signal: AbortSignal,
): Promise<Pod[]> {
  const { items } = await api.call<{ items: readonly Pod[] }>({
    ...{ method: "GET", path: "/api/v1/pods", signal },
  });
  return items.filter((pod) =>
    isOwnedBy(pod, kinds) && Date.parse(pod.metadata.creationTimestamp) < startedAt
  );
}
