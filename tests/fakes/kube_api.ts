/**
 * A small API server on loopback for tests of `gateway deploy`: discovery, objects in memory, apply with field managers
 * and conflicts, dry run, access reviews. What a real one does beside that is tried in tests/vm/deploy_test.ts.
 * It must not know what the tests expect.
 *
 * @module
 */
import { join } from "@std/path";
import { fromJsonText, toJsonText } from "../../bootstrap/yaml/kube_yaml.ts";

// deno-lint-ignore no-explicit-any
type Json = any;

/** What is served: path of the group's version, and plural, kind, namespaced. */
const SERVED: Record<string, readonly (readonly [string, string, boolean])[]> = {
  "/api/v1": [
    ["namespaces", "Namespace", false],
    ["nodes", "Node", false],
    ["configmaps", "ConfigMap", true],
    ["secrets", "Secret", true],
    ["services", "Service", true],
    ["pods", "Pod", true],
    ["events", "Event", true],
    ["persistentvolumeclaims", "PersistentVolumeClaim", true],
  ],
  "/apis/apps/v1": [
    ["deployments", "Deployment", true],
    ["statefulsets", "StatefulSet", true],
    ["daemonsets", "DaemonSet", true],
  ],
  "/apis/batch/v1": [["jobs", "Job", true], ["cronjobs", "CronJob", true]],
};

/** One request that changed something, as `VERB path`. */
export interface FakeKube extends AsyncDisposable {
  readonly port: number;
  /** By path. */
  readonly objects: Map<string, Json>;
  /** Every request that was not a dry run and no question. */
  readonly changes: string[];
  /** Rights as `verb resource`; undefined: everything is allowed. */
  allowed: Set<string> | undefined;
  /** Called after an apply; sets a status. */
  onApply: (object: Json) => void;
  /** Every request's path, also those that changed nothing. */
  readonly asked: string[];
}

/** Starts one. */
export function startFakeKube(): FakeKube {
  const objects = new Map<string, Json>();
  const changes: string[] = [];
  const asked: string[] = [];
  const fake = {
    objects,
    changes,
    asked,
    allowed: undefined,
    onApply: () => {},
  } as unknown as FakeKube;
  let version = 0;
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const url = new URL(request.url);
      const { pathname: path, searchParams: query } = url;
      asked.push(`${request.method} ${path}`);
      const text = await request.text();
      const body: Json = text === "" ? undefined : fromJsonText(text);
      if (path === "/version") return Response.json({ gitVersion: "v1.37.2" });
      if (path in SERVED) {
        const resources = SERVED[path]!.map(([name, kind, namespaced]) => ({
          name,
          kind,
          namespaced,
        }));
        return Response.json({ kind: "APIResourceList", resources });
      }
      if (path.endsWith("/selfsubjectaccessreviews")) {
        const { verb, resource } = body.spec.resourceAttributes;
        const allowed = fake.allowed === undefined || fake.allowed.has(`${verb} ${resource}`);
        return Response.json({ status: { allowed } }, { status: 201 });
      }
      const dryRun = query.get("dryRun") === "All";
      if (request.method !== "GET" && !dryRun) changes.push(`${request.method} ${path}`);
      switch (request.method) {
        case "GET": {
          if (objects.has(path)) return exactJson(objects.get(path));
          if (/\/log$/.test(path)) return new Response("first line\npanic: no database\n");
          const plural = path.split("/").at(-1)!;
          if (!Object.values(SERVED).flat().some(([name]) => name === plural)) {
            return notFound(
              path,
            );
          }
          const items = [...objects].filter(([key]) => key.startsWith(`${path}/`));
          return exactJson({ items: items.map(([, object]) => object) });
        }
        case "DELETE":
          if (!objects.delete(path)) return notFound(path);
          return Response.json({ kind: "Status", status: "Success" });
        case "PATCH": {
          const namespace = /\/namespaces\/([^/]+)\/./.exec(path)?.[1];
          if (namespace && !objects.has(`/api/v1/namespaces/${namespace}`)) {
            return notFound(`/api/v1/namespaces/${namespace}`);
          }
          const live = objects.get(path);
          const force = query.get("force") === "true";
          const result = applyTo(live, body, query.get("fieldManager")!, force);
          if (Array.isArray(result)) return conflict(result);
          result.metadata.resourceVersion = String(++version);
          result.metadata.uid ??= crypto.randomUUID();
          if (!dryRun) {
            objects.set(path, result);
            fake.onApply(result);
          }
          return exactJson(result);
        }
        default:
          return new Response("", { status: 405 });
      }
    },
  );
  return Object.assign(fake, {
    port: server.addr.port,
    [Symbol.asyncDispose]: () => server.shutdown(),
  });
}

