/**
 * Requests to the API of any cluster, made and sent by @kubernetes/client-node with what a kubeconfig's context says:
 * certificates, tokens, exec plugins, proxies. Bodies are plain JSON beneath that library's typed models, since those leave
 * out fields that they do not know, and an apply without a field takes it away.
 * It must not retry, and must not read what it carries.
 *
 * @module
 */
import type { KubeConfig, RequestContext } from "@kubernetes/client-node";
import { causeOf, describeError, GatewayError } from "../../vm/base/error.ts";
import { formatMs } from "../../vm/base/wait.ts";
import { type ApiCall, type ApiTransport, FIELD_MANAGER } from "../cluster/api.ts";
import { toJsonText } from "../yaml/kube_yaml.ts";

const CALL_TIMEOUT_MS = 30_000;
/** The most that is read of one answer, of a cluster that the user trusts and that may be a large one. */
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;

/** The way to the API of a kubeconfig's current context. */
export class ContextTransport implements ApiTransport {
  readonly #server: URL;
  #connections: ReturnType<RequestContext["getDispatcher"]>;

  /** `config` has its current context set. @throws TypeError when the server that it names is no URL. */
  constructor(private readonly config: KubeConfig) {
    this.#server = new URL(config.getCurrentCluster()!.server);
  }

  /** The address that the kubeconfig names. */
  get server(): string {
    return this.#server.href.replace(/\/$/, "");
  }

  /** @throws GatewayError `network-failed` when there is no answer, or the signal's reason. */
  async send(call: ApiCall): Promise<{ readonly status: number; readonly text: string }> {
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

  /** Closes the connections. */
  [Symbol.dispose](): void {
    void this.#connections?.destroy().catch(() => {});
  }

  async #request(call: ApiCall, signal: AbortSignal): Promise<RequestContext> {
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
    if (size > MAX_ANSWER_BYTES) throw new Error("the API's answer is too long");
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
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
