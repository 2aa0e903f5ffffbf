/**
 * Asks a cluster what this user may do in it, before anything is changed there: what is missing is told all at once,
 * with verb, resource and namespace.
 * It must not change anything; a review is a question.
 *
 * @module
 */
import { GatewayError } from "../../vm/base/error.ts";
import { ApiFailure, type ClusterApi, type KubeResource } from "../cluster/api.ts";

/** One thing that has to be allowed. */
export interface Right {
  readonly verb: string;
  readonly group: string;
  /** Plural. */
  readonly resource: string;
  /** Absent for what is in no namespace. */
  readonly namespace?: string;
}

const MAX_TOLD = 8;

/** What applying, reading and, if asked for, deleting an object takes. */
export function rightsFor(
  resource: KubeResource,
  namespace: string | undefined,
  verbs: readonly string[],
): Right[] {
  const { group, plural, namespaced } = resource;
  const place = namespaced && namespace ? { namespace } : {};
  return verbs.map((verb) => ({ verb, group, resource: plural, ...place }));
}

/**
 * The rights of the list that are missing. One question is enough where everything is allowed. Where the cluster
 * answers no such question nothing is missing: the requests themselves will tell.
 */
export async function missingRights(
  api: ClusterApi,
  rights: readonly Right[],
  signal: AbortSignal,
): Promise<Right[]> {
  const distinct = [...new Map(rights.map((right) => [rightWords(right), right])).values()];
  try {
    const all = { verb: "*", group: "*", resource: "*" };
    if (await isAllowed(api, all, signal)) return [];
    const answers = await Promise.all(distinct.map((right) => isAllowed(api, right, signal)));
    return distinct.filter((_, at) => !answers[at]);
  } catch (error) {
    if (error instanceof ApiFailure && [403, 404, 405].includes(error.status)) return [];
    throw error;
  }
}

/** Whether one thing is allowed. */
export async function isAllowed(
  api: ClusterApi,
  right: Right,
  signal: AbortSignal,
): Promise<boolean> {
  const review = await api.call<{ status?: { allowed?: boolean } }>({
    method: "POST",
    path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    body: {
      apiVersion: "authorization.k8s.io/v1",
      kind: "SelfSubjectAccessReview",
      spec: { resourceAttributes: right },
    },
    signal,
  });
  return review.status?.allowed === true;
}

/** A right in a sentence: `"create" on "deployments.apps" in the namespace "x"`. */
function rightWords({ verb, group, resource, namespace }: Right): string {
  const name = group === "" ? resource : `${resource}.${group}`;
  return `"${verb}" on "${name}" ${
    namespace ? `in the namespace "${namespace}"` : "in the cluster"
  }`;
}

/** The error for rights that are missing. */
export function rightsError(context: string, missing: readonly Right[]): GatewayError {
  const told = missing.slice(0, MAX_TOLD).map(rightWords).join(", ");
  const more = missing.length > MAX_TOLD ? `, and ${missing.length - MAX_TOLD} more` : "";
  const { verb, group, resource, namespace } = missing[0]!;
  const name = group === "" ? resource : `${resource}.${group}`;
  const where = namespace ? ` -n ${namespace}` : "";
  return new GatewayError({
    code: "permission",
    what: `Cannot deploy with the context "${context}"`,
    why: `its user lacks ${told}${more}; nothing was changed`,
    fix:
      `ask who runs the cluster for a Role with them; \`kubectl --context ${context} auth can-i ` +
      `${verb} ${name}${where}\` tells when it is there`,
  });
}
