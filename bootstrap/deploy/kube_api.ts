/**
 * Requests to any cluster's API, made and sent by @kubernetes/client-node with what a kubeconfig's context says:
 * certificates, tokens, exec plugins, proxies. Bodies are plain JSON beneath that library's typed models, since those leave
 * out fields that they do not know, and an apply without a field takes it away.
 * It must not retry, and must not know what a payload is.
 *
 * @module
 */
import type { KubeConfig, RequestContext } from "@kubernetes/client-node";
import { causeOf, describeError, GatewayError } from "../../vm/base/error.ts";
import { formatMs } from "../../vm/base/wait.ts";
import { fromJsonText, toJsonText } from "../yaml/kube_yaml.ts";

/** An object of Kubernetes as the API gives and takes it. */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly generation?: number;
    readonly managedFields?: readonly { readonly manager?: string; readonly operation?: string }[];
    readonly [field: string]: unknown;
  };
  // deno-lint-ignore no-explicit-any
  readonly [field: string]: any;
}

/** A kind as the API serves it. */
export interface KubeResource {
  /** Empty for the core. */
  readonly group: string;
  readonly apiVersion: string;
  readonly kind: string;
  /** Plural, as in paths. */
  readonly plural: string;
  readonly namespaced: boolean;
}

/** The name of the field manager, and of the program in the API's logs. */
export const FIELD_MANAGER = "gateway";

/** One request. */
export interface KubeCall {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  /** Without its query. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** `application/json` when absent. */
  readonly type?: string;
  readonly signal: AbortSignal;
}

const MAX_BYTES = 32 * 1024 * 1024;
const CALL_TIMEOUT_MS = 30_000;

/** What the API answered instead of a result. */
export class ApiFailure extends Error {
  /** Tells it apart where classes are lost. */
  override readonly name = "ApiFailure";

  constructor(
    readonly status: number,
    /** Such as `Forbidden`, `Conflict`, `NotFound`; empty when the answer was no Status object. */
    readonly reason: string,
    message: string,
    readonly causes: readonly { readonly field?: string; readonly message?: string }[] = [],
  ) {
    super(message);
  }
}

/** One cluster's API. Disposing closes its connections. */
export class KubeApi implements Disposable {
  readonly #server: URL;
  readonly #resources = new Map<string, Promise<readonly KubeResource[]>>();
  #connections: ReturnType<RequestContext["getDispatcher"]>;

  /** `config` has its current context set. */
  constructor(private readonly config: KubeConfig) {
    this.#server = new URL(config.getCurrentCluster()!.server);
  }

  /** The address that the kubeconfig names. */
  get server(): string {
    return this.#server.href.replace(/\/$/, "");
  }

  /**
   * The answer's JSON.
   *
   * @throws ApiFailure for an answer that is no success, GatewayError `network-failed` when there is none, or the
   * signal's reason.
   */
  async call<T = KubeObject>(call: KubeCall): Promise<T> {
    const text = await this.text(call);
    return (text === "" ? null : fromJsonText(text)) as T;
  }

  /** As {@linkcode call}, for answers that are no JSON, such as logs. */
  async text(call: KubeCall): Promise<string> {
    const { status, text } = await this.#send(call);
    if (status >= 200 && status < 300) return text;
    throw failureOf(status, text);
  }

  /** The object, undefined when it is not there. */
  async get(path: string, signal: AbortSignal): Promise<KubeObject | undefined> {
    try {
      return await this.call({ method: "GET", path, signal });
    } catch (error) {
      if (error instanceof ApiFailure && error.status === 404) return undefined;
      throw error;
    }
  }

  /** The items of a list. */
  async list(
    path: string,
    signal: AbortSignal,
    query: Readonly<Record<string, string>> = {},
  ): Promise<readonly KubeObject[]> {
    const bounded = { limit: "500", ...query };
    const { items } = await this.call<{ items: KubeObject[] }>({
      method: "GET",
      path,
      query: bounded,
      signal,
    });
    return items ?? [];
  }

  /** How the API serves a kind; undefined when it does not. Asked once for each version of a group. */
  async resource(
    apiVersion: string,
    kind: string,
    signal: AbortSignal,
  ): Promise<KubeResource | undefined> {
    let known = this.#resources.get(apiVersion);
    if (!known) {
      known = this.#discover(apiVersion, signal);
      this.#resources.set(apiVersion, known);
    }
    return (await known).find((resource) => resource.kind === kind);
  }

  /** Forgets what {@linkcode resource} learned: definitions were applied. */
  forget(): void {
    this.#resources.clear();
  }

