/**
 * One request over one connection of its own to a forward of this host, by HTTP/1.1 or HTTP/2, with a client certificate.
 * Made on the node modules and not on fetch, which would send loopback requests through a proxy named in the
 * environment and does not show trailers. It must not retry: vm/base/wait.ts does.
 *
 * @module
 */
import type { EventEmitter } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import { hostPort, LOOPBACK } from "../../net/forward.ts";
import { CollectedBytes } from "../../vm/base/collected_bytes.ts";

/** Certificates of one request, PEM; the key is secret. */
export interface RequestTls {
  /** Certificate of the authority, PEM. */
  readonly caPem: string;
  /** Certificate, PEM; none: the client shows none. */
  readonly certPem?: string;
  /** Private key, PEM. Secret. */
  readonly keyPem?: string;
}

/** One request. */
export interface ProbeRequest {
  /** Address of this host; 127.0.0.1 by default. */
  readonly host?: string;
  /** Port there. */
  readonly port: number;
  /** Where it is. */
  readonly path: string;
  /** None: plain HTTP. */
  readonly tls?: RequestTls;
  /** Ends it with its reason. */
  readonly signal: AbortSignal;
}

/** The answer; header names are lower case, trailers are among the headers. */
export interface ProbeResponse {
  /** HTTP status. */
  readonly status: number;
  /** Names are lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** At most 64 KiB. */
  readonly body: Uint8Array;
}

/** In every certificate of ours; an address that the user forwards from is in none. */
const SERVER_NAME = "localhost";
/** The other side is the guest: what it sends is bounded. */
const MAX_BODY_BYTES = 64 * 1024;

/** GET by HTTP/1.1. Rejects with what broke the connection, or the signal's reason. */
export function getOnce(request: ProbeRequest): Promise<ProbeResponse> {
  const { host = LOOPBACK, port, path, tls, signal } = request;
  return new Promise((resolve, reject) => {
    const options = { host, port, path, agent: false, ...tlsOptions(tls, host) };
    const outgoing = (tls ? https : http).get(options, (incoming) => {
      collect(incoming, () => outgoing.destroy()).then((body) =>
        resolve({ status: incoming.statusCode ?? 0, headers: toHeaders(incoming.headers), body })
      ).catch(reject).finally(() => outgoing.destroy());
    });
    outgoing.on("error", reject);
    onAbort(signal, outgoing, (reason) => {
      reject(reason);
      outgoing.destroy();
    });
  });
}

/** POST by HTTP/2 with the headers of gRPC. Rejects with what broke the connection, or the signal's reason. */
export function postGrpcOnce(
  request: ProbeRequest & {
    readonly body: Uint8Array;
    /** Sent as a bearer token. Secret. */
    readonly token?: string;
  },
): Promise<ProbeResponse> {
  const { host = LOOPBACK, port, path, tls, signal, body, token } = request;
  const scheme = tls ? "https" : "http";
  const session = http2.connect(`${scheme}://${hostPort(host, port)}`, tlsOptions(tls, host));
  return new Promise<ProbeResponse>((resolve, reject) => {
    session.on("error", reject);
    onAbort(signal, session, reject);
    const stream = session.request({
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    });
    // A refused connection cancels the stream first; the session's error is the one that says why.
    stream.on("error", (error: Error) => setTimeout(() => reject(causeOf(error)), 0));
    let headers: Record<string, string> = {};
    stream.on("response", (received) => headers = { ...headers, ...toHeaders(received) });
    stream.on("trailers", (received) => headers = { ...headers, ...toHeaders(received) });
    collect(stream, () => stream.close()).then((bytes) =>
      resolve({ status: Number(headers[":status"] ?? 0), headers, body: bytes })
    ).catch(() => {});
    stream.end(body);
  }).finally(() => session.destroy());
}

function tlsOptions(tls: RequestTls | undefined, host: string) {
  const servername = host === LOOPBACK ? {} : { servername: SERVER_NAME };
  return tls ? { ca: [tls.caPem], cert: tls.certPem, key: tls.keyPem, ...servername } : {};
}

function collect(stream: EventEmitter, stop: () => void): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const body = new CollectedBytes(MAX_BODY_BYTES);
    stream.on("data", (chunk: Uint8Array) => {
      if (body.add(chunk)) return;
      reject(new Error(`it answers with more than ${MAX_BODY_BYTES} bytes`));
      stop();
    });
    stream.on("end", () => resolve(body.bytes));
    stream.on("error", (error: Error) => reject(error));
    stream.on("aborted", () => reject(new Error("the answer was cut")));
  });
}

function onAbort(
  signal: AbortSignal,
  closes: EventEmitter,
  abort: (reason: unknown) => void,
): void {
  const listener = () => abort(signal.reason);
  if (signal.aborted) return listener();
  signal.addEventListener("abort", listener, { once: true });
  closes.on("close", () => signal.removeEventListener("abort", listener));
}

function toHeaders(received: object): Record<string, string> {
  return Object.fromEntries(
    Object.entries(received).map(([name, value]) => [name.toLowerCase(), String(value)]),
  );
}

function causeOf(error: Error): unknown {
  return error.cause ?? error;
}
