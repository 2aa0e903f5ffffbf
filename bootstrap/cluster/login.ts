/**
 * The user's login at a payload's service: a token of a service account, signed by the instance's own cluster (OpenID
 * Connect), fetched before READY, tried, and renewed while the instance runs. The token is secret and goes only into the
 * client files.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { dirname } from "@std/path";
import * as v from "valibot";
import { reachedAt } from "../../net/forward.ts";
import { describeError, GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import type { PortForward } from "../../vm/base/ports.ts";
import { limitRecords } from "../../vm/base/record_limit.ts";
import { repeat, waitFor } from "../../vm/base/wait.ts";
import { readLoginToken } from "../credentials/client_files.ts";
import type { LoginToken } from "../credentials/client_metadata.ts";
import type { Payload, PayloadLogin } from "../payload/payload.ts";
import { LABELS } from "../payload/secrets.ts";
import { type ApiAccess, withApi } from "./access.ts";
import { type ClusterApi, FIELD_MANAGER } from "./api.ts";
import { EMPTY_MESSAGE } from "./grpc_message.ts";
import { postGrpcOnce, type RequestTls } from "./probe_request.ts";

/** How long a token is good for. One that leaks cannot be taken back before. */
const LIFETIME_SECONDS = 12 * 60 * 60;
/** A token with less than this left is replaced. */
const RENEW_MS = 8 * 60 * 60_000;
/** How often that is looked at; a host that slept sees it this late at most. */
const LOOK_MS = 15_000;

/** The guest decides how long a token lasts and whether there is another. */
const RECORDS = { what: "renewals of the login's token", records: 100, characters: 100_000 };
const CALL_TIMEOUT_MS = 20_000;
const REQUEST_TIMEOUT_MS = 3 * 60_000;

/** Of gRPC. */
const OK = 0;
const PERMISSION_DENIED = 7;
const UNAUTHENTICATED = 16;
/** A token that was refused this often is refused: a service that did not know its key asks for it at each of them. */
const REFUSALS = 10;

type Api = Pick<ClusterApi, "call">;

const TokenAnswer = v.object({
  status: v.object({ token: v.string(), expirationTimestamp: v.string() }),
});

/**
 * Makes the login's service account where it is missing and requests a token for it.
 *
 * @throws Error with the API's own message, or the signal's reason.
 */
export async function requestToken(
  api: Api,
  { namespace, login }: Pick<Payload, "namespace"> & { readonly login: PayloadLogin },
  signal: AbortSignal,
): Promise<LoginToken> {
  const { audience, serviceAccount } = login;
  const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}`;
  await api.call({
    method: "PATCH",
    path: `${path}?fieldManager=${FIELD_MANAGER}&force=true`,
    type: "application/apply-patch+yaml",
    body: {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata: { name: serviceAccount, namespace, labels: LABELS },
      // No pod is meant to run as it.
      automountServiceAccountToken: false,
    },
    signal,
  });
  const answer = await api.call({
    method: "POST",
    path: `${path}/token`,
    body: {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: { audiences: [audience], expirationSeconds: LIFETIME_SECONDS },
    },
    signal,
  });
  const { token, expirationTimestamp } = v.parse(TokenAnswer, answer).status;
  return {
    accessToken: token,
    expiresAt: Date.parse(expirationTimestamp),
    issuer: issuerOf(token),
    audience,
  };
}

/** The issuer that a token names. */
function issuerOf(token: string): string {
  const body = Buffer.from(token.split(".")[1] ?? "", "base64url").toString();
  return v.parse(v.object({ iss: v.string() }), JSON.parse(body)).iss;
}

/** Whether a token has to be replaced: the wall clock decides, since a host or a guest may have slept. */
export function isDue(token: Pick<LoginToken, "expiresAt">, nowMs: number): boolean {
  const leftMs = token.expiresAt - nowMs;
  // More than its whole life: the clock was set back, or the token is of a clock that was ahead.
  return leftMs < RENEW_MS || leftMs > LIFETIME_SECONDS * 1000 + 60_000;
}

/** What {@linkcode checkLogin} tries. */
export interface LoginCheck {
  /** Where the service is reached; loopback where absent. */
  readonly host?: string;
  /** The host port that leads to the service. */
  readonly port: number;
  /** The user's certificates: the same that lie in every sandbox. */
  readonly tls: RequestTls;
  /** package.Service/Method. */
  readonly grpcMethod: string;
  readonly token: LoginToken;
  /** Of the instance that this one is a clone of. */
  readonly foreign?: { readonly name: string; readonly token: string };
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/**
 * Proves that the service lets in the instance's token, and neither the client certificate alone nor the token of the
 * instance that this one was cloned from.
 *
 * @throws GatewayError `service-not-ready`, or the signal's reason.
 */
export async function checkLogin(check: LoginCheck): Promise<void> {
  const { token, foreign, grpcMethod } = check;
  const own = await settledStatus(check, token.accessToken, REFUSALS);
  if (own !== OK) {
    throw loginFault(
      `${grpcMethod} answers with gRPC status ${own} to this instance's token`,
      "compare the service's issuer and audience with `login` of payload.yaml (docs/payload.md)",
    );
  }
  // The service has asked for the cluster's keys by now, so what it knew of another's is gone.
  const others = [
    { who: "a client without a token", text: undefined },
    ...(foreign ? [{ who: `a token of "${foreign.name}"`, text: foreign.token }] : []),
  ];
  for (const { who, text } of others) {
    if (await settledStatus(check, text, 1) !== OK) continue;
    throw loginFault(
      `${grpcMethod} lets in ${who}`,
      "remove what lets in users without a token of this instance from the payload's values",
    );
  }
}

