/**
 * When the service and the cluster's API count as ready: a table of probes, each one line to read and one thing to
 * prove, tried in order under one bound. It must not poll on its own (vm/wait.ts does) nor know where the
 * certificates come from.
 *
 * @module
 */
import { describeError, GatewayError } from "../vm/error.ts";
import type { Span } from "../vm/event.ts";
import { pause, waitFor } from "../vm/wait.ts";
import { getOnce, postGrpcOnce, type ProbeRequest } from "./probe_request.ts";

/** Where a service is asked and with which certificates; host is always this machine's loopback. */
export interface ProbeTarget {
  /** Port on 127.0.0.1. */
  readonly port: number;
  /** Certificates of a TLS service; none for plain HTTP. */
  readonly tls?: ProbeCertificates;
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
  /** Reads after "Cannot see …". */
  readonly description: string;
  /** Returns when it holds; throws the observed reason when it does not (yet). */
  readonly probe: (target: ProbeTarget, signal: AbortSignal) => Promise<void>;
  /** What the user does when it never holds. */
  readonly hint: string;
}

/** What kind of service answers on the port. */
export type ServiceKind = "grpc" | "http";

const HOST = "127.0.0.1";
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
  hint: "run `gateway kubectl -- get secrets -n openshell` and `gateway down`, then `gateway up`",
};

const grpcProbe: ReadinessProbe = {
  name: "grpc health",
  description: "the service report SERVING",
  probe: probeGrpcHealth,
  hint: "run `gateway kubectl -- logs -n openshell deploy/gateway-demo` to read its log",
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
export const SERVICE_PROBES: Readonly<Record<ServiceKind, readonly ReadinessProbe[]>> = {
  grpc: [tcpProbe, tlsProbe, grpcProbe],
  http: [tcpProbe, httpProbe],
};

/** The probes of the cluster's API. */
export const API_PROBES: readonly ReadinessProbe[] = [tcpProbe, apiProbe];

/** One bounded wait for readiness. */
export interface WaitReadyOptions {
  /** Port on 127.0.0.1. */
  readonly port: number;
  /** Where it is told what is done. */
  readonly span: Span;
  /** Ends it with its reason. */
  readonly signal: AbortSignal;
  /** Bound of all probes together. */
  readonly timeoutMs: number;
}

/**
 * Waits until the service on the port answers as its kind does: gRPC with mutual TLS unless `kind` is "http".
 *
 * @throws GatewayError `service-not-ready` with the last observed reason, or the signal's reason.
 */
export async function waitServiceReady(
  options: WaitReadyOptions & { readonly pki?: ProbeCertificates; readonly kind?: ServiceKind },
): Promise<void> {
  const kind = options.kind ?? "grpc";
  await waitProbes(SERVICE_PROBES[kind], { port: options.port, tls: options.pki }, options);
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
  let observed: string | undefined;
  try {
    await waitFor({
      what: `${description} on ${HOST}:${target.port}`,
      probe: async (signal) => {
        try {
          await probe(target, signal);
          return true;
        } catch (error) {
          if (!signal.aborted) observed = describeError(error);
          throw error;
        }
      },
      timeoutMs: options.timeoutMs,
      intervalMs: INTERVAL_MS,
      probeTimeoutMs: PROBE_TIMEOUT_MS,
      signal: options.signal,
      code: "service-not-ready",
      hint,
    });
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== "service-not-ready") throw error;
    // The last try is cut short by the bound and says nothing; the last one that ended by itself does.
    const { code, what, why, fix, cause } = error;
    throw new GatewayError({ code, what, why: observed ?? why, fix, cause });
  }
}

async function probeTcp(target: ProbeTarget, signal: AbortSignal): Promise<void> {
  using connection = await Deno.connect({ hostname: HOST, port: target.port, signal });
  const closed = connection.read(new Uint8Array(1)).then(
    (count) => count === null,
    () => true,
  );
  if (await Promise.race([closed, pause(TCP_SETTLE_MS, signal).then(() => false)])) {
    throw new Error("the connection is closed at once, so nothing listens in the guest yet");
  }
}

async function probeTls(target: ProbeTarget, signal: AbortSignal): Promise<void> {
  const connection = await Deno.connectTls({
    hostname: HOST,
    port: target.port,
    alpnProtocols: ["h2"],
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
  const { status, headers, body } = await postGrpcOnce({
    ...requestTo(target, "/grpc.health.v1.Health/Check", signal),
    // One uncompressed message of length 0: HealthCheckRequest for the server as a whole.
    body: new Uint8Array(5),
  });
  if (status !== 200) throw new Error(`it answers with HTTP status ${status}`);
  const grpcStatus = headers["grpc-status"];
  if (grpcStatus !== "0") {
    throw new Error(`its health service answers with gRPC status ${grpcStatus ?? "missing"}`);
  }
  const serving = readHealthStatus(body);
  if (serving !== "SERVING") throw new Error(`its health service reports ${serving}`);
}

async function probeHttp(target: ProbeTarget, signal: AbortSignal): Promise<void> {
  const { status } = await getOnce(requestTo(target, "/", signal));
  if (status === 0 || status >= 500) throw new Error(`it answers with HTTP status ${status}`);
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
  const { port, tls } = target;
  return {
    port,
    path,
    signal,
    ...(tls ? { tls: { caPem: tls.caPem, ...tls.client } } : {}),
  };
}

const HEALTH_STATUS = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/** The status of a framed HealthCheckResponse. Pure; exported for its test. */
export function readHealthStatus(body: Uint8Array): string {
  if (body.length < 5 || body[0] !== 0) return "nothing that can be read";
  const length = new DataView(body.buffer, body.byteOffset).getUint32(1);
  const message = body.subarray(5, 5 + length);
  if (message.length !== length) return "nothing that can be read";
  // Proto 3 leaves out a field that is zero; else field 1, varint.
  if (length === 0) return HEALTH_STATUS[0];
  return message[0] === 0x08
    ? HEALTH_STATUS[message[1]] ?? `status ${message[1]}`
    : "nothing that can be read";
}

function closeQuietly(connection: Deno.Conn): void {
  try {
    connection.close();
  } catch {
    // It was closed already.
  }
}
