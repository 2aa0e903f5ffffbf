/**
 * What a deployment would do, found out before it does anything: how the cluster serves each object, what is there now,
 * and what it would be after a server-side dry run. Also the one place that applies.
 * It must not wait for anything to become ready.
 *
 * @module
 */
import { GatewayError } from "../../vm/base/error.ts";
import { isSame } from "./diff.ts";
import {
  ApiFailure,
  type ClusterApi,
  FIELD_MANAGER,
  type KubeObject,
  type KubeResource,
  objectPath,
} from "../cluster/api.ts";
import { idOf, objectLabel, objectWords } from "./objects.ts";

/** An object with its place in the API. */
export interface PlacedObject {
  readonly object: KubeObject;
  readonly resource: KubeResource;
  readonly path: string;
}

/** What applying an object would do. */
export interface PlannedObject extends PlacedObject {
  readonly live: KubeObject | undefined;
  /** What it would be; the object itself where the server could not be asked. */
  readonly after: KubeObject;
  readonly change: "create" | "update" | "same";
  /** False: its namespace or its definition is made by this deployment, so that the server could not look at it. */
  readonly checked: boolean;
}

/** How objects are applied. */
export interface ApplyOptions {
  readonly context: string;
  /** Take fields over that another manager owns. */
  readonly force: boolean;
  readonly signal: AbortSignal;
}

/**
 * Finds out how the cluster serves each object, and puts those that need a namespace and name none into the payload's.
 *
 * @throws GatewayError `not-supported` for a kind that the cluster does not have.
 */
export async function placeObjects(
  api: ClusterApi,
  objects: readonly KubeObject[],
  namespace: string,
  options: { readonly context: string; readonly signal: AbortSignal },
): Promise<PlacedObject[]> {
  const own = definedKinds(objects);
  const placed: PlacedObject[] = [];
  for (const object of objects) {
    const { apiVersion, kind, metadata } = object;
    const resource = await api.resource(apiVersion, kind, options.signal) ??
      own.find((one) => one.apiVersion === apiVersion && one.kind === kind);
    if (!resource) throw unknownKind(options.context, object);
    const where = resource.namespaced ? metadata.namespace ?? namespace : undefined;
    const { namespace: _none, ...rest } = metadata;
    const full = {
      ...object,
      metadata: where === undefined ? rest : { ...rest, namespace: where },
    };
    placed.push({ object: full, resource, path: objectPath(resource, where, metadata.name) });
  }
  return placed;
}

/** The kinds that the payload's own CustomResourceDefinitions will make the cluster serve. */
function definedKinds(objects: readonly KubeObject[]): KubeResource[] {
  return objects.filter(({ kind }) => kind === "CustomResourceDefinition").flatMap(({ spec }) =>
    (spec?.versions ?? []).map(({ name }: { name: string }) => ({
      group: spec.group,
      apiVersion: `${spec.group}/${name}`,
      kind: spec.names?.kind,
      plural: spec.names?.plural,
      namespaced: spec.scope === "Namespaced",
    }))
  );
}

/**
 * Compares each object with what is there, by a server-side dry run.
 *
 * @throws GatewayError `deploy-failed` for a conflict or an object that the cluster refuses, `permission`.
 */
export async function planObjects(
  api: ClusterApi,
  placed: readonly PlacedObject[],
  options: ApplyOptions,
): Promise<PlannedObject[]> {
  const planned: PlannedObject[] = [];
  const missing = new Set<string>();
  for (const one of placed) {
    const { object, resource, path } = one;
    const namespace = object.metadata.namespace;
    const served = await api.resource(object.apiVersion, object.kind, options.signal);
    if (!served || (namespace !== undefined && missing.has(namespace))) {
      planned.push({ ...one, live: undefined, after: object, change: "create", checked: false });
      continue;
    }
    const live = await read(api, one, options);
    if (!live && resource.plural === "namespaces") missing.add(object.metadata.name);
    const after = await applyObject(api, one, { ...options, dryRun: true });
    const change = live === undefined ? "create" : isSame(live, after) ? "same" : "update";
    planned.push({ ...one, live, after, change, checked: true, path });
  }
  return planned;
}

