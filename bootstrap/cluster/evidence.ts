/**
 * What is to be seen of a payload that does not answer: charts that could not be installed, pods, events, the ends of
 * logs. Bounded, on lines for people, and without what looks like a secret.
 * It must not change anything in the cluster.
 *
 * @module
 */
import { runSsh } from "../../net/guest_command.ts";
import { sshArgs } from "../../net/ssh.ts";
import { CLUSTER_LOG } from "../../rootfs/contract.ts";
import { GatewayError } from "../../vm/base/error.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { formatMs } from "../../vm/base/wait.ts";
import { CHART_LABEL, HELM_ERROR, SYSTEM_NAMESPACE } from "../payload/manifests.ts";
import type { Payload } from "../payload/payload.ts";
import { namespacesOf } from "../payload/secrets.ts";
import { openText } from "../view/redact.ts";
import type { ClusterApi } from "./api.ts";
import {
  type ClusterEvent,
  containersOf,
  type ContainerStatus,
  eventLines,
  isReady,
  lastLog,
  type PodStatus,
  podWords,
} from "./pod_story.ts";

const MOST = { lines: 60, columns: 240, pods: 8, events: 8, logs: 3, logLines: 10 };

/** What was gathered. */
export interface Evidence {
  readonly lines: readonly string[];
  /** Why a chart could not be installed, in Helm's words. */
  readonly chartFault?: string | undefined;
}

/** The error of a payload that did not answer, with what was seen. */
export function notReady(
  error: GatewayError,
  told: Evidence & {
    readonly payload: Payload;
    readonly keep: boolean;
    readonly instance: string;
    readonly deployLog?: readonly string[];
    /** How long it really was waited for: a step of the wait may have a shorter bound. */
    readonly waitedMs?: number;
  },
): GatewayError {
  const { payload, keep, instance, chartFault, deployLog = [] } = told;
  const name = instance === "default" ? "" : ` --name ${instance}`;
  const lines = [...deployLog.map((line) => `manifests: ${line}`), ...told.lines];
  const advice = keep
    ? `look inside with \`gateway kubectl${name} -- get pods -A\`, then stop it: gateway down${name}`
    : keepAdvice(instance);
  const awaited = awaitedThing(error);
  return new GatewayError({
    code: "service-not-ready",
    what: awaited === undefined
      ? `${error.what} of the payload "${payload.name}"`
      : "Timed out after " +
        formatMs(told.waitedMs ?? payload.service.health.timeoutSeconds * 1000) +
        ` waiting for the payload "${payload.name}" to answer`,
    why: chartFault ??
      (awaited === undefined ? error.why : `the last wait was for ${awaited}: ${error.why}`),
    // What ended before the bound knows better what to do.
    fix: awaited === undefined ? `${error.fix}; ${advice}` : advice,
    details: lines.slice(0, MOST.lines).map((line) => openText(line, MOST.columns)),
    cause: error,
  });
}

/** What a wait was for whose bound was reached; that bound is only what was left of the payload's own. */
function awaitedThing({ what }: GatewayError): string | undefined {
  return /^Timed out after [\w. ]+? waiting for (.+)$/.exec(what)?.[1];
}

/** What to do about a payload whose VM is gone. */
export function keepAdvice(instance: string): string {
  const name = instance === "default" ? "" : ` --name ${instance}`;
  return `correct the payload; \`gateway up${name} --keep\` leaves the VM running to look inside`;
}

/** What the auto-deploy folder could not apply, newest last. */
export async function readDeployFaults(
  paths: InstancePaths,
  signal: AbortSignal,
): Promise<string[]> {
  const script = `grep -h 'cannot deploy ' ${CLUSTER_LOG} | tail -n 3`;
  const args = sshArgs(`${paths.sshDir}/config`, paths.name, ["sh", "-c", script]);
  const { stdout } = await runSsh({ args, signal, check: false, timeoutMs: 30_000 });
  const lines = stdout.split("\n").map((line) => line.replace(/^.*?cannot deploy /, ""));
  return [...new Set(lines.filter((line) => line.trim() !== ""))];
}

/** Asks the cluster. Rejects with what broke the connection, or the signal's reason. */
export async function gatherEvidence(
  api: Pick<ClusterApi, "call" | "text">,
  payload: Payload,
  signal: AbortSignal,
): Promise<Evidence> {
  const look = new Look(api, signal);
  const charts = payload.charts.length > 0 ? await look.charts() : { lines: [] };
  const lines = [...charts.lines];
  for (const namespace of namespacesOf(payload)) {
    lines.push(...await look.namespace(namespace));
  }
  return { ...charts, lines };
}

interface Pod {
  readonly metadata: { readonly name: string };
  readonly status: PodStatus;
}

interface Job {
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
  readonly status: { readonly succeeded?: number; readonly failed?: number };
}

interface HelmChart {
  readonly metadata: {
    readonly name: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly status?: {
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly message?: string;
    }[];
  };
}

