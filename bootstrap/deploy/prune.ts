/**
 * Removes objects that a deployment put into a cluster: those that left the payload, or all.
 * It must not remove what is not listed in an inventory, nor what somebody else has made since under the same name.
 *
 * @module
 */
import type { Span } from "../../vm/base/event.ts";
import { waitFor } from "../../vm/base/wait.ts";
import { isOurs } from "./inventory.ts";
import { ApiFailure, type ClusterApi, type KubeObject, objectPath } from "../cluster/api.ts";
import { type ObjectId, objectLabel } from "./objects.ts";
import { applyError } from "./plan.ts";
import { type Right, rightsFor } from "./rights.ts";

/** A listed object that is there and is ours. */
export interface StaleObject {
  readonly id: ObjectId;
  readonly path: string;
  readonly live: KubeObject;
}

/** How objects are removed. */
export interface RemoveOptions {
  readonly context: string;
  readonly timeoutMs: number;
  readonly span: Span;
  readonly signal: AbortSignal;
}

/** The rights that finding and removing these takes. */
export async function removalRights(
  api: ClusterApi,
  ids: readonly ObjectId[],
  signal: AbortSignal,
): Promise<Right[]> {
  const rights: Right[] = [];
  for (const { apiVersion, kind, namespace } of ids) {
    const resource = await api.resource(apiVersion, kind, signal);
    if (resource) rights.push(...rightsFor(resource, namespace, ["get", "delete"]));
  }
  return rights;
}

/** Those of the listed objects that are there and carry our mark. Of others it is warned, and they stay. */
export async function findStale(
  api: ClusterApi,
  ids: readonly ObjectId[],
  { span, signal }: { readonly span: Span; readonly signal: AbortSignal },
): Promise<StaleObject[]> {
  const found: StaleObject[] = [];
  for (const id of ids) {
    // A kind that is no longer served has no objects.
    const resource = await api.resource(id.apiVersion, id.kind, signal);
    if (!resource) continue;
    const path = objectPath(resource, id.namespace, id.name);
    const live = await api.get(path, signal);
    if (!live) continue;
    if (isOurs(live)) found.push({ id, path, live });
    else span.warn(`${objectLabel(id)} stays: gateway did not apply the one that is there now`);
  }
  return found;
}

/**
 * Removes them in this order and waits until they are gone.
 *
 * @throws GatewayError `permission`, `deploy-failed`, `timeout`.
 */
export async function removeObjects(
  api: ClusterApi,
  objects: readonly StaleObject[],
  { context, timeoutMs, span, signal }: RemoveOptions,
): Promise<void> {
  for (const { id, path, live } of objects) {
    try {
      await api.call({
        method: "DELETE",
        path,
        // Only the one that was looked at: another may have its name by now.
        body: {
          apiVersion: "v1",
          kind: "DeleteOptions",
          propagationPolicy: "Background",
          preconditions: { uid: live.metadata.uid },
        },
        signal,
      });
      span.log(`removed ${objectLabel(id)}`);
    } catch (error) {
      if (!(error instanceof ApiFailure && error.status === 404)) {
        throw applyError(context, live, error, "remove");
      }
    }
  }
  let left = [...objects];
  await waitFor({
    what: "the removed objects to be gone",
    probe: async (signal) => {
      const there = [];
      for (const one of left) {
        const now = await api.get(one.path, signal);
        if (now?.metadata.uid === one.live.metadata.uid) there.push(one);
      }
      left = there;
      if (left.length === 0) return true;
      throw new Error(`${left.map(({ id }) => objectLabel(id)).join(", ")} is still there`);
    },
    timeoutMs,
    intervalMs: 500,
    signal,
    hint: "see its finalizers and what uses it with kubectl, then run this again",
  });
}

/** What makes a namespace somebody's: with one of these in it, it is not removed. */
const NAMESPACE_CONTENT = [
  ...["pods", "services", "secrets", "configmaps", "persistentvolumeclaims"].map((name) =>
    `/api/v1|${name}`
  ),
  ...["deployments", "statefulsets", "daemonsets"].map((name) => `/apis/apps/v1|${name}`),
  "/apis/batch/v1|jobs",
  "/apis/batch/v1|cronjobs",
];

/** What is in a namespace besides what each has from the cluster itself, by name. */
export async function namespaceContent(
  api: ClusterApi,
  namespace: string,
  signal: AbortSignal,
): Promise<string[]> {
  const found: string[] = [];
  for (const entry of NAMESPACE_CONTENT) {
    const [root, plural] = entry.split("|");
    const path = `${root}/namespaces/${encodeURIComponent(namespace)}/${plural}`;
    for (const { metadata } of await api.list(path, signal)) {
      if (plural === "configmaps" && metadata.name === "kube-root-ca.crt") continue;
      found.push(`${plural}/${metadata.name}`);
    }
  }
  return found;
}
