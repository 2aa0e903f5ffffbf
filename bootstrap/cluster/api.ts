/**
 * This room talks to a Kubernetes cluster: its API, readiness, pods, rollout, login, kubeconfig, and a clone's new
 * identity. What a payload consists of is in the room payload. Read readiness.ts next, then adopt.ts.
 *
 * The API of a cluster: requests, the objects that it gives and takes, and how it serves their kinds. How a request gets
 * there is the transport's: {@linkcode localTransport} for a cluster of ours, the deploy room's for any context.
 * It must not retry, and must not know what a payload is.
 *
 * @module
 */
import { fromJsonText } from "../yaml/kube_yaml.ts";

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

/** The media types that the API takes. */
export type ApiBodyType =
  | "application/apply-patch+yaml"
  | "application/merge-patch+json"
  | "application/json";

/** One request. */
export interface ApiCall {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  /** It may have a query, to which `query` is added. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** `application/json` when absent. */
  readonly type?: ApiBodyType;
  readonly signal: AbortSignal;
}

/** What takes requests to one cluster. Disposing closes its connections. */
export interface ApiTransport extends Disposable {
  /** The address, for people; without a slash at its end. */
  readonly server: string;
  /**
   * Sends one request and reads the whole answer, whatever its status.
   *
   * @throws what broke the connection, or the signal's reason.
   */
  send(call: ApiCall): Promise<{ readonly status: number; readonly text: string }>;
}

/** What the API answered instead of a result. */
export class ApiFailure extends Error {
  /** Tells it apart where classes are lost. */
  override readonly name = "ApiFailure";

  constructor(
    readonly status: number,
    /** Such as `Forbidden`, `Conflict`, `NotFound`; empty when the answer was no Status object. */
    readonly reason: string,
    /** The API's own. */
    readonly words: string,
    readonly causes: readonly { readonly field?: string; readonly message?: string }[] = [],
  ) {
    super(`the API answered ${status}: ${words}`);
  }
}

/** One cluster's API. Disposing closes its connections. */
export class ClusterApi implements Disposable {
  readonly #resources = new Map<string, Promise<readonly KubeResource[]>>();

  constructor(private readonly transport: ApiTransport) {}

  /** Its address. */
  get server(): string {
    return this.transport.server;
  }

  /** The answer's JSON. @throws ApiFailure for an answer that is no success, what the transport throws, or the signal's reason. */
  async call<T = KubeObject>(call: ApiCall): Promise<T> {
    const text = await this.text(call);
    return (text === "" ? null : fromJsonText(text)) as T;
  }

  /** As {@linkcode call}, for answers that are no JSON, such as logs. */
  async text(call: ApiCall): Promise<string> {
    const { status, text } = await this.transport.send(call);
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
    this.transport[Symbol.dispose]();
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
}

/** The path of an object, without a name that of the list. */
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
