/**
 * `gateway deploy --remove`: takes away what a deployment's inventory lists, then the inventory, the namespace if the
 * deployment made it and nothing else is in it, and the client files.
 * It must not touch what is not listed.
 *
 * @module
 */
import { waitFor } from "../../vm/base/wait.ts";
import { DeploymentFolder } from "./certificates.ts";
import { type DeployContext, type DeployRequest, dropFiles } from "./deploy.ts";
import { inventoryPath, readInventory } from "./inventory.ts";
import type { ClusterApi } from "../cluster/api.ts";
import type { ObjectId } from "./objects.ts";
import { findStale, namespaceContent, removalRights, removeObjects } from "./prune.ts";
import { missingRights, type Right, rightsError } from "./rights.ts";
import { openTarget } from "./target.ts";

/** What was removed. */
export interface RemoveReport {
  readonly context: string;
  readonly payload: string;
  readonly namespace: string;
  readonly dryRun: boolean;
  readonly removed: readonly ObjectId[];
  /** Whether the namespace is gone, or going, too. */
  readonly namespaceRemoved: boolean;
}

const CONTENT_TIMEOUT_MS = 60_000;

/**
 * Removes a deployment; when there is none, only what is left of it on this host.
 *
 * @throws GatewayError `usage`, `network-failed`, `permission`, `deploy-failed`, `timeout`.
 */
export async function removeDeployment(
  request: Omit<DeployRequest, "address" | "imagePrefix" | "forceConflicts" | "instance" | "wait">,
  { span, signal }: DeployContext,
): Promise<RemoveReport> {
  const { context, payload, dryRun, timeoutMs } = request;
  const { name, namespace } = payload;
  using api = await openTarget(request);
  const listed: Right = { verb: "get", group: "", resource: "configmaps", namespace };
  const missing = await missingRights(api, [listed, { ...listed, verb: "delete" }], signal);
  if (missing.length > 0) throw rightsError(context, missing);
  const inventory = await readInventory(api, namespace, name, signal);
  const ids = (inventory?.objects ?? []).filter(({ kind }) => kind !== "Namespace").reverse();
  const lacking = await missingRights(api, await removalRights(api, ids, signal), signal);
  if (lacking.length > 0) throw rightsError(context, lacking);
  const found = await findStale(api, ids, { span, signal });
  const removed = found.map(({ id }) => id);
  const report = { context, payload: name, namespace, dryRun, removed };
  if (dryRun) return { ...report, namespaceRemoved: inventory?.ownsNamespace ?? false };

  using folder = await DeploymentFolder.open(context);
  await removeObjects(api, found, { context, timeoutMs, span, signal });
  let namespaceRemoved = false;
  if (inventory) {
    if (inventory.ownsNamespace) {
      namespaceRemoved = await removeNamespace(api, request, { span, signal });
    }
    if (!namespaceRemoved) {
      await api.call({ method: "DELETE", path: inventoryPath(namespace, name), signal });
    }
  }
  await dropFiles(folder, payload);
  await folder.drop(`${namespace}/${name}`);
  return { ...report, namespaceRemoved };
}

/** Removes the namespace once nothing but the inventory is in it; false when it stays. */
async function removeNamespace(
  api: ClusterApi,
  { payload }: Pick<DeployRequest, "payload">,
  { span, signal }: DeployContext,
): Promise<boolean> {
  const { name, namespace } = payload;
  const right = { verb: "delete", group: "", resource: "namespaces" };
  if ((await missingRights(api, [right], signal)).length > 0) {
    span.warn(`the namespace "${namespace}" stays: this user may not remove it`);
    return false;
  }
  let content: string[] = [];
  try {
    await waitFor({
      what: "an empty namespace",
      probe: async (signal) => {
        const all = await namespaceContent(api, namespace, signal);
        content = all.filter((one) => one !== `configmaps/gateway-deploy-${name}`);
        // Only pods go by themselves, once what made them is gone.
        return content.every((one) => !one.startsWith("pods/")) || undefined;
      },
      timeoutMs: CONTENT_TIMEOUT_MS,
      intervalMs: 500,
      signal,
    });
  } catch (error) {
    if (signal.aborted) throw error;
  }
  if (content.length > 0) {
    span.warn(`the namespace "${namespace}" stays: ${content.slice(0, 5).join(", ")} is in it`);
    return false;
  }
  await api.call({
    method: "DELETE",
    path: `/api/v1/namespaces/${encodeURIComponent(namespace)}`,
    signal,
  });
  span.log(`removed the namespace "${namespace}"`);
  return true;
}