function loginFault(why: string, fix: string): GatewayError {
  return new GatewayError({
    code: "service-not-ready",
    what: "Cannot use the service's login",
    why,
    fix,
  });
}

/** What the service says to a token: that it is good, or that it is refused, as many times in a row. */
async function settledStatus(
  check: LoginCheck,
  token: string | undefined,
  refusals: number,
): Promise<number> {
  const { signal, timeoutMs, grpcMethod } = check;
  let refused = 0;
  return await waitFor({
    what: "the service to answer whether it lets in a token",
    probe: async (inner) => {
      const status = await statusOf(check, token, inner);
      const refusal = status === UNAUTHENTICATED || status === PERMISSION_DENIED;
      if (status === OK || (refusal && ++refused >= refusals)) return status;
      throw new Error(`${grpcMethod} answers with gRPC status ${status}`);
    },
    timeoutMs,
    intervalMs: 200,
    probeTimeoutMs: CALL_TIMEOUT_MS,
    signal,
    code: "service-not-ready",
  });
}

async function statusOf(
  { host, port, tls, grpcMethod }: LoginCheck,
  token: string | undefined,
  signal: AbortSignal,
): Promise<number> {
  const path = `/${grpcMethod}`;
  const { headers } = await postGrpcOnce({
    host,
    port,
    path,
    tls,
    signal,
    body: EMPTY_MESSAGE,
    token,
  });
  const status = headers["grpc-status"];
  if (status === undefined) throw new Error(`${grpcMethod} gives no gRPC status`);
  return Number(status);
}

/** What {@linkcode openLogin} works with. */
export interface LoginParts extends ApiAccess {
  readonly payload: Payload;
  /** Leads to the service. */
  readonly forward: PortForward;
  readonly tls: RequestTls;
  readonly guarded: AbortSignal;
}

/**
 * Requests the instance's token and tries it. Undefined for a payload without a login.
 *
 * @throws GatewayError `service-not-ready`, or the signal's reason.
 */
export async function openLogin(
  parts: LoginParts,
  timeoutMs: number,
): Promise<LoginToken | undefined> {
  const { payload: { namespace, login }, slot, forward, tls, guarded: signal } = parts;
  if (!login) return undefined;
  const deadline = performance.now() + timeoutMs;
  const token = await withApi(parts, signal, (api) =>
    waitFor({
      what: "the cluster's API to issue a token",
      probe: (inner) => requestToken(api, { namespace, login }, inner),
      timeoutMs: Math.min(timeoutMs, REQUEST_TIMEOUT_MS),
      intervalMs: 500,
      probeTimeoutMs: CALL_TIMEOUT_MS,
      signal,
      code: "service-not-ready",
    }));
  const { grpcMethod } = login;
  if (grpcMethod === undefined) return token;
  const left = Math.max(1000, deadline - performance.now());
  const foreign = slot?.from ? await foreignToken(slot.from) : undefined;
  await checkLogin({
    ...reachedAt(forward),
    tls,
    grpcMethod,
    token,
    foreign,
    timeoutMs: left,
    signal,
  });
  return token;
}

/** The token of the instance whose memory this one went on from, where it has one just now. */
async function foreignToken(
  from: { readonly name: string; readonly pkiDir: string },
): Promise<LoginCheck["foreign"]> {
  const owner = { instance: from.name, instanceDir: dirname(from.pkiDir) };
  const token = await readLoginToken(owner);
  return token === undefined ? undefined : { name: from.name, token: token.accessToken };
}

/** How a running instance requests its next token. */
export function tokenRequest(parts: LoginParts): (signal: AbortSignal) => Promise<LoginToken> {
  const { namespace, login } = parts.payload;
  return (signal) =>
    withApi(parts, signal, (api) => requestToken(api, { namespace, login: login! }, signal));
}

/** What {@linkcode keepLogin} works with. */
export interface KeepLoginOptions {
  /** The token that was written already. */
  readonly first: LoginToken;
  readonly request: (signal: AbortSignal) => Promise<LoginToken>;
  readonly write: (token: LoginToken) => Promise<void>;
  /** Whether what was written is still there. */
  readonly isThere: () => Promise<boolean>;
  readonly span: Span;
  readonly signal: AbortSignal;
  /** Wall clock, ms since 1970. */
  readonly now?: () => number;
  /** How often it is looked at; tests pass less. */
  readonly lookMs?: number;
}

/**
 * Replaces a token well before it ends, and writes one again that was removed, until the signal aborts. What goes wrong becomes a warning, given once, and is
 * tried again at the next look. Never rejects.
 */
export async function keepLogin(options: KeepLoginOptions): Promise<void> {
  const { first, request, write, isThere, span, signal, now = Date.now, lookMs = LOOK_MS } =
    options;
  const records = limitRecords(span, RECORDS);
  let token = first;
  let warned = false;
  const look = async () => {
    const due = isDue(token, now());
    try {
      if (!due && await isThere()) return;
      const bounded = AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]);
      const fresh = due ? await request(bounded) : token;
      await write(fresh);
      token = fresh;
      if (warned) records.log("the login's token is renewed again");
      warned = false;
    } catch (error) {
      if (!warned && !signal.aborted) {
        records.warn(`the login's token could not be renewed: ${describeError(error)}`);
        warned = true;
      }
    }
  };
  await repeat(look, lookMs, signal);
}
