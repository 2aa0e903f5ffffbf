/**
 * The fields of well-known kinds in which the API takes nothing but texts: a label `on` or an environment variable `1`
 * without quotes is refused by the cluster, and minutes later than by this file.
 *
 * @module
 */
import type { KubeValue } from "../yaml/kube_yaml.ts";
import type { FieldPath } from "../yaml/source.ts";

const METADATA = ["metadata.namespace", "metadata.labels.*", "metadata.annotations.*"];

const CONTAINER = ["env.*.value", "command.*", "args.*"];
/** Below a pod or the template of one. */
const POD = [
  ...["metadata.labels.*", "metadata.annotations.*", "spec.nodeSelector.*"],
  ...["containers", "initContainers"].flatMap((list) =>
    CONTAINER.map((field) => `spec.${list}.*.${field}`)
  ),
];
const WORKLOAD = ["spec.selector.matchLabels.*", ...POD.map((field) => `spec.template.${field}`)];

/** By apiVersion and kind; `*` stands for each entry. */
const TEXTS: Readonly<Record<string, readonly string[]>> = {
  "v1 ConfigMap": ["data.*", "binaryData.*"],
  "v1 Secret": ["data.*", "stringData.*"],
  "v1 Service": ["spec.selector.*"],
  "v1 Pod": POD,
  "apps/v1 Deployment": WORKLOAD,
  "apps/v1 StatefulSet": WORKLOAD,
  "apps/v1 DaemonSet": WORKLOAD,
  "apps/v1 ReplicaSet": WORKLOAD,
  "batch/v1 Job": WORKLOAD,
  "batch/v1 CronJob": WORKLOAD.map((field) => `spec.jobTemplate.${field}`),
};

/** A field that has to be a text, and what it is instead. */
export interface NoText {
  readonly path: FieldPath;
  readonly value: KubeValue;
}

/** The first field of an object, or of the items of a list, that has to be a text and is none; null counts as absent. Pure. */
export function findNoText(object: KubeValue): NoText | undefined {
  const { apiVersion, kind, items } = fieldsOf(object);
  if (typeof kind === "string" && kind.endsWith("List") && Array.isArray(items)) {
    return first(items, (item, at) => below(findNoText(item), ["items", at]));
  }
  const fields = [...METADATA, ...TEXTS[`${apiVersion} ${kind}`] ?? []];
  return first(fields, (field) => search(object, field.split(".")));
}

function search(value: KubeValue, [step, ...rest]: readonly string[]): NoText | undefined {
  if (step === undefined) {
    return value === null || typeof value === "string" ? undefined : { path: [], value };
  }
  if (Array.isArray(value)) {
    return step === "*" ? first(value, (one, at) => below(search(one, rest), [at])) : undefined;
  }
  const fields = Object.entries(fieldsOf(value))
    .filter(([name]) => step === "*" || name === step);
  return first(fields, ([name, field]) => below(search(field, rest), [name]));
}

function fieldsOf(value: KubeValue): { readonly [name: string]: KubeValue } {
  const isGroup = typeof value === "object" && value !== null && !Array.isArray(value);
  return isGroup ? value as { readonly [name: string]: KubeValue } : {};
}

function below(found: NoText | undefined, path: FieldPath): NoText | undefined {
  return found && { ...found, path: [...path, ...found.path] };
}

function first<T>(
  list: readonly T[],
  look: (one: T, at: number) => NoText | undefined,
): NoText | undefined {
  for (const [at, one] of list.entries()) {
    const found = look(one, at);
    if (found) return found;
  }
  return undefined;
}
