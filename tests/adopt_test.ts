/**
 * A clone takes over its cluster, against an API that has its pods in memory and a service that really asks for client
 * certificates (openssl's). What kubelet and a real API do is tried in tests/vm/snapshots_test.ts.
 *
 * @module
 */
import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { adoptCluster, type AdoptParts } from "../bootstrap/cluster/adopt.ts";
import { ensurePki, type Pki } from "../bootstrap/credentials/pki.ts";
import type { Payload } from "../bootstrap/payload/payload.ts";
import { freeLoopbackPort } from "../net/forward.ts";
import type { GvproxyClient } from "../net/gvproxy.ts";
import { GatewayError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";
import type { ChildProcess } from "../vm/base/process.ts";
import { kubeconfig } from "./fakes/kubeconfig.ts";
import { startOpensslServer } from "./fakes/openssl_server.ts";
import { tempDir } from "./fakes/temp_dir.ts";

const { signal } = new AbortController();
const PODS = "/api/v1/namespaces/shop/pods";
const SECRETS = "/api/v1/namespaces/shop/secrets";

/** What the kinds of pods have of their own. */
const RELOADS = { "gateway.local/reloads-certificates": "true" };
const OWNED = [{ apiVersion: "agents.x-k8s.io/v1alpha1", kind: "Sandbox", controller: true }];
const FILES = { volumes: [{ secret: { secretName: "shop-tls" } }] };

interface FakePod {
  readonly metadata: Record<string, unknown> & { readonly name: string; readonly uid: string };
  readonly spec: unknown;
}

const pod = (name: string, spec: unknown = FILES, metadata = {}): FakePod => ({
  metadata: { name, uid: crypto.randomUUID(), namespace: "shop", ...metadata },
  spec,
});

/** The clone, its source, its cluster's API and its service. */
class Clone implements AsyncDisposable {
  readonly pods = new Map<string, FakePod>();
  readonly changes: string[] = [];
  /** Called when a pod is touched or deleted: what becomes of it. */
  onChange: (how: "PATCH" | "DELETE", name: string) => Promise<void> | void = () => {};
  readonly #port = freeLoopbackPort();
  #service: ChildProcess | undefined;
  readonly #api: Deno.HttpServer<Deno.NetAddr>;

  private constructor(readonly source: Pki, readonly own: Pki, readonly sourceDir: string) {
    const tls = { cert: own.server.certPem, key: own.server.keyPem };
    this.#api = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {}, ...tls },
      (request) => this.#answer(request),
    );
  }

  static async make(): Promise<Clone> {
    const top = await tempDir();
    const pki = (name: string) => ensurePki(join(top, name), { span: silentSpan(), signal });
    return new Clone(await pki("source"), await pki("own"), join(top, "source"));
  }

  async #answer(request: Request): Promise<Response> {
    const { pathname: path, search } = new URL(request.url);
    const { method } = request;
    const body = await request.text();
    if (method === "GET" && path === PODS) {
      return Response.json({ items: [...this.pods.values()] });
    }
    if (method === "PATCH" && path.startsWith(SECRETS)) {
      this.changes.push(`PATCH ${path.slice(SECRETS.length)}${search} ${secretOf(body)}`);
      return Response.json({});
    }
    const name = path.slice(PODS.length + 1);
    const there = this.pods.get(name);
    if (!path.startsWith(PODS) || !there) return Response.json({}, { status: 404 });
    if (method === "DELETE" && JSON.parse(body).preconditions.uid !== there.metadata.uid) {
      return Response.json({ message: "the UID does not match" }, { status: 409 });
    }
    if (method === "DELETE") this.pods.delete(name);
    const change = `${method} ${name}`;
    // A pod is touched until the service has the certificates.
    if (method === "DELETE" || !this.changes.includes(change)) this.changes.push(change);
    await this.onChange(method as "PATCH" | "DELETE", name);
    return Response.json({});
  }

  /** The service with the certificates of one of the two; it lets in the clients of `trusted`. */
  async serve(pki: Pki, trusted: Pki): Promise<void> {
    await this.#service?.[Symbol.asyncDispose]();
    this.#service = startOpensslServer(this.#port, pki, trusted);
  }

  /** Takes over, within a few seconds. */
  async adopt(change: Partial<AdoptParts> = {}): Promise<ReturnType<typeof silentSpan>> {
    const span = silentSpan();
    await adoptCluster({
      from: { name: "source", pkiDir: this.sourceDir, k3sYaml: null, self: false },
      payload: PAYLOAD,
      material: { certificates: this.own },
      apiPort: this.apiPort,
      gvproxy: {} as GvproxyClient,
      renewed: false,
      forward: { address: "127.0.0.1", hostPort: this.#port },
      readKubeconfig: () => Promise.resolve(kubeconfig(this.own)),
      placeFiles: () => Promise.reject(new Error("an older guest")),
      ...{ span, guarded: signal, timeoutMs: 10_000 },
      ...change,
    } as unknown as AdoptParts);
    return span;
  }

  get apiPort(): number {
    return this.#api.addr.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#service?.[Symbol.asyncDispose]();
    await this.#api.shutdown();
  }
}

const PAYLOAD = {
  namespace: "shop",
  charts: [],
  secrets: [{ name: "shop-tls", type: "kubernetes.io/tls", data: { "tls.crt": "server.crt" } }],
  service: { protocol: "https", health: { path: "/" } },
  recreatePodsOf: ["Sandbox.agents.x-k8s.io"],
} as unknown as Payload;