async function read(
  api: ClusterApi,
  { object, path }: PlacedObject,
  { context, signal }: ApplyOptions,
): Promise<KubeObject | undefined> {
  try {
    return await api.get(path, signal);
  } catch (error) {
    throw applyError(context, object, error);
  }
}

/** Applies one object, or lets the server say what it would be. */
export async function applyObject(
  api: ClusterApi,
  { object, path }: PlacedObject,
  options: ApplyOptions & { readonly dryRun?: boolean },
): Promise<KubeObject> {
  try {
    return await api.call({
      method: "PATCH",
      path,
      query: {
        fieldManager: FIELD_MANAGER,
        fieldValidation: "Strict",
        force: String(options.force),
        ...(options.dryRun ? { dryRun: "All" } : {}),
      },
      type: "application/apply-patch+yaml",
      body: object,
      signal: options.signal,
    });
  } catch (error) {
    throw applyError(options.context, object, error);
  }
}

/** The API's answer to an object as an error for people; what is no answer stays what it is. */
export function applyError(
  context: string,
  object: KubeObject,
  error: unknown,
  verb = "apply",
): unknown {
  if (!(error instanceof ApiFailure)) return error;
  const what = `Cannot ${verb} the ${objectWords(idOf(object))}`;
  const conflicts = error.causes.filter(({ message }) => /^conflict with /.test(message ?? ""));
  if (error.status === 409 && conflicts.length > 0) {
    const told = conflicts.slice(0, 6).map(({ field, message }) =>
      `${field} belongs to ${message!.replace(/^conflict with /, "").replace(/ using .*$/, "")}`
    );
    const more = conflicts.length > 6 ? `, and ${conflicts.length - 6} more` : "";
    return new GatewayError({
      code: "deploy-failed",
      what,
      why: `another manager owns fields of it: ${told.join(", ")}${more}`,
      fix: "add --force-conflicts to take them over, or leave those fields out of the payload",
    });
  }
  const right =
    /cannot (\w+) resource "([^"]+)" in API group "([^"]*)"(?: in the namespace "([^"]+)")?/
      .exec(error.words);
  if (error.status === 403 && right) {
    const [, verb, resource, group, namespace] = right;
    const where = namespace ? `in the namespace "${namespace}"` : "in the cluster";
    const name = group === "" ? resource : `${resource}.${group}`;
    return new GatewayError({
      code: "permission",
      what,
      why: `the user of the context "${context}" lacks "${verb}" on "${name}" ${where}`,
      fix: "ask who runs the cluster for a Role with it, then run this again",
    });
  }
  // What the API says of a Secret could quote a value of it.
  const hidden = object.kind === "Secret"
    ? error.words.replace(/"[^"]*"|'[^']*'|`[^`]*`/g, '"…"')
    : error.words;
  return new GatewayError({
    code: error.status === 401 ? "permission" : "deploy-failed",
    what,
    why: `the cluster answered ${error.status}: ${hidden}`,
    fix: error.status === 401
      ? `sign in again for the context "${context}"`
      : "correct the object; a field that cannot change takes `gateway deploy --remove` first",
  });
}

function unknownKind(context: string, object: KubeObject): GatewayError {
  const label = objectLabel(idOf(object));
  if (object.apiVersion.startsWith("helm.cattle.io/")) {
    return new GatewayError({
      code: "not-supported",
      what: `Cannot install the chart "${object.metadata.name}" with the context "${context}"`,
      why: "this cluster has no Helm controller: it does not serve helm.cattle.io/v1",
      fix:
        "install helm-controller there, or install the chart with helm and deploy a payload without it",
    });
  }
  return new GatewayError({
    code: "not-supported",
    what: `Cannot apply the ${label} with the context "${context}"`,
    why: `this cluster does not serve the kind ${object.kind} of ${object.apiVersion}`,
    fix: "install what defines it there, or take the object out of the payload",
  });
}
