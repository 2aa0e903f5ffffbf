/**
 * The YAML files of a payload for the cluster's auto-deploy folder, by name in the order they are applied: namespaces and
 * Secrets, the payload's own manifests, charts, and a record of what this is.
 * It must not decide what a payload holds, nor pull a chart.
 *
 * @module
 */
import { canonicalJson, digestBytes } from "../../vm/base/digest.ts";
import type { JsonValue } from "../../vm/base/event.ts";
import { toJsonText } from "../yaml/kube_yaml.ts";
import type { Payload, PayloadChart } from "./payload.ts";
import { LABELS, namespaceObjects, type SecretMaterial, secretObjects } from "./secrets.ts";

/** The image that the Helm controller's jobs run. */
export const HELM_IMAGE = "gateway.local/helm:1";

/** On a HelmChart: Helm's words of the last try that failed. A job that has given up takes its log away. */
export const HELM_ERROR = "helm.gateway.local/error";

/** On the Helm controller's jobs and their pods: the name of the chart. */
export const CHART_LABEL = "helmcharts.helm.cattle.io/chart";

/** Where charts and the record of what was applied are: in every cluster, and not the payload's to remove. */
export const SYSTEM_NAMESPACE = "kube-system";

/** The ConfigMap that tells which content the cluster was given last; it is applied after everything else. */
export const RECORD_NAME = "gateway-payload";

/** A payload with what its charts are made of. */
export interface PackedPayload {
  readonly payload: Payload;
  /** The .tgz of each chart, by its place in the payload. */
  readonly charts: readonly Uint8Array[];
  /** What {@linkcode packedDigest} gave. */
  readonly digest: string;
}

/** The file of {@linkcode payloadFiles} that holds it. */
export const RECORD_FILE = "99-gateway-payload.yaml";

/**
 * The payload's files by name. Names sort in the order the cluster must apply them. Secret: the first file holds
 * private keys.
 */
export function payloadFiles(
  packed: PackedPayload,
  material: SecretMaterial,
): Record<string, string> {
  const { payload, charts, digest } = packed;
  const open = openFiles(payload, charts);
  const secrets = toYaml([...namespaceObjects(payload), ...secretObjects(payload, material)]);
  return {
    ...(secrets === "" ? {} : { [`00-${payload.namespace}.yaml`]: secrets }),
    ...open,
    [RECORD_FILE]: toYaml([recordObject(payload, digest)]),
  };
}

/**
 * The digest of all that reaches the cluster, whatever folder it came from; secrets do not count. `images` are digests
 * of those that the host brings along without the payload naming them.
 */
export function packedDigest(
  { payload, charts }: Omit<PackedPayload, "digest">,
  images: readonly string[] = [],
): string {
  const { name, digest, secrets } = payload;
  const asked = { name, digest, secrets, namespaces: namespaceObjects(payload), images };
  const files = openFiles(payload, charts);
  // When an image comes is not part of what the cluster runs.
  const named = payload.images.map(({ ref, digest }) => ({ ref, digest }));
  return digestBytes(canonicalJson({ ...asked, named, files } as unknown as JsonValue));
}

/** The files without a secret. */
function openFiles(payload: Payload, archives: readonly Uint8Array[]): Record<string, string> {
  const files: Record<string, string> = {};
  payload.manifests.forEach(({ name, text }, at) => {
    // Whatever it was called, the cluster looks for .yaml; JSON is YAML, too.
    files[`${10 + at}-${name.replace(/\.(yml|json)$/, ".yaml")}`] = text;
  });
  payload.charts.forEach((chart, at) => {
    files[`${90 + at}-chart-${chart.name}.yaml`] = toYaml([
      chartObject(payload, chart, archives[at]!),
    ]);
  });
  return files;
}

/**
 * Names the content of one chart: its archive, its values and where it goes. The controller copies it from the HelmChart
 * to the job that installs it (variable CHART), and neither uses it for a chart that comes with its content. So a job
 * that has it installed exactly this content. Pure.
 */
export function chartRevision(
  { namespace }: Pick<Payload, "namespace">,
  chart: PayloadChart,
  archive: Uint8Array,
): string {
  const target = chart.namespace ?? namespace;
  const parts = [digestBytes(archive), target, toJsonText(chart.values)];
  return `${chart.name}@sha256:${digestBytes(parts.join("\n"))}`;
}

/** A chart as k3s's Helm controller takes it. Nothing in it differs between two instances. */
function chartObject(payload: Payload, chart: PayloadChart, archive: Uint8Array): object {
  return {
    apiVersion: "helm.cattle.io/v1",
    kind: "HelmChart",
    metadata: { name: chart.name, namespace: SYSTEM_NAMESPACE, labels: { ...LABELS } },
    spec: {
      chart: chartRevision(payload, chart, archive),
      chartContent: archive.toBase64(),
      targetNamespace: chart.namespace ?? payload.namespace,
      createNamespace: true,
      jobImage: HELM_IMAGE,
      ...(Object.keys(chart.values).length === 0
        ? {}
        // JSON, which Helm's reader of YAML 1.1 takes for the same values.
        : { valuesContent: toJsonText(chart.values) }),
    },
  };
}

function recordObject(payload: Payload, digest: string): object {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: RECORD_NAME, namespace: SYSTEM_NAMESPACE, labels: { ...LABELS } },
    data: { name: payload.name, digest },
  };
}

/** JSON documents: any reader of YAML takes them for the same. */
function toYaml(documents: readonly object[]): string {
  return documents.map((document) => `${toJsonText(document)}\n`).join("---\n");
}
