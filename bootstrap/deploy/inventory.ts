/**
 * What a deployment has put into a cluster, kept there as a ConfigMap: only what it lists is ever removed again.
 * It must not hold a value of any object.
 *
 * @module
 */
import * as v from "valibot";
import { GatewayError } from "../../vm/base/error.ts";
import { type ClusterApi, FIELD_MANAGER, type KubeObject } from "../cluster/api.ts";
import { type ObjectId, objectKey } from "./objects.ts";

/** The list of one payload in one namespace. */
export interface Inventory {
  readonly objects: readonly ObjectId[];
  /** Whether a deployment made the namespace; only then it goes with the last object. */
  readonly ownsNamespace: boolean;
}

const Schema = v.object({
  version: v.literal(1),
  ownsNamespace: v.boolean(),
  objects: v.array(v.object({
    apiVersion: v.string(),
    kind: v.string(),
    namespace: v.optional(v.string()),
    name: v.string(),
  })),
});

/** Label of every inventory. */
const INVENTORY_LABEL = "gateway.local/inventory";

/** The ConfigMap's name. */
function inventoryName(payload: string): string {
  return `gateway-deploy-${payload}`;
}

/** Where it is. */
export function inventoryPath(namespace: string, payload: string): string {
  return `/api/v1/namespaces/${encodeURIComponent(namespace)}/configmaps/${inventoryName(payload)}`;
}

/**
 * The list as it is in the cluster; undefined when nothing was deployed.
 *
 * @throws GatewayError `deploy-failed` when it is there and cannot be read: guessing would remove somebody's objects.
 */
export async function readInventory(
  api: ClusterApi,
  namespace: string,
  payload: string,
  signal: AbortSignal,
): Promise<Inventory | undefined> {
  const found = await api.get(inventoryPath(namespace, payload), signal);
  if (!found) return undefined;
  try {
    const { objects, ownsNamespace } = v.parse(Schema, JSON.parse(found.data?.inventory));
    return { objects, ownsNamespace };
  } catch {
    const name = inventoryName(payload);
    throw new GatewayError({
      code: "deploy-failed",
      what: `Cannot tell what was deployed into the namespace "${namespace}"`,
      why: `the ConfigMap "${name}" there is not as gateway writes it`,
      fix:
        `look at it, and remove it if it is of no use: \`kubectl -n ${namespace} get cm ${name} -o yaml\``,
    });
  }
}

/** The ConfigMap to apply. */
export function inventoryObject(
  namespace: string,
  payload: string,
  inventory: Inventory,
): KubeObject {
  const objects = inventory.objects.map(({ apiVersion, kind, namespace, name }) => (
    { apiVersion, kind, ...(namespace ? { namespace } : {}), name }
  ));
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: {
      name: inventoryName(payload),
      namespace,
      labels: { "app.kubernetes.io/managed-by": FIELD_MANAGER, [INVENTORY_LABEL]: payload },
    },
    data: {
      inventory: JSON.stringify(
        { version: 1, ownsNamespace: inventory.ownsNamespace, objects },
        null,
        1,
      ),
    },
  };
}

/** Both lists as one, the first one's order first. */
export function joinObjects(a: readonly ObjectId[], b: readonly ObjectId[]): ObjectId[] {
  return [...new Map([...a, ...b].map((id) => [objectKey(id), id])).values()];
}

/** What is listed and no longer wanted, the last one first. Namespaces are never among it. */
export function staleObjects(listed: readonly ObjectId[], wanted: readonly ObjectId[]): ObjectId[] {
  const kept = new Set(wanted.map(objectKey));
  return listed.filter((id) => id.kind !== "Namespace" && !kept.has(objectKey(id))).reverse();
}

/** True when the object's fields say that a deployment applied it. */
export function isOurs(object: KubeObject): boolean {
  return object.metadata.managedFields?.some((entry) =>
    entry.manager === FIELD_MANAGER && entry.operation === "Apply"
  ) ?? false;
}