class Look {
  constructor(
    private readonly api: Pick<ClusterApi, "call" | "text">,
    private readonly signal: AbortSignal,
  ) {}

  /** The jobs that install charts, and what the last try of one that has not succeeded said. */
  async charts(): Promise<Evidence> {
    const { lines, chartFault } = await this.#helmCharts();
    const jobs = await this.#helmJobs();
    return { lines: [...lines, ...jobs.lines], chartFault: chartFault ?? jobs.chartFault };
  }

  /** The charts whose last try failed. */
  async #helmCharts(): Promise<Evidence> {
    const path = `/apis/helm.cattle.io/v1/namespaces/${SYSTEM_NAMESPACE}/helmcharts`;
    let chartFault: string | undefined;
    const lines: string[] = [];
    // A cluster binary without the controller does not know the kind.
    for (const { metadata, status } of await this.#list<HelmChart>(path).catch(() => [])) {
      const failed = status?.conditions?.find((one) => one.type === "Failed");
      const said = metadata.annotations?.[HELM_ERROR] ??
        (failed?.status === "True" ? failed.message : undefined);
      if (said === undefined) continue;
      chartFault ??= installFault(metadata.name, said);
      lines.push(...said.split("\n").map((line) => `chart ${metadata.name}: ${line}`));
    }
    return { lines: lines.slice(0, MOST.logLines), chartFault };
  }

  async #helmJobs(): Promise<Evidence> {
    const path = `/apis/batch/v1/namespaces/${SYSTEM_NAMESPACE}/jobs?labelSelector=${CHART_LABEL}`;
    const lines: string[] = [];
    let chartFault: string | undefined;
    for (const { metadata, status } of await this.#list<Job>(path)) {
      if ((status.succeeded ?? 0) > 0) continue;
      const chart = metadata.labels?.[CHART_LABEL] ?? metadata.name;
      const tries = status.failed ?? 0;
      lines.push(`chart ${chart}: not installed, ${tries} ${tries === 1 ? "try" : "tries"} failed`);
      const selector = encodeURIComponent(`job-name=${metadata.name}`);
      const pods = await this.#list<Pod>(
        `/api/v1/namespaces/${SYSTEM_NAMESPACE}/pods?labelSelector=${selector}`,
      );
      const log = await this.#lastLog(SYSTEM_NAMESPACE, pods);
      lines.push(...log.map((line) => `  ${line}`));
      const said = log.findLast((line) => /error/i.test(line)) ?? log.at(-1);
      if (said) chartFault ??= installFault(chart, said);
    }
    return { lines, chartFault };
  }

  /** Of the newest pod that has one. */
  async #lastLog(namespace: string, pods: readonly Pod[]): Promise<string[]> {
    for (const pod of [...pods].reverse()) {
      for (const container of pod.status.containerStatuses ?? []) {
        const log = await this.#log(namespace, pod, container);
        if (log.length > 0) return log;
      }
    }
    return [];
  }

  /** Pods that are not ready, warnings, and the ends of logs. */
  async namespace(namespace: string): Promise<string[]> {
    const pods = (await this.#list<Pod>(`/api/v1/namespaces/${namespace}/pods`))
      .filter(({ status }) => status.phase !== "Succeeded");
    if (pods.length === 0) return [`no pod is in the namespace ${namespace}`];
    const bad = pods.filter(({ status }) => !isReady(status));
    const shown = (bad.length > 0 ? bad : pods).slice(0, MOST.pods);
    const lines = shown.map(({ metadata, status }) => {
      const now = `${status.reason ?? status.phase ?? "unknown"}, ${
        isReady(status) ? "" : "not "
      }ready`;
      return `pod ${namespace}/${metadata.name}: ${[now, ...podWords(status)].join("; ")}`;
    });
    const path = `/api/v1/namespaces/${namespace}/events?fieldSelector=type%3DWarning`;
    lines.push(...eventLines(await this.#list<ClusterEvent>(path), MOST.events));
    for (const pod of shown.slice(0, MOST.logs)) {
      const containers = containersOf(pod.status);
      const one = containers.find(({ ready }) => !ready) ?? containers[0];
      const log = one === undefined ? [] : await this.#log(namespace, pod, one);
      if (log.length === 0) continue;
      lines.push(`log of ${pod.metadata.name}/${one!.name}:`, ...log.map((line) => `  ${line}`));
    }
    return lines;
  }

  #log(namespace: string, pod: Pod, container: ContainerStatus): Promise<string[]> {
    const question = { namespace, pod: pod.metadata.name, container, lines: MOST.logLines };
    return lastLog(this.api, question, this.signal);
  }

  async #list<T>(path: string): Promise<readonly T[]> {
    const answer = await this.api.call({ method: "GET", path, signal: this.signal });
    return (answer as unknown as { readonly items?: readonly T[] }).items ?? [];
  }
}

function installFault(chart: string, said: string): string {
  return `the chart "${chart}" could not be installed: ${openText(said, 400)}`;
}
