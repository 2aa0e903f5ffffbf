/**
 * This room applies a payload to a cluster that the user has; for our own see the room cluster. Read plan.ts next.
 *
 * `gateway deploy` in its order. Nothing is changed in the cluster before everything was checked.
 *
 * @module
 */
import { GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { waitFor } from "../../vm/base/wait.ts";
import { removeClientFiles, writeClientFiles } from "../credentials/client_files.ts";
import type { Owner } from "../credentials/owner.ts";
import type { Pki } from "../credentials/pki.ts";
import { toJsonText } from "../yaml/kube_yaml.ts";
import {
  type Address,
  balancerAddress,
  listNodes,
  nodeAddress,
  outerService,
  servicePort,
} from "./address.ts";
import { awaitReady } from "./await_ready.ts";
import { DeploymentFolder } from "./certificates.ts";
import { checkImages } from "./images.ts";
import {
  type Inventory,
  inventoryObject,
  inventoryPath,
  isOurs,
  joinObjects,
  readInventory,
  staleObjects,
} from "./inventory.ts";
import { ApiFailure, type ClusterApi, type KubeObject } from "../cluster/api.ts";
import { idOf, type ObjectId, objectLabel, readObjects } from "./objects.ts";
import { withCertificateMark, withImagePrefix } from "./objects.ts";
import type { DeployPayload } from "./payload.ts";
import { applyObject, type PlacedObject, placeObjects, type PlannedObject } from "./plan.ts";
import { planObjects } from "./plan.ts";
import { findStale, removalRights, removeObjects, type StaleObject } from "./prune.ts";
import { isAllowed, missingRights, rightsError, rightsFor } from "./rights.ts";
import { openTarget, type TargetRequest } from "./target.ts";

/** What the user wants. */
export interface DeployRequest extends TargetRequest {
  readonly payload: DeployPayload;
  /** Whose certificates are taken; undefined for the deployment's own. */
  readonly instance?: string;
  /** Where clients reach the service; found out where it is absent. */
  readonly address?: { readonly host: string; readonly port?: number };
  /** The registry and path that have the images which are built here. */
  readonly imagePrefix?: string;
  /** Only find out what would change. */
  readonly dryRun: boolean;
  /** Take fields over that another manager owns. */
  readonly forceConflicts: boolean;
  /** Wait until it is ready. */
  readonly wait: boolean;
  /** Bound of each wait. */
  readonly timeoutMs: number;
}

/** Where it is told what is done, and what ends it. */
export interface DeployContext {
  readonly span: Span;
  readonly signal: AbortSignal;
}

/** What was done, or would be. */
export interface DeployReport {
  readonly context: string;
  readonly server: string;
  readonly payload: string;
  readonly namespace: string;
  readonly dryRun: boolean;
  readonly objects: readonly (ObjectId & { readonly change: PlannedObject["change"] })[];
  readonly removed: readonly ObjectId[];
  /** Null where it is not known. */
  readonly endpoint: string | null;
  /** Folder of the client's certificates; null where none were written. */
  readonly clientFiles: string | null;
}

/** A report with what it was made from, for a diff. */
export interface DeployOutcome {
  readonly report: DeployReport;
  readonly planned: readonly PlannedObject[];
  readonly stale: readonly StaleObject[];
}

/** What every step has. */
interface Work extends DeployContext {
  readonly api: ClusterApi;
  readonly request: DeployRequest;
  readonly folder: DeploymentFolder;
}

/**
 * Deploys, or finds out what deploying would do.
 *
 * @throws GatewayError `usage`, `network-failed`, `permission`, `not-supported`, `deploy-failed`, `timeout`.
 */
export async function deploy(
  request: DeployRequest,
  { span, signal }: DeployContext,
): Promise<DeployOutcome> {
  using api = await openTarget(request);
  await checkAnswers(api, request.context, signal);
  await using stack = new AsyncDisposableStack();
  const folder = request.dryRun
    ? stack.use(await DeploymentFolder.temporary(request.context))
    : stack.use(await DeploymentFolder.open(request.context));
  const work: Work = { api, request, folder, span, signal };
  const { payload } = request;
  const nodes = await listNodes(api, signal);
  const first = await guessHost(work, nodes);
  const draft = await makeObjects(work, await certificates(work, first));
  const placed = await keepNamespaces(work, await checkRights(work, draft));
  const { warning } = checkImages(draft.map(({ object }) => object), nodes);
  if (warning) span.warn(warning);
  if (payload.login) span.warn(loginAdvice(payload));
  const planned = await planObjects(api, placed, applyOptions(work));
  const inventory = await readInventory(api, payload.namespace, payload.name, signal);
  const stale = await checkStale(work, inventory, placed);
  if (request.dryRun) return outcome(work, planned, stale, undefined, null);

  const address = await reachAddress(work, planned, nodes);
  const pki = await certificates(work, address?.host ?? first);
  const wanted = await makeObjects(work, pki);
  await applyAll(work, planned, wanted, inventory);
  await removeObjects(api, stale, { ...request, span, signal });
  await saveInventory(work, inventory, planned, []);
  await folder.add(`${payload.namespace}/${payload.name}`);
  if (request.wait) await awaitReady(api, wanted, { ...request, span, signal });
  const files = address ? await writeFiles(work, pki, address) : null;
  if (!address) span.warn(NO_ADDRESS);
  return outcome(work, planned, stale, address, files);
}

const NO_ADDRESS =
  "no client files: nothing tells where the service answers; pass --address HOST:PORT";

/** A token ends, and nothing of ours stays behind a deployment to renew it. */
function loginAdvice({ namespace, login }: DeployPayload): string {
  const { serviceAccount, audience } = login!;
  return `the service wants a login, and gateway makes no token in this cluster: see docs/deploy.md ` +
    `(service account "${serviceAccount}" in "${namespace}", audience "${audience}")`;
}

async function checkAnswers(api: ClusterApi, context: string, signal: AbortSignal): Promise<void> {
  try {
    await api.call({ method: "GET", path: "/version", signal });
  } catch (error) {
    if (!(error instanceof ApiFailure)) throw error;
    if (error.status === 403) return;
    throw new GatewayError({
      code: error.status === 401 ? "permission" : "network-failed",
      what: `Cannot use the cluster of the context "${context}" at ${api.server}`,
      why: `it answered ${error.status}: ${error.words}`,
      fix: error.status === 401
        ? "sign in again: its user's certificate or token is not, or no longer, accepted"
        : "see that the context's server is the API of a cluster",
    });
  }
}

const applyOptions = ({ request, signal }: Work) => ({
  context: request.context,
  force: request.forceConflicts,
  signal,
});

const certificates = ({ folder, request, span, signal }: Work, host: string | undefined) =>
  folder.certificates({ instance: request.instance, host, span, signal });

/** The host that is known before anything is applied: what was named, what a balancer has, a node's. */
async function guessHost(
  { request, folder }: Work,
  nodes: readonly KubeObject[] | undefined,
): Promise<string | undefined> {
  return request.address?.host ?? nodeAddress(nodes ?? [], (await folder.record())?.host);
}

async function makeObjects(work: Work, pki: Pki): Promise<PlacedObject[]> {
  const { api, request, folder, signal } = work;
  const { instance, payload: { wantsJwt } } = request;
  const material = await folder.material(pki, { instance, wantsJwt });
  let objects = readObjects(await request.payload.documents(material));
  if (request.imagePrefix !== undefined) objects = withImagePrefix(objects, request.imagePrefix);
  objects = withCertificateMark(objects, [pki.caPem, pki.server.certPem, pki.client.certPem]);
  const { context } = request;
  return await placeObjects(api, objects, request.payload.namespace, { context, signal });
}

/** Insists on every right that applying takes. Those on namespaces are looked at by {@linkcode keepNamespaces}. */
async function checkRights(work: Work, placed: readonly PlacedObject[]): Promise<PlacedObject[]> {
  const { api, request, signal } = work;
  const own = { group: "", resource: "configmaps", namespace: request.payload.namespace };
  const rights = [
    ...["get", "create", "patch"].map((verb) => ({ verb, ...own })),
    ...placed.filter(({ resource }) => resource.plural !== "namespaces").flatMap((one) =>
      rightsFor(one.resource, one.object.metadata.namespace, ["get", "create", "patch"])
    ),
  ];
  const missing = await missingRights(api, rights, signal);
  if (missing.length > 0) throw rightsError(request.context, missing);
  return [...placed];
}

/** Leaves out namespaces that are there and that this user may not change: who owns only what is in one may deploy. */
async function keepNamespaces(work: Work, placed: PlacedObject[]): Promise<PlacedObject[]> {
  const { api, request, span, signal } = work;
  const kept: PlacedObject[] = [];
  for (const one of placed) {
    if (one.resource.plural !== "namespaces") {
      kept.push(one);
      continue;
    }
    const rights = rightsFor(one.resource, undefined, ["get", "create", "patch"]);
    const missing = await missingRights(api, rights, signal);
    if (missing.length === 0) {
      kept.push(one);
      continue;
    }
    const label = `the namespace "${one.object.metadata.name}"`;
    const mayLook = await isAllowed(api, rights[0]!, signal).catch(() => false);
    const there = !mayLook || await api.get(one.path, signal) !== undefined;
    if (!there) throw rightsError(request.context, missing);
    span.log(`${label} is left as it is: this user may not change it`);
  }
  return kept;
}

async function checkStale(
  work: Work,
  inventory: Inventory | undefined,
  placed: readonly PlacedObject[],
): Promise<StaleObject[]> {
  const { api, request, span, signal } = work;
  const ids = staleObjects(inventory?.objects ?? [], placed.map(({ object }) => idOf(object)));
  const missing = await missingRights(api, await removalRights(api, ids, signal), signal);
  if (missing.length > 0) throw rightsError(request.context, missing);
  return await findStale(api, ids, { span, signal });
}

/** Where clients will call. A load balancer's address comes only once its Service is there. */
async function reachAddress(
  work: Work,
  planned: readonly PlannedObject[],
  nodes: readonly KubeObject[] | undefined,
): Promise<Address | undefined> {
  const { api, request, folder, span, signal } = work;
  const { nodePort } = request.payload;
  const service = outerService(planned.map(({ after }) => after), nodePort);
  const port = servicePort(service, nodePort);
  if (request.address) {
    const { host } = request.address;
    const outer = service?.spec?.type === "LoadBalancer" ? service.spec.ports?.[0]?.port : port;
    return { host, port: request.address.port ?? outer };
  }
  if (service?.spec?.type !== "LoadBalancer") {
    const host = nodeAddress(nodes ?? [], (await folder.record())?.host);
    return host === undefined ? undefined : { host, port };
  }
  for (const one of planned) {
    if (one.after !== service && one.resource.plural !== "namespaces") continue;
    await applyObject(api, one, applyOptions(work));
  }
  const { path } = planned.find(({ after }) => after === service)!;
  span.log("waiting for the load balancer's address");
  return await waitFor({
    what: `an address of the load balancer of the Service "${service.metadata.name}"`,
    probe: async (signal) => balancerAddress(await api.get(path, signal) ?? service),
    timeoutMs: request.timeoutMs,
    intervalMs: 1000,
    signal,
    hint: "pass --address HOST:PORT, or see why with kubectl describe service",
  });
}

async function applyAll(
  work: Work,
  planned: readonly PlannedObject[],
  wanted: readonly PlacedObject[],
  inventory: Inventory | undefined,
): Promise<void> {
  const { api, span, signal } = work;
  const isNamespace = ({ resource }: PlacedObject) => resource.plural === "namespaces";
  const todo = planned.map((plan) => ({
    plan,
    placed: wanted.find(({ path }) => path === plan.path) ?? plan,
  }));
  const apply = async ({ plan, placed }: typeof todo[number]) => {
    const changed = plan.change !== "same" ||
      toJsonText(plan.object) !== toJsonText(placed.object);
    // What is the same and not ours yet is applied, too: the fields become ours.
    if (changed || !isOurs(plan.live!)) {
      await applyObject(api, placed, applyOptions(work));
    }
    const words = { create: "created", update: "changed", same: changed ? "changed" : "unchanged" };
    span.log(`${words[plan.change]} ${objectLabel(idOf(plan.object))}`);
  };
  for (const one of todo.filter(({ plan }) => isNamespace(plan))) await apply(one);
  // Before the objects: a deployment that is cut off must still know what it has put there.
  await saveInventory(work, inventory, planned, inventory?.objects ?? []);
  for (const one of todo.filter(({ plan }) => !isNamespace(plan))) {
    await apply(one);
    if (one.plan.object.kind === "CustomResourceDefinition") {
      await established(api, one.plan, signal);
    }
  }
}

/** A definition is of use only once the API serves its kind. */
async function established(api: ClusterApi, { path, object }: PlacedObject, signal: AbortSignal) {
  await waitFor({
    what: `the API server to serve the kinds of "${object.metadata.name}"`,
    probe: async (signal) =>
      (await api.get(path, signal))?.status?.conditions?.some((
        one: { type: string; status: string },
      ) => one.type === "Established" && one.status === "True") || undefined,
    timeoutMs: 60_000,
    intervalMs: 500,
    signal,
  });
  api.forget();
}

/** Writes what is in the cluster now: the plan's objects and, until they are removed, those of before. */
async function saveInventory(
  work: Work,
  before: Inventory | undefined,
  planned: readonly PlannedObject[],
  others: readonly ObjectId[],
): Promise<void> {
  const { api, request } = work;
  const { name, namespace } = request.payload;
  const ids = planned.map(({ object }) => idOf(object));
  const madeNow = planned.some(({ object, live }) =>
    object.kind === "Namespace" && object.metadata.name === namespace && live === undefined
  );
  const object = inventoryObject(namespace, name, {
    objects: joinObjects(ids, others),
    ownsNamespace: before?.ownsNamespace ?? madeNow,
  });
  const resource = {
    ...{ group: "", apiVersion: "v1", kind: "ConfigMap", plural: "configmaps", namespaced: true },
  };
  const path = inventoryPath(namespace, name);
  // Ours alone, so that an edit of it is no conflict.
  await applyObject(api, { object, resource, path }, { ...applyOptions(work), force: true });
}

/** The client files' owner: one entry for each payload and context. */
function deploymentOwner(folder: DeploymentFolder, payload: DeployPayload): Owner {
  return {
    instance: `${payload.namespace}/${payload.name}`,
    instanceDir: folder.dir,
    calledAs: `deployed-${folder.name}-${payload.name}`,
  };
}

async function writeFiles(work: Work, pki: Pki, address: Address): Promise<string> {
  const { folder, request } = work;
  const { dir } = await writeClientFiles({
    owner: deploymentOwner(folder, request.payload),
    ...address,
    caPem: pki.caPem,
    client: pki.client,
  });
  return `${dir}/mtls`;
}

/** Takes a deployment's client files away. */
export async function dropFiles(folder: DeploymentFolder, payload: DeployPayload): Promise<void> {
  await removeClientFiles(deploymentOwner(folder, payload));
}

function outcome(
  { api, request }: Work,
  planned: readonly PlannedObject[],
  stale: readonly StaleObject[],
  address: Address | undefined,
  clientFiles: string | null,
): DeployOutcome {
  const report: DeployReport = {
    context: request.context,
    server: api.server,
    payload: request.payload.name,
    namespace: request.payload.namespace,
    dryRun: request.dryRun,
    objects: planned.map(({ object, change }) => ({ ...idOf(object), change })),
    removed: stale.map(({ id }) => id),
    endpoint: address ? `https://${address.host}:${address.port}` : null,
    clientFiles,
  };
  return { report, planned, stale };
}
