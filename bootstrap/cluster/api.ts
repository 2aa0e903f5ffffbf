/**
 * A few requests to a cluster's API over one kept connection: what a start needs at once, where loading a whole client
 * library would take longer than the requests.
 * It must not retry, and holds no knowledge of what it carries.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { IncomingMessage } from "node:http";
import https from "node:https";
import { CollectedBytes } from "../../vm/base/collected_bytes.ts";
import type { JsonValue } from "../../vm/base/event.ts";
import type { ApiCredentials } from "./kubeconfig.ts";

/** The media types that the API takes. */
export type ApiBodyType =
  | "application/apply-patch+yaml"
  | "application/merge-patch+json"
  | "application/json";

/** One request. */
export interface ApiCall {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  /** With its query. */
  readonly path: string;
  readonly body?: JsonValue;
  readonly type?: ApiBodyType;
  readonly signal: AbortSignal;
}

const MAX_BYTES = 16 * 1024 * 1024;

/** The API behind a port of 127.0.0.1. */
export class ApiClient implements Disposable {
  readonly #agent: https.Agent;

  constructor(private readonly port: number, credentials: ApiCredentials) {
    const { caPem, certPem, keyPem } = credentials;
    this.#agent = new https.Agent({
      keepAlive: true,
      maxSockets: 4,
      ca: [caPem],
      cert: certPem,
      key: keyPem,
    });
  }

  /** The answer's JSON. Rejects as {@linkcode text}. */
  async call(call: ApiCall): Promise<JsonValue> {
    const text = await this.text(call);
    return text === "" ? null : JSON.parse(text);
  }

  /** The answer as text. Rejects with the API's own message, what broke the connection, or the signal's reason. */
  async text(call: ApiCall): Promise<string> {
    const { method, path, type = "application/json", signal } = call;
    const body = call.body === undefined ? undefined : JSON.stringify(call.body);
    const headers = body === undefined
      ? {}
      : { "content-type": type, "content-length": String(Buffer.byteLength(body)) };
    const options = {
      host: "127.0.0.1",
      port: this.port,
      method,
      path,
      headers,
      agent: this.#agent,
    };
    const { status, text } = await exchange(options, body, signal);
    if (status >= 200 && status < 300) return text;
    throw new Error(`the API answered ${status}: ${messageOf(text)}`);
  }

  /** Closes the connections. */
  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}

/** Sends one request and reads the whole answer, whatever its status. Rejects as {@linkcode ApiClient.text}. */
function exchange(
  options: https.RequestOptions,
  body: string | undefined,
  signal: AbortSignal,
): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const request = https.request(options, (response: IncomingMessage) => {
      const answer = new CollectedBytes(MAX_BYTES);
      response.on("data", (chunk: Uint8Array) => {
        if (!answer.add(chunk)) request.destroy(new Error("the API's answer is too long"));
      });
      response.on("error", reject);
      response.on("end", () => {
        resolve({ status: response.statusCode ?? 0, text: answer.text() });
      });
    });
    request.on("error", reject);
    const abort = () => {
      request.destroy();
      reject(signal.reason);
    };
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    request.on("close", () => signal.removeEventListener("abort", abort));
    request.end(body);
  });
}

function messageOf(text: string): string {
  try {
    return String((JSON.parse(text) as { message?: string }).message ?? "no reason").slice(0, 300);
  } catch {
    return text.slice(0, 100);
  }
}
