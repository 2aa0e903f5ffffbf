/**
 * Pods as the cluster's API tells them: who owns them, how they use Secrets, and their end.
 * It must not decide whose end that is.
 *
 * @module
 */
import { ApiFailure, type ClusterApi } from "./api.ts";

/** What asks the API. */
export type PodApi = Pick<ClusterApi, "call">;

interface SecretUser {
  readonly env?: readonly { readonly valueFrom?: { readonly secretKeyRef?: Named } }[];
  readonly envFrom?: readonly { readonly secretRef?: Named }[];
}

type Named = { readonly name?: string };

/** The parts of a pod that are looked at here. */
export interface Pod {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly annotations?: Record<string, string>;
    readonly creationTimestamp: string;
    readonly deletionTimestamp?: string;
    readonly ownerReferences?: readonly {
      readonly apiVersion: string;
      readonly kind: string;
      readonly controller?: boolean;
    }[];
  };
  readonly spec: {
    readonly restartPolicy?: string;
    readonly volumes?: readonly {
      readonly name?: string;
      readonly secret?: {
        readonly secretName?: string;
        readonly items?: readonly { readonly key: string; readonly path: string }[];
      };
      readonly projected?: { readonly sources?: readonly { readonly secret?: Named }[] };
    }[];
    readonly containers?: readonly SecretUser[];
    readonly initContainers?: readonly SecretUser[];
  };
  readonly status?: {
    readonly phase?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly lastTransitionTime?: string;
    }[];
    readonly containerStatuses?: readonly {
      readonly state?: { readonly running?: { readonly startedAt?: string } };
    }[];
  };
}

/** How a pod uses Secrets: by files, which kubelet keeps current, or by variables, which only a new pod gets. Pure. */
export function secretUse(
  { spec }: Pick<Pod, "spec">,
  secrets: ReadonlySet<string>,
): "none" | "files" | "variables" {
  const has = (name: string | undefined) => name !== undefined && secrets.has(name);
  const users = [...spec.containers ?? [], ...spec.initContainers ?? []];
  const variables = users.some(({ env, envFrom }) =>
    env?.some(({ valueFrom }) => has(valueFrom?.secretKeyRef?.name)) ||
    envFrom?.some(({ secretRef }) => has(secretRef?.name))
  );
  if (variables) return "variables";
  const files = spec.volumes?.some(({ secret, projected }) =>
    has(secret?.secretName) || projected?.sources?.some((source) => has(source.secret?.name))
  );
  return files ? "files" : "none";
}

/** Whether the controller of a pod is an object of one of the kinds. Pure. */
export function isOwnedBy(
  { metadata }: { readonly metadata: Pick<Pod["metadata"], "ownerReferences"> },
  kinds: readonly string[],
): boolean {
  const owner = metadata.ownerReferences?.find(({ controller }) => controller === true);
  if (!owner) return false;
  const [group, version] = owner.apiVersion.split("/");
  return kinds.includes(version === undefined ? owner.kind : `${owner.kind}.${group}`);
}

/** Ends a pod, and not one of the same name that was created meanwhile. Returns namespace/name. */
export async function deletePod(api: PodApi, pod: Pod, signal: AbortSignal): Promise<string> {
  const { namespace, name, uid } = pod.metadata;
  const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
  const body = { preconditions: { uid } };
  await api.call({ method: "DELETE", path, body, signal }).catch((error) => {
    // Gone already, or another one.
    if (!(error instanceof ApiFailure && [404, 409].includes(error.status))) throw error;
  });
  return nameOf(pod);
}

/** namespace/name. Pure. */
export function nameOf({ metadata }: Pick<Pod, "metadata">): string {
  return `${metadata.namespace}/${metadata.name}`;
}