/** Every leaf of an object as `.path` and value, lists as one leaf. */
function leaves(value: Json, path = ""): [string, Json][] {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return [[path, value]];
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, `${path}.${key}`));
}

/** The merged object, or the conflicts: fields that somebody else owns and that would change. */
function applyTo(live: Json, body: Json, manager: string, force: boolean): Json {
  const wanted = leaves(body).filter(([path]) =>
    !/^\.(apiVersion|kind|metadata\.(name|namespace))$/.test(path)
  );
  const owners: Json[] = structuredClone(live?.metadata.managedFields ?? []);
  const now = new Map(leaves(live ?? {}));
  const conflicts: string[][] = [];
  for (const [path, value] of wanted) {
    const owner = owners.find((one) => one.manager !== manager && one.paths.includes(path));
    if (!owner || toJsonText(now.get(path)) === toJsonText(value)) continue;
    if (!force) conflicts.push([owner.manager, path]);
    else owner.paths = owner.paths.filter((one: string) => one !== path);
  }
  if (conflicts.length > 0) return conflicts;
  const own = owners.find((one) => one.manager === manager);
  const result = structuredClone(live ?? body);
  // What this manager applied before and leaves out now goes away.
  for (const path of own?.paths ?? []) set(result, path, undefined);
  for (const [path, value] of wanted) set(result, path, value);
  result.metadata.managedFields = [
    ...owners.filter((one) => one !== own),
    { manager, operation: "Apply", paths: wanted.map(([path]) => path) },
  ];
  result.metadata.generation = (live?.metadata.generation ?? 0) + 1;
  return result;
}

function set(object: Json, path: string, value: Json): void {
  // No key of these tests' objects has a dot in it but those of data.
  const match = /^\.data\.(.*)$/.exec(path);
  const keys = match ? ["data", match[1]!] : path.slice(1).split(".");
  let at = object;
  for (const key of keys.slice(0, -1)) at = at[key] ??= {};
  if (value === undefined) delete at[keys.at(-1)!];
  else at[keys.at(-1)!] = value;
}

/** With all digits of its integers, as the real one. */
function exactJson(value: unknown): Response {
  return new Response(toJsonText(value), { headers: { "content-type": "application/json" } });
}

function notFound(path: string): Response {
  const status = { kind: "Status", reason: "NotFound", message: `${path} not found` };
  return Response.json(status, { status: 404 });
}

function conflict(conflicts: string[][]): Response {
  const causes = conflicts.map(([manager, field]) => ({
    reason: "FieldManagerConflict",
    message: `conflict with "${manager}" using v1`,
    field,
  }));
  const status = { kind: "Status", reason: "Conflict", message: "conflicts", details: { causes } };
  return Response.json(status, { status: 409 });
}

/** Writes a kubeconfig with one context, `fake`, and returns its path. */
export async function writeFakeConfig(dir: string, port: number, token = "t"): Promise<string> {
  const path = join(dir, "kubeconfig.yaml");
  const server = `http://127.0.0.1:${port}`;
  await Deno.writeTextFile(
    path,
    JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "c", cluster: { server, "insecure-skip-tls-verify": true } }],
      users: [{ name: "u", user: { token } }],
      contexts: [{ name: "fake", context: { cluster: "c", user: "u" } }],
      "current-context": "fake",
    }),
  );
  return path;
}

/** A node that is ready and has the demo's image. */
export const READY_NODE = {
  metadata: { name: "n1" },
  status: {
    addresses: [{ type: "InternalIP", address: "192.0.2.7" }],
    conditions: [{ type: "Ready", status: "True" }],
    images: [{ names: ["gateway.local/demo:1"] }],
  },
};

/** What a Deployment's controller would say once all pods are there. */
export function becomeReady(object: Json): void {
  if (object.kind !== "Deployment") return;
  const { generation } = object.metadata;
  const replicas = object.spec.replicas ?? 1;
  object.status = {
    ...{ observedGeneration: generation, replicas, updatedReplicas: replicas },
    availableReplicas: replicas,
  };
}
