/**
 * The YAML files of a payload for the cluster's auto-deploy folder, by name in the order they are applied: namespaces and
 * Secrets, the payload's own manifests, charts, and a record of what this is.
 * It must not decide what a payload holds, nor pull a chart.
 *
 * @module
 */
import { stringify } from "yaml";
import { contentDigest, type Payload, type PayloadChart } from "./payload_spec.ts";
import { LABELS, namespaceObjects, type SecretMaterial, secretObjects } from "./secrets.ts";

/** The image that the Helm controller's jobs run. */
export const HELM_IMAGE = "gateway.local/helm:1";

/** Where charts and the record of what was applied are: in every cluster, and not the payload's to remove. */
export const SYSTEM_NAMESPACE = "kube-system";

/** The ConfigMap that tells which content the cluster was given last; it is applied after everything else. */
export const RECORD_NAME = "gateway-payload";

/** The file of {@linkcode payloadFiles} that holds it. */
export const RECORD_FILE = "99-gateway-payload.yaml";

/** The .tgz of each chart, by its place in the payload. */
export type ChartArchives = readonly Uint8Array[];

/**
 * The payload's files by name. Names sort in the order the cluster must apply them. Secret: the first file holds
 * private keys.
 */
export function payloadFiles(
  payload: Payload,
  material: SecretMaterial,
  archives: ChartArchives,
): Record<string, string> {
  const open = openFiles(payload, archives);
  const secrets = toYaml([...namespaceObjects(payload), ...secretObjects(payload, material)]);
  return {
    ...(secrets === "" ? {} : { [`00-${payload.namespace}.yaml`]: secrets }),
    ...open,
    [RECORD_FILE]: toYaml([recordObject(payload, payloadDigest(payload, archives))]),
  };
}

/** What is the same for every instance that runs the payload: for keys of what was made with it. */
export function payloadDigest(payload: Payload, archives: ChartArchives): string {
  const { namespace, secrets } = payload;
  const asked = JSON.stringify([namespace, secrets, namespaceObjects(payload)]);
  return contentDigest(payload, { ...openFiles(payload, archives), "00": asked });
}

/** The files without a secret. */
function openFiles(payload: Payload, archives: ChartArchives): Record<string, string> {
  const files: Record<string, string> = {};
  payload.manifests.forEach(({ name, text }, at) => {
    // Whatever it was called, the cluster looks for .yaml; JSON is YAML, too.
    files[`${10 + at}-${name.replace(/\.(yml|json)$/, ".yaml")}`] = text;
  });
  payload.charts.forEach((chart, at) => {
    files[`${90 + at}-chart-${chart.name}.yaml`] = toYaml([
      chartObject(payload, chart, archives[at]),
    ]);
  });
  return files;
}

/** A chart as k3s's Helm controller takes it. Nothing in it differs between two instances. */
function chartObject(payload: Payload, chart: PayloadChart, archive: Uint8Array): object {
  return {
    apiVersion: "helm.cattle.io/v1",
    kind: "HelmChart",
    metadata: { name: chart.name, namespace: SYSTEM_NAMESPACE, labels: { ...LABELS } },
    spec: {
      chartContent: toBase64(archive),
      targetNamespace: chart.namespace ?? payload.namespace,
      createNamespace: true,
      jobImage: HELM_IMAGE,
      ...(Object.keys(chart.values).length === 0
        ? {}
        : { valuesContent: stringify(chart.values, YAML) }),
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

/** Long lines are not folded and no anchors are used, so that any parser reads it. */
const YAML = { lineWidth: 0, aliasDuplicateObjects: false } as const;

function toYaml(documents: readonly object[]): string {
  return documents.map((document) => stringify(document, YAML)).join("---\n");
}

function toBase64(bytes: Uint8Array): string {
  return bytes.toBase64();
}
