/**
 * The objects of a payload as a deployment sees them: read from YAML, in the order to apply, with what has to change
 * for a cluster that is not ours. Pure.
 * It must not talk to a cluster.
 *
 * @module
 */
import { type Document, parseAllDocuments } from "yaml";
import { digestBytes } from "../../vm/base/digest.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { RELOADS_ANNOTATION } from "../cluster/adopt.ts";
import {
  documentValue,
  KubeYamlError,
  PARSE_OPTIONS,
  toJsonText,
  withinStack,
} from "../yaml/kube_yaml.ts";
import type { KubeObject } from "../cluster/api.ts";

/** What names an object whatever version of it is meant. */
export interface ObjectId {
  readonly apiVersion: string;
  readonly kind: string;
  /** Absent for what is in no namespace. */
  readonly namespace?: string;
  readonly name: string;
}

/** On a pod's template: the digest of the certificates it started with, so that other ones restart it. */
export const CERTIFICATES_ANNOTATION = "gateway.local/certificates";

/** Everything else comes after these, in this order; HelmCharts last. */
const FIRST = [
  ...["Namespace", "CustomResourceDefinition", "PriorityClass", "StorageClass"],
  ...["ServiceAccount", "Secret", "ConfigMap", "PersistentVolume", "PersistentVolumeClaim"],
  ...["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Service"],
];

/**
 * The objects of YAML documents, lists taken apart, in the order to apply.
 *
 * @throws GatewayError `usage` for a text that holds no objects of Kubernetes.
 */
export function readObjects(texts: readonly string[]): KubeObject[] {
  const objects = texts.flatMap(parseDocuments)
    .flatMap((document) => {
      if (document.errors.length > 0) throw noObject("it is not YAML");
      return flatten(valueOf(document as Document.Parsed));
    });
  const seen = new Set<string>();
  for (const object of objects) {
    const key = objectKey(idOf(object));
    if (seen.has(key)) throw noObject(`it holds ${objectWords(idOf(object))} twice`);
    seen.add(key);
  }
  return objects.sort((a, b) => rank(a.kind) - rank(b.kind));
}

function parseDocuments(text: string) {
  return refused(() => withinStack(() => parseAllDocuments(text, PARSE_OPTIONS)));
}

function valueOf(document: Document.Parsed): unknown {
  return refused(() => documentValue(document));
}

function refused<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw error instanceof KubeYamlError ? noObject(error.message) : error;
  }
}

function flatten(value: unknown): KubeObject[] {
  if (value === null || value === undefined) return [];
  const object = value as KubeObject;
  if (
    typeof object.kind === "string" && object.kind.endsWith("List") && Array.isArray(object.items)
  ) {
    return object.items.flatMap(flatten);
  }
  if (typeof object.apiVersion !== "string" || typeof object.kind !== "string") {
    throw noObject("one of its documents has no apiVersion or kind");
  }
  if (typeof object.metadata?.name !== "string") throw noObject(`a ${object.kind} has no name`);
  return [object];
}

function rank(kind: string): number {
  const at = FIRST.indexOf(kind);
  return kind === "HelmChart" ? FIRST.length + 1 : at < 0 ? FIRST.length : at;
}

/** What names it. */
export function idOf({ apiVersion, kind, metadata }: KubeObject): ObjectId {
  const { name, namespace } = metadata;
  return { apiVersion, kind, ...(namespace ? { namespace } : {}), name };
}

/** One text for each object, the same for all versions of its kind. */
export function objectKey({ apiVersion, kind, namespace, name }: ObjectId): string {
  const group = apiVersion.includes("/") ? apiVersion.split("/")[0] : "";
  return [group, kind, namespace ?? "", name].join(" ");
}

/** An object in a sentence: `Secret "a" in the namespace "b"`. */
export function objectWords({ kind, name, namespace }: ObjectId): string {
  return `${kind} "${name}"` + (namespace ? ` in the namespace "${namespace}"` : "");
}

/** An object in a list: `Secret b/a`. */
export function objectLabel({ kind, name, namespace }: ObjectId): string {
  return `${kind} ${namespace ? `${namespace}/` : ""}${name}`;
}

/** The template of the pods an object makes; undefined where it makes none. */
// deno-lint-ignore no-explicit-any
export function podTemplate(object: KubeObject): any {
  if (object.kind === "Pod") return object;
  if (object.kind === "CronJob") return object.spec?.jobTemplate?.spec?.template;
  return object.spec?.template?.spec?.containers ? object.spec.template : undefined;
}

/** The images that an object's pods name, and that of a HelmChart's job. */
export function imagesOf(object: KubeObject): string[] {
  const spec = podTemplate(object)?.spec;
  const containers = [...spec?.initContainers ?? [], ...spec?.containers ?? []];
  const named = containers.map(({ image }: { image?: string }) => image);
  if (object.kind === "HelmChart") named.push(object.spec?.jobImage);
  return named.filter((image): image is string => typeof image === "string");
}

/** Images of this name are built here and are in no registry. */
export const BUILT_PREFIX = "gateway.local/";

/** The objects with another place for the images that are built here; those are pulled then, and no longer "Never". */
export function withImagePrefix(objects: readonly KubeObject[], prefix: string): KubeObject[] {
  const place = prefix.replace(/\/+$/, "");
  return objects.map((original) => {
    const object = structuredClone(original) as KubeObject;
    const spec = podTemplate(object)?.spec;
    for (const container of [...spec?.initContainers ?? [], ...spec?.containers ?? []]) {
      if (!container.image?.startsWith(BUILT_PREFIX)) continue;
      container.image = `${place}/${container.image.slice(BUILT_PREFIX.length)}`;
      if (container.imagePullPolicy === "Never") container.imagePullPolicy = "IfNotPresent";
    }
    if (object.kind === "HelmChart" && object.spec?.jobImage?.startsWith(BUILT_PREFIX)) {
      object.spec.jobImage = `${place}/${object.spec.jobImage.slice(BUILT_PREFIX.length)}`;
    }
    return object;
  });
}

/**
 * The objects with a mark of the certificates on each pod template that names one of the payload's Secrets, unless it
 * takes changed certificates into use by itself: without it a pod would go on with those it started with.
 */
export function withCertificateMark(
  objects: readonly KubeObject[],
  certificates: readonly string[],
): KubeObject[] {
  const secrets = objects.filter(({ kind }) => kind === "Secret").map((o) => o.metadata.name);
  const mark = digestBytes(certificates.join("\n")).replace(/^sha256:/, "").slice(0, 16);
  return objects.map((original) => {
    if (!["Deployment", "StatefulSet", "DaemonSet"].includes(original.kind)) return original;
    const template = podTemplate(original);
    const text = toJsonText(template?.spec ?? {});
    const uses = secrets.some((name) => text.includes(`"${name}"`));
    if (!uses || template.metadata?.annotations?.[RELOADS_ANNOTATION] === "true") return original;
    const object = structuredClone(original) as KubeObject;
    const metadata = object.spec.template.metadata ??= {};
    metadata.annotations = { ...metadata.annotations, [CERTIFICATES_ANNOTATION]: mark };
    return object;
  });
}

function noObject(why: string): GatewayError {
  return new GatewayError({
    code: "usage",
    what: "Cannot deploy the payload",
    why,
    fix: "correct its manifests; each document is one object of Kubernetes",
  });
}
