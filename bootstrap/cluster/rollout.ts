/**
 * A payload whose content is new to the instance: its files are put in place, and a start waits until the cluster has
 * taken them and installed the charts, so that READY speaks of this content.
 * It must not apply objects itself: the cluster's auto-deploy does, and removes what is gone.
 *
 * @module
 */
import { runSsh } from "../../net/guest_command.ts";
import { sshArgs } from "../../net/ssh.ts";
import { GUEST_LIB, MANIFESTS_DIR } from "../../rootfs/contract.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { waitFor } from "../../vm/base/wait.ts";
import {
  CHART_LABEL,
  chartRevision,
  HELM_ERROR,
  RECORD_NAME,
  SYSTEM_NAMESPACE,
} from "../payload/manifests.ts";
import type { PreparedPayload } from "../payload/prepare.ts";
import { namespacesOf } from "../payload/secrets.ts";
import type { ClusterApi, KubeObject } from "./api.ts";
import { progressOf } from "./progress.ts";

const WORKLOADS = [
  ["deployments", "Deployment"],
  ["statefulsets", "StatefulSet"],
  ["daemonsets", "DaemonSet"],
] as const;

/** What the guest's own boot does with its payload, for a guest that goes on. */
const PLACE = [
  "set -eu",
  `lib=${GUEST_LIB}`,
  '. "$lib/lib.sh"',
  "umask 077",
  `place_manifests ${MANIFESTS_DIR}`,
];

/**
 * Puts the payload's files where the cluster looks for them. The guest has read its payload disk again.
 *
 * @throws GatewayError `ssh-failed`, or the signal's reason.
 */
export async function placeContent(paths: InstancePaths, signal: AbortSignal): Promise<void> {
  const words = ["sh", "-c", PLACE.join("\n")];
  await runSsh({
    args: sshArgs(`${paths.sshDir}/config`, paths.name, words),
    signal,
    timeoutMs: 60_000,
    code: "ssh-failed",
    what: "Cannot put the changed payload into the guest",
    fix: "start it from its disk instead: gateway up --cold",
  });
}

/**
 * Waits until the cluster was given the content, its charts are installed, and every workload of the payload's
 * namespaces runs its newest form.
 *
 * @throws GatewayError `service-not-ready` with what is still under way, or the signal's reason.
 */
export async function waitRolledOut(
  api: Reader,
  prepared: PreparedPayload,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const { payload } = prepared;
  const namespaces = namespacesOf(payload);
  const revisions = new Map(
    payload.charts.map((chart, at) =>
      [chart.name, chartRevision(payload, chart, prepared.charts[at]!)] as const
    ),
  );
  await waitFor({
    what: "the cluster to take the payload",
    probe: async (inner) => {
      const given = await read<Objects>(api, recordPath, inner);
      const digest = given.items[0]?.data?.digest;
      if (digest !== prepared.digest) throw new Error("it still has the content of before");
      if (revisions.size > 0) await checkInstalled(api, revisions, inner);
      for (const namespace of namespaces) {
        for (const [plural, kind] of WORKLOADS) {
          const path = `/apis/apps/v1/namespaces/${namespace}/${plural}`;
          // Of a list's items the API does not tell the kind.
          const late = (await read<Objects>(api, path, inner)).items
            .find((one) => progressOf({ ...one, kind }).state !== "ready");
          if (late) throw new Error(`${namespace}/${late.metadata.name} is not rolled out yet`);
        }
      }
      return true;
    },
    timeoutMs,
    intervalMs: revisions.size > 0 ? 1000 : 400,
    probeTimeoutMs: 20_000,
    signal,
    code: "service-not-ready",
  });
}

/**
 * Throws the name of the first chart whose newest content is not installed. A job of older content is still there for a
 * while after a change, with its success; so each job is asked which content it installed.
 */
async function checkInstalled(
  api: Reader,
  revisions: ReadonlyMap<string, string>,
  signal: AbortSignal,
): Promise<void> {
  const inSystem = (path: string) =>
    read<Objects>(api, path.replace("*", `namespaces/${SYSTEM_NAMESPACE}`), signal);
  const [jobs, objects] = [
    await inSystem(`/apis/batch/v1/*/jobs?labelSelector=${CHART_LABEL}`),
    await inSystem("/apis/helm.cattle.io/v1/*/helmcharts"),
  ];
  for (const [chart, revision] of revisions) {
    const object = objects.items.find(({ metadata }) => metadata.name === chart);
    const job = jobs.items.find(({ metadata }) => metadata.labels?.[CHART_LABEL] === chart);
    const installed = object !== undefined &&
      object.metadata.annotations?.[HELM_ERROR] === undefined &&
      job !== undefined && job.metadata.deletionTimestamp === undefined &&
      jobRevision(job) === revision && (job.status?.succeeded ?? 0) > 0;
    if (!installed) throw new Error(`the chart "${chart}" is not installed yet`);
  }
}

function jobRevision({ spec }: KubeObject): string | undefined {
  const [container] = spec?.template?.spec.containers ?? [];
  return container?.env?.find(({ name }: { name: string }) => name === "CHART")?.value;
}

// A list with one object at most, since one that is not there is no error then.
const recordPath = `/api/v1/namespaces/${SYSTEM_NAMESPACE}/configmaps?fieldSelector=` +
  encodeURIComponent(`metadata.name=${RECORD_NAME}`);

type Reader = Pick<ClusterApi, "call">;

async function read<T>(api: Reader, path: string, signal: AbortSignal): Promise<T> {
  return await api.call<T>({ method: "GET", path, signal });
}

interface Objects {
  readonly items: readonly KubeObject[];
}
