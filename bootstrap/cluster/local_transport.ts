/**
 * Requests to the API of a cluster of ours, over a port of 127.0.0.1 and one kept connection: a start sends a few at once,
 * and loading a whole client library would take longer than they do.
 * It must not retry, and must not read what it carries.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { IncomingMessage } from "node:http";
import https from "node:https";
import { CollectedBytes } from "../../vm/base/collected_bytes.ts";
import { toJsonText } from "../yaml/kube_yaml.ts";
import type { ApiCall, ApiTransport } from "./api.ts";
import type { ApiCredentials } from "./kubeconfig.ts";

/**
 * The most that is read of one answer. A page of 500 pods takes some 5 MB; what a guest's root may answer instead is held
 * several times over until it is read.
 */
export const MAX_ANSWER_BYTES = 8 * 1024 * 1024;

/** The way to the API behind a port of 127.0.0.1. */
export function localTransport(port: number, credentials: ApiCredentials): ApiTransport {
  const { caPem, certPem, keyPem } = credentials;
  const agent = new https.Agent({
    keepAlive: true,
    maxSockets: 4,
    ca: [caPem],
    cert: certPem,
    key: keyPem,
  });
  return {
    server: `https://127.0.0.1:${port}`,
    send: ({ method, path, query, body, type = "application/json", signal }) => {
      const text = body === undefined ? undefined : toJsonText(body);
      const headers = text === undefined
        ? {}
        : { "content-type": type, "content-length": String(Buffer.byteLength(text)) };
      const options = {
        ...{ host: "127.0.0.1", port, method, headers, agent },
        path: withQuery(path, query),
      };
      return exchange(options, text, signal);
    },
    [Symbol.dispose]: () => agent.destroy(),
  };
}

function withQuery(path: string, query: ApiCall["query"]): string {
  if (query === undefined) return path;
  return `${path}${path.includes("?") ? "&" : "?"}${new URLSearchParams(query)}`;
}

/** Sends one request and reads the whole answer, whatever its status. */
function exchange(
  options: https.RequestOptions,
  body: string | undefined,
  signal: AbortSignal,
): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const request = https.request(options, (response: IncomingMessage) => {
      const answer = new CollectedBytes(MAX_ANSWER_BYTES);
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
