/**
 * When the service and the cluster's API count as ready: a table of probes, each one line to read and one thing to
 * prove, tried in order under one bound. It must not poll on its own (vm/base/wait.ts does) nor know where the
 * certificates come from.
 *
 * @module
 */
import { hostPort, LOOPBACK } from "../../net/forward.ts";
import { GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { pause, waitFor } from "../../vm/base/wait.ts";
import type { PayloadService } from "../payload/payload.ts";
import { usesTls } from "../payload/service.ts";
import { EMPTY_MESSAGE, healthRequest, readHealthStatus, readStatusField } from "./grpc_message.ts";
import { getOnce, postGrpcOnce, type ProbeRequest, type RequestTls } from "./probe_request.ts";

/** Where a service is asked and with which certificates. */
export interface ProbeTarget {
  /** Address of this host; 127.0.0.1 by default. */
  readonly host?: string;
  /** Port there. */
  readonly port: number;
  /** Certificates of a TLS service; none for plain HTTP. */
  readonly tls?: ProbeCertificates;
  /** Of an HTTP service; one that was named has to answer with 200 to 399. */
  readonly path?: string;
  /** Of a gRPC health service; the server as a whole where it is absent. */
  readonly grpcService?: string;
  /** `package.Service/Method`, asked in place of the gRPC health service. */
  readonly grpcMethod?: string;
}

/** PEM texts; the key is secret. */
export interface ProbeCertificates {
  /** Certificate of the authority, PEM. */
  readonly caPem: string;
  /** The certificate that the service lets in. */
  readonly client: { readonly certPem: string; readonly keyPem: string };
}

/** One thing that must be true before the service is ready. */
export interface ReadinessProbe {
  /** Span name. */
  readonly name: string;
  /** Reads after "waiting for". */
  readonly description: string;
  /** Returns when it holds; throws the observed reason when it does not (yet). */
  readonly probe: (target: ProbeTarget, signal: AbortSignal) => Promise<void>;
  /** What the user does when it never holds. */
  readonly hint: string;
}

/** What is asked of a service and how. */
export type AskedService = {
  readonly protocol: PayloadService["protocol"];
  readonly health?: Pick<PayloadService["health"], "path" | "grpcService" | "grpcMethod">;
};

const INTERVAL_MS = 200;
/** A handshake in an emulated guest with a busy CPU takes seconds. */
const PROBE_TIMEOUT_MS = 15_000;
/** A forward accepts before it knows whether anybody is behind it; one that is not closes within this. */
const TCP_SETTLE_MS = 100;

const tcpProbe: ReadinessProbe = {
  name: "tcp",
  description: "an open port of the service",
  probe: probeTcp,
  hint: "run `gateway kubectl -- get pods -A` to see whether the service's pod runs",
};

const tlsProbe: ReadinessProbe = {
  name: "tls",
  description: "a TLS handshake of the service with this instance's certificates",
  probe: probeTls,
  hint:
    "run `gateway up --keep`, and see whether the service uses the Secrets that the payload names",
};

/** The same for a service that speaks no HTTP/2. */
const tlsHttpProbe: ReadinessProbe = {
  ...tlsProbe,
  probe: (target, signal) => probeTls(target, signal, "http/1.1"),
};

const grpcProbe: ReadinessProbe = {
  name: "grpc health",
  description: "the service report SERVING",
  probe: probeGrpcHealth,
  hint: "run `gateway kubectl -- get pods -A` and read the log of the service's pod",
};

/** The same by a method of the service's own. */
const grpcMethodProbe: ReadinessProbe = {
  ...grpcProbe,
  description: "the service report that it is healthy",
  probe: probeGrpcMethod,
};

const httpProbe: ReadinessProbe = {
  name: "http",
  description: "an HTTP answer of the service",
  probe: probeHttp,
  hint: "run `gateway kubectl -- get pods -A` and read the log of the service's pod",
};

const apiProbe: ReadinessProbe = {
  name: "api readyz",
  description: "the cluster's API answer /readyz",
  probe: probeApi,
  hint: "run `gateway logs` and `gateway status --timeline` to see how far the cluster got",
};

/** The probes of each kind of service, in order: a later one is not tried before the earlier ones hold. */
export const SERVICE_PROBES: Readonly<
  Record<AskedService["protocol"], readonly ReadinessProbe[]>
> = {
  grpcs: [tcpProbe, tlsProbe, grpcProbe],
  https: [tcpProbe, tlsHttpProbe, httpProbe],
  http: [tcpProbe, httpProbe],
  tcp: [tcpProbe],
};

/** The probes of the cluster's API. */
export const API_PROBES: readonly ReadinessProbe[] = [tcpProbe, apiProbe];

/** One bounded wait for readiness. */
export interface WaitReadyOptions {
  /** Address of this host; 127.0.0.1 by default. */
  readonly host?: string;
  /** Port there. */
  readonly port: number;
  /** Where it is told what is done. */
  readonly span: Span;
  /** Ends it with its reason. */
  readonly signal: AbortSignal;
  /** Bound of all probes together. */
  readonly timeoutMs: number;
}

/**
 * Waits until the service on the port answers as its protocol does: gRPC with mutual TLS where nothing is said.
 *
 * @throws GatewayError `service-not-ready` with the last observed reason, or the signal's reason.
 */
export async function waitServiceReady(
  options: WaitReadyOptions & {
    readonly pki?: ProbeCertificates;
    readonly service?: AskedService;
  },
): Promise<void> {
  const { host, port, pki, service: { protocol, health } = { protocol: "grpcs" } } = options;
  const target = { host, port, ...health, tls: usesTls(protocol) ? pki : undefined };
  const probes = SERVICE_PROBES[protocol];
  const asked = health?.grpcMethod === undefined
    ? probes
    : probes.map((probe) => probe === grpcProbe ? grpcMethodProbe : probe);
  await waitProbes(asked, target, options);
}

/** Asks a TLS service once, in its protocol, whatever it answers. Rejects when it is no answer or is refused. */
export async function askOnce(
  { protocol, health }: AskedService,
  { host, port }: Pick<ProbeTarget, "host" | "port">,
  tls: RequestTls,
  signal: AbortSignal,
): Promise<void> {
  if (protocol === "https") {
    return void await getOnce({ host, port, path: health?.path ?? "/", tls, signal });
  }
  const answer = await postGrpcOnce({ host, port, tls, signal, ...grpcCall(health ?? {}) });
  // A stream that was cut before any head is no answer.
  if (answer.status === 0) throw new Error("it gives no answer");
}

/**
 * Waits until the cluster's API on the port answers /readyz to the kubeconfig's client.
 *
 * @throws GatewayError `service-not-ready` with the last observed reason, or the signal's reason.
 */
export async function waitApiReady(
  options: WaitReadyOptions & {
    readonly credentials: {
      readonly caPem: string;
      readonly certPem: string;
      readonly keyPem: string;
    };
  },
): Promise<void> {
  const { caPem, certPem, keyPem } = options.credentials;
  const tls = { caPem, client: { certPem, keyPem } };
  await waitProbes(API_PROBES, { port: options.port, tls }, options);
}

async function waitProbes(
  probes: readonly ReadinessProbe[],
  target: ProbeTarget,
  options: WaitReadyOptions,
): Promise<void> {
  const deadline = performance.now() + options.timeoutMs;
  for (const probe of probes) {
    const timeoutMs = Math.max(1, deadline - performance.now());
    await options.span.run(probe.name, () => waitProbe(probe, target, { ...options, timeoutMs }));
  }
}

async function waitProbe(
  { description, probe, hint }: ReadinessProbe,
  target: ProbeTarget,
  options: WaitReadyOptions,
): Promise<void> {
  try {
    await waitFor({
      what: `${description} on ${hostPort(target.host ?? LOOPBACK, target.port)}`,
      probe: async (signal) => {
        await probe(target, signal);
        return true;
      },
      timeoutMs: options.timeoutMs,
      intervalMs: INTERVAL_MS,
      probeTimeoutMs: PROBE_TIMEOUT_MS,
      signal: options.signal,
      isFinal: (error) => error instanceof Unimplemented,
      code: "service-not-ready",
      hint,
    });
  } catch (error) {
    throw error instanceof Unimplemented ? error.toGatewayError() : error;
  }
}

async function probeTcp(target: ProbeTarget, signal: AbortSignal): Promise<void> {
  using connection = await Deno.connect({
    hostname: target.host ?? LOOPBACK,
    port: target.port,
    signal,
  });
  const closed = connection.read(new Uint8Array(1)).then(
    (count) => count === null,
    () => true,
  );
  if (await Promise.race([closed, pause(TCP_SETTLE_MS, signal).then(() => false)])) {
    throw new Error("the connection is closed at once, so nothing listens in the guest yet");
  }
}

async function probeTls(target: ProbeTarget, signal: AbortSignal, alpn = "h2"): Promise<void> {
  const { host = LOOPBACK } = target;
  const connection = await Deno.connectTls({
    hostname: host,
    port: target.port,
    alpnProtocols: [alpn],
    // Only this instance's authority is trusted here, and its certificates name no other address of this host.
    unsafelyDisableHostnameVerification: host !== LOOPBACK,
    ...(target.tls
      ? {
        caCerts: [target.tls.caPem],
        cert: target.tls.client.certPem,
        key: target.tls.client.keyPem,
      }
      : {}),
  });
  // Closing is the only way to end a handshake that the other side never answers.
  const close = () => closeQuietly(connection);
  signal.addEventListener("abort", close, { once: true });
  try {
    signal.throwIfAborted();
    await connection.handshake();
  } finally {
    signal.removeEventListener("abort", close);
    close();
  }
}

async function probeGrpcHealth(target: ProbeTarget, signal: AbortSignal): Promise<void> {
  const body = await callGrpc(target, signal, "its health service");
  const serving = readHealthStatus(body);
  if (serving !== "SERVING") throw new Error(`its health service reports ${serving}`);
}

async function probeGrpcMethod(target: ProbeTarget, signal: AbortSignal): Promise<void> {
  const body = await callGrpc(target, signal, target.grpcMethod!);
  const status = readStatusField(body);
  if (status !== 1) throw new Error(`${target.grpcMethod} reports status ${status}; 1 is healthy`);
}

/** The message of a gRPC answer with status 0; `asked` is what an error names. */
async function callGrpc(
  target: ProbeTarget,
  signal: AbortSignal,
  asked: string,
): Promise<Uint8Array> {
  const call = grpcCall(target);
  const request = requestTo(target, call.path, signal);
  const { status, headers, body } = await postGrpcOnce({ ...request, body: call.body });
  if (status !== 200) throw new Error(`it answers with HTTP status ${status}`);
  const grpcStatus = headers["grpc-status"];
  if (grpcStatus === UNIMPLEMENTED) throw new Unimplemented(call.path.slice(1), target.grpcMethod);
  if (grpcStatus !== "0") {
    throw new Error(`${asked} answers with gRPC status ${grpcStatus ?? "missing"}`);
  }
  return body;
}

/** What a gRPC service is asked to learn whether it is healthy. */
function grpcCall(
  { grpcMethod, grpcService }: Pick<ProbeTarget, "grpcMethod" | "grpcService">,
): { readonly path: string; readonly body: Uint8Array } {
  return grpcMethod === undefined
    ? { path: HEALTH_CHECK, body: healthRequest(grpcService) }
    : { path: `/${grpcMethod}`, body: EMPTY_MESSAGE };
}

/** gRPC's status of a method that the server does not have. */
const UNIMPLEMENTED = "12";

/** The service answers, and never will be able to say whether it is healthy: more tries are pointless. */
class Unimplemented extends Error {
  constructor(private readonly asked: string, private readonly named: string | undefined) {
    super(`the service answers that it does not implement ${asked} (gRPC status 12)`);
  }

  toGatewayError(): GatewayError {
    return new GatewayError({
      code: "service-not-ready",
      what: "Cannot ask for the health of the service",
      why: this.message,
      fix: this.named === undefined
        ? "name a method of the service's own in payload.yaml, service.health.grpcMethod"
        : `correct service.health.grpcMethod in payload.yaml: "${this.asked}" is not there`,
    });
  }
}

async function probeHttp(target: ProbeTarget, signal: AbortSignal): Promise<void> {
  const { path } = target;
  const { status } = await getOnce(requestTo(target, path ?? "/", signal));
  const good = path === undefined ? status > 0 && status < 500 : status >= 200 && status < 400;
  if (!good) throw new Error(`${path ?? "it"} answers with HTTP status ${status}`);
}

async function probeApi(target: ProbeTarget, signal: AbortSignal): Promise<void> {
  const { status, body } = await getOnce(requestTo(target, "/readyz", signal));
  const text = new TextDecoder().decode(body);
  if (status === 200 && text.trim() === "ok") return;
  const failed = text.split("\n").filter((line) => line.startsWith("[-]")).slice(0, 3);
  throw new Error(
    `/readyz answers with HTTP status ${status}` +
      (failed.length > 0 ? `: ${failed.join(", ")}` : ""),
  );
}

function requestTo(target: ProbeTarget, path: string, signal: AbortSignal): ProbeRequest {
  const { host, port, tls } = target;
  return {
    host,
    port,
    path,
    signal,
    ...(tls ? { tls: { caPem: tls.caPem, ...tls.client } } : {}),
  };
}

const HEALTH_CHECK = "/grpc.health.v1.Health/Check";

function closeQuietly(connection: Deno.Conn): void {
  try {
    connection.close();
  } catch {
    // It was closed already.
  }
}