/** The certificate in a Secret's patch. */
function secretOf(body: string): string {
  const { data } = JSON.parse(body);
  return atob(data["tls.crt"]);
}

Deno.test("adoptCluster() gives the Secrets, touches pods that reload them and replaces others once", async () => {
  await using clone = await Clone.make();
  const { source, own, pods } = clone;
  for (
    const one of [
      pod("gateway", FILES, { annotations: RELOADS }),
      pod("plain"),
      pod("by-variable", {
        containers: [{ envFrom: [{ secretRef: { name: "shop-tls" } }] }],
      }, { annotations: RELOADS }),
      pod("box", FILES, { ownerReferences: OWNED }),
      pod("stranger", {}),
    ]
  ) pods.set(one.metadata.name, one);
  await clone.serve(source, source);
  clone.onChange = async (how, name) => {
    // As a StatefulSet does: another pod of the same name, at once.
    if (how === "DELETE") pods.set(name, pod(name));
    if (how === "PATCH") await clone.serve(own, own);
  };
  await clone.adopt();
  const [first, ...others] = clone.changes;
  assertEquals(
    first,
    `PATCH /shop-tls?fieldManager=deploy@k3s&force=true ${own.server.certPem}`,
  );
  assertEquals(others.toSorted(), ["DELETE by-variable", "DELETE plain", "PATCH gateway"]);
});

Deno.test("adoptCluster() places files once the cluster has the Secrets, and touches the pod once after all", async () => {
  await using clone = await Clone.make();
  const { source, own, pods } = clone;
  const volumes = [{ name: "tls", secret: { secretName: "shop-tls" } }];
  const gateway = pod("gateway", { volumes }, { annotations: RELOADS });
  for (const one of [gateway, pod("box", FILES, { ownerReferences: OWNED })]) {
    pods.set(one.metadata.name, one);
  }
  await clone.serve(source, source);
  const order: string[] = [];
  await clone.adopt({
    placeFiles: async (lines) => {
      const text = await lines;
      assertEquals(text, `${gateway.metadata.uid} tls tls.crt ${btoa(own.server.certPem)}\n`);
      order.push(...clone.changes);
      await clone.serve(own, own);
    },
  });
  assertEquals(order.length, 1);
  assertEquals(clone.changes.slice(1), ["PATCH gateway"]);
});

Deno.test("adoptCluster() does not end while the service lets in the source's client", async () => {
  await using clone = await Clone.make();
  // Its own certificate, and the old authority for its clients: both of them are let in.
  await clone.serve(clone.own, clone.source);
  const both = { ...clone.own, client: clone.source.client };
  const error = await assertRejects(
    () => clone.adopt({ material: { certificates: both }, timeoutMs: 2000 }),
    GatewayError,
  );
  assertEquals([error.code, error.why], [
    "service-not-ready",
    'it still lets in the client of "source"',
  ]);
});

Deno.test("adoptCluster() says that a refusal was not tried when the source's certificates are gone", async () => {
  await using clone = await Clone.make();
  await clone.serve(clone.own, clone.own);
  await Deno.remove(clone.sourceDir, { recursive: true });
  const { events } = await clone.adopt();
  assertEquals(
    events.flatMap((event) => event.kind === "warn" ? [event.message] : []),
    ['the certificates of "source" are gone, so their refusal was not tried'],
  );
});

Deno.test("adoptCluster() opens a port to the API where the user wants none, and closes it", async () => {
  await using clone = await Clone.make();
  await clone.serve(clone.own, clone.own);
  const calls: string[] = [];
  const gvproxy = {
    exposeLoopback(to: string) {
      calls.push(`expose ${to}`);
      return Promise.resolve(clone.apiPort);
    },
    unexpose(from: string) {
      calls.push(`unexpose ${from === `127.0.0.1:${clone.apiPort}`}`);
      return Promise.resolve();
    },
  } as unknown as GvproxyClient;
  await clone.adopt({ apiPort: null, gvproxy });
  assertEquals(calls, ["expose 192.168.127.2:6443", "unexpose true"]);
});

Deno.test("adoptCluster() uses a saved kubeconfig unless the cluster's certificates were renewed", async () => {
  await using clone = await Clone.make();
  await clone.serve(clone.own, clone.own);
  const k3sYaml = join(await tempDir(), "k3s.yaml");
  await Deno.writeTextFile(k3sYaml, kubeconfig(clone.own));
  let asked = 0;
  const readKubeconfig = () => Promise.resolve((asked++, kubeconfig(clone.own)));
  const from = { name: "source", pkiDir: clone.sourceDir, k3sYaml, self: false } as const;
  await clone.adopt({ from, readKubeconfig });
  assertEquals(asked, 0);
  await clone.adopt({ from, readKubeconfig, renewed: true });
  assertEquals(asked, 1);
});

Deno.test("adoptCluster() asks nothing where a payload has no Secrets", async () => {
  await using clone = await Clone.make();
  const payload = { ...PAYLOAD, secrets: [] };
  // Nobody listens there: what is asked would end in an error.
  await clone.adopt({ payload, apiPort: freeLoopbackPort() });
  assertEquals(clone.changes, []);
});
