/**
 * Waits until what was applied is ready, tells how far each object is, and gathers what is to be seen when it does not
 * become so.
 * It must not apply or remove anything.
 *
 * @module
 */
import { GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { formatMs, waitFor } from "../../vm/base/wait.ts";
import { toJsonText } from "../yaml/kube_yaml.ts";
import { gatherEvidence, saysNoImage } from "./evidence.ts";
import type { ClusterApi, KubeObject } from "../cluster/api.ts";
import { idOf, objectLabel, objectWords, podTemplate } from "./objects.ts";
import type { PlacedObject } from "./plan.ts";
import { type Progress, progressOf, WAITED_KINDS } from "../cluster/progress.ts";

/** What {@linkcode awaitReady} needs. */
export interface AwaitOptions {
  readonly context: string;
  readonly timeoutMs: number;
  readonly span: Span;
  readonly signal: AbortSignal;
}

const INTERVAL_MS = 1000;
/** In a row that have to find all ready: a container that ends at once was ready for a moment. */
const LOOKS = 2;
const EVIDENCE_TIMEOUT_MS = 30_000;

interface Waited extends PlacedObject {
  live: KubeObject;
  progress: Progress;
}

/**
 * Waits for all of them. Each change of an object's progress is logged; what failed is told as warnings.
 *
 * @throws GatewayError `deploy-failed` when the bound is reached or an object says that it failed.
 */
export async function awaitReady(
  api: ClusterApi,
  placed: readonly PlacedObject[],
  options: AwaitOptions,
): Promise<void> {
  const { span, signal, timeoutMs } = options;
  const waited: Waited[] = placed.filter(({ object }) => WAITED_KINDS.includes(object.kind))
    .map((one) => ({ ...one, live: one.object, progress: { state: "waiting", words: "" } }));
  const look = async (signal: AbortSignal) => {
    for (const one of waited) {
      one.live = await api.get(one.path, signal) ?? one.object;
      const progress = await currentProgress(api, one.live, placed, signal);
      if (progress.words !== one.progress.words) {
        span.log(`${objectLabel(idOf(one.object))}: ${progress.words}`);
      }
      one.progress = progress;
    }
  };
  let lost: unknown;
  let ready = 0;
  try {
    await waitFor({
      what: "the payload to be ready",
      probe: async (signal) => {
        await look(signal);
        if (waited.some(({ progress }) => progress.state === "failed")) return true;
        ready = waited.every(({ progress }) => progress.state === "ready") ? ready + 1 : 0;
        return ready === LOOKS || undefined;
      },
      timeoutMs,
      intervalMs: INTERVAL_MS,
      probeTimeoutMs: 60_000,
      signal,
    });
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== "timeout") throw error;
    lost = error;
  }
  const open = waited.filter(({ progress }) => progress.state !== "ready");
  if (open.length === 0) return;
  const late = lost !== undefined && open.every(({ progress }) => progress.state === "waiting");
  throw await notReady(api, open, { ...options, late });
}

/** A claim that waits for its first pod is as ready as it gets where none of the payload's pods uses it. */
async function currentProgress(
  api: ClusterApi,
  object: KubeObject,
  placed: readonly PlacedObject[],
  signal: AbortSignal,
): Promise<Progress> {
  if (object.kind === "HelmChart") return await chartProgress(api, object, signal);
  const progress = progressOf(object);
  if (object.kind !== "PersistentVolumeClaim" || progress.state !== "waiting") return progress;
  const used = placed.some(({ object: other }) =>
    toJsonText(podTemplate(other)?.spec?.volumes ?? []).includes(
      `"claimName":"${object.metadata.name}"`,
    )
  );
  const name = object.spec?.storageClassName;
  if (used || !name) return progress;
  const path = `/apis/storage.k8s.io/v1/storageclasses/${encodeURIComponent(name)}`;
  // A user without the right to look waits until the bound, which tells why.
  const found = await api.get(path, signal).catch(() => undefined);
  return found?.volumeBindingMode === "WaitForFirstConsumer"
    ? { state: "ready", words: "gets a volume with its first pod" }
    : progress;
}

/** A chart is as far as the job that installs it. */
async function chartProgress(
  api: ClusterApi,
  chart: KubeObject,
  signal: AbortSignal,
): Promise<Progress> {
  const name = chart.status?.jobName;
  if (!name) return { state: "waiting", words: "not yet seen by the Helm controller" };
  const namespace = encodeURIComponent(chart.metadata.namespace ?? "default");
  const job = await api.get(`/apis/batch/v1/namespaces/${namespace}/jobs/${name}`, signal);
  if (!job) return { state: "waiting", words: "its job is not there yet" };
  const { state, words } = progressOf(job);
  return { state, words: `installing: ${words}` };
}

async function notReady(
  api: ClusterApi,
  open: readonly Waited[],
  options: AwaitOptions & { readonly late: boolean },
): Promise<GatewayError> {
  const { context, span, signal, timeoutMs, late } = options;
  // Bounded by itself: the wait before may have ended since the cluster does not answer.
  const bound = AbortSignal.any([signal, AbortSignal.timeout(EVIDENCE_TIMEOUT_MS)]);
  let noImage = false;
  for (const one of open.slice(0, 4)) {
    span.warn(`${objectLabel(idOf(one.object))}: ${one.progress.words}`);
    const lines = await gatherEvidence(api, one.live, bound).catch(() => {
      if (signal.aborted) throw signal.reason;
      return ["the cluster does not answer"];
    });
    noImage ||= saysNoImage(lines);
    for (const line of lines) span.warn(`  ${line}`);
  }
  const worst = open.toSorted((a, b) =>
    (a.progress.state === "failed" ? -1 : 0) - (b.progress.state === "failed" ? -1 : 0)
  )[0]!;
  const id = idOf(worst.object);
  const namespace = id.namespace ?? "default";
  return new GatewayError({
    code: "deploy-failed",
    what: late
      ? `Timed out after ${formatMs(timeoutMs)} waiting for the payload to be ready`
      : "Cannot make the payload ready",
    why: `${objectWords(id)}: ${worst.progress.words}`,
    fix: noImage
      ? "push the images to a registry that the cluster reaches and pass --image-prefix REGISTRY/PATH"
      : `look with \`kubectl --context ${context} -n ${namespace} get pods,events\`; ` +
        "it stays as it is, and --timeout takes more seconds",
  });
}