  /** Closes the connections. */
  [Symbol.dispose](): void {
    void this.#connections?.destroy().catch(() => {});
  }

  async #discover(apiVersion: string, signal: AbortSignal): Promise<readonly KubeResource[]> {
    const path = `/${apiVersion.includes("/") ? "apis" : "api"}/${apiVersion}`;
    const list = await this.get(path, signal) as undefined | {
      resources: { name: string; kind: string; namespaced: boolean }[];
    };
    const group = apiVersion.includes("/") ? apiVersion.split("/")[0]! : "";
    return (list?.resources ?? [])
      .filter(({ name }) => !name.includes("/"))
      .map(({ name, kind, namespaced }) => ({ group, apiVersion, kind, plural: name, namespaced }));
  }

  async #send(call: KubeCall): Promise<{ status: number; text: string }> {
    const timeout = AbortSignal.timeout(CALL_TIMEOUT_MS);
    const request = await this.#request(call, AbortSignal.any([call.signal, timeout]));
    try {
      const { createConfiguration } = await library();
      const answer = await createConfiguration().httpApi.send(request).toPromise();
      return { status: answer.httpStatusCode, text: await readBounded(answer.body.stream()) };
    } catch (error) {
      if (call.signal.aborted) throw call.signal.reason;
      // The library says "fetch failed"; what failed is the cause.
      const why = timeout.aborted
        ? `it gave no answer within ${formatMs(CALL_TIMEOUT_MS)}`
        : describeError(causeOf(error));
      throw unreachable(this.config.getCurrentContext(), this.server, why);
    }
  }

  async #request(call: KubeCall, signal: AbortSignal): Promise<RequestContext> {
    const { method, path, query = {}, type = "application/json" } = call;
    const { RequestContext } = await library();
    const request = new RequestContext(`${this.server}${path}`, method);
    for (const [name, value] of Object.entries(query)) request.setQueryParam(name, value);
    request.setHeaderParam("accept", "application/json");
    request.setHeaderParam("user-agent", FIELD_MANAGER);
    if (call.body !== undefined) {
      request.setHeaderParam("content-type", type);
      request.setBody(toJsonText(call.body));
    }
    request.setSignal(signal);
    try {
      await this.config.applySecurityAuthentication(request);
    } catch (error) {
      throw unusable(this.config.getCurrentContext(), this.server, describeError(error));
    }
    // The library makes a new one for each request; the first keeps its connections for the others.
    this.#connections ??= request.getDispatcher();
    if (this.#connections) request.setDispatcher(this.#connections);
    return request;
  }
}

const library = () => import("@kubernetes/client-node");

/** The text of an answer. Rejects when it is too long, or with what broke the connection. */
async function readBounded(body: ReadableStream<Uint8Array> | null): Promise<string> {
  const decoder = new TextDecoder();
  let size = 0;
  let text = "";
  for await (const chunk of body ?? []) {
    size += chunk.length;
    if (size > MAX_BYTES) throw new Error("the API's answer is too long");
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/** The path of an object. */
export function objectPath(
  resource: KubeResource,
  namespace: string | undefined,
  name?: string,
): string {
  const root = resource.group === "" ? "/api" : "/apis";
  const parts = [root, resource.apiVersion];
  if (resource.namespaced && namespace) parts.push("namespaces", encodeURIComponent(namespace));
  parts.push(resource.plural);
  if (name !== undefined) parts.push(encodeURIComponent(name));
  return parts.join("/");
}

function failureOf(status: number, text: string): ApiFailure {
  try {
    const { reason, message, details } = JSON.parse(text);
    return new ApiFailure(status, String(reason ?? ""), bounded(message), details?.causes ?? []);
  } catch {
    return new ApiFailure(status, "", bounded(text));
  }
}

function bounded(message: unknown): string {
  const text = String(message ?? "").replace(/\s+/g, " ").trim();
  return text === "" ? "it gave no reason" : text.slice(0, 600);
}

function unreachable(context: string, server: string, why: string): GatewayError {
  return new GatewayError({
    code: "network-failed",
    what: `Cannot reach the cluster of the context "${context}" at ${server}`,
    why,
    fix: `see that it runs and that this host reaches it: \`kubectl --context ${context} version\``,
  });
}

function unusable(context: string, server: string, why: string): GatewayError {
  return new GatewayError({
    code: "network-failed",
    what: `Cannot make a request to ${server} with the context "${context}"`,
    why,
    fix: "correct the context's cluster and user in the kubeconfig",
  });
}
