/**
 * The way of a start from open ports to READY: the payload's images and changed content, this instance's identity, the
 * service's health; and beside it the kubeconfig.
 * It must not start or end a process, print, or exit.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { reachedAt, urlHost } from "../../net/forward.ts";
import { shellQuote } from "../../net/ssh.ts";
import { abortError, describeError, GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { exists } from "../../vm/base/layout.ts";
import { startBeside } from "../../vm/base/together.ts";
import { formatMs } from "../../vm/base/wait.ts";
import {
  findInstance,
  type InstanceConfig,
  type LockedInstance,
  type PortForward,
  type RunRecord,
} from "../../vm/instance/instance.ts";
import { type ApiAccess, readGuestKubeconfig, withApi } from "../cluster/access.ts";
import { adoptCluster } from "../cluster/adopt.ts";
import { gatherEvidence, notReady, readDeployFaults } from "../cluster/evidence.ts";
import { keepLogin, type LoginParts, openLogin, tokenRequest } from "../cluster/login.ts";
import { waitServiceReady } from "../cluster/readiness.ts";
import { startRecreating } from "../cluster/recreate_pods.ts";
import { placeContent, waitRolledOut } from "../cluster/rollout.ts";
import { isOld } from "../cluster/slot_certificates.ts";
import {
  clientFilesPath,
  deactivateClientFiles,
  readLoginToken,
  writeClientFiles,
  writeLoginToken,
} from "../credentials/client_files.ts";
import type { LoginToken } from "../credentials/client_metadata.ts";
import type { Owner } from "../credentials/owner.ts";
import { bringImages } from "../images/load.ts";
import type { Payload } from "../payload/payload.ts";
import { giveImages, type PreparedPayload } from "../payload/prepare.ts";
import type { SecretMaterial } from "../payload/secrets.ts";
import { endpointUrl, usesTls } from "../payload/service.ts";
import { laterImages, startLaterImages } from "../run/later_images.ts";
import type { UpContext } from "./context.ts";

/** What was seen of a payload that does not answer is gathered within this. */
const EVIDENCE_TIMEOUT_MS = 60_000;

/** What a guest with open ports is asked through. */
export interface OpenGuest extends ApiAccess {
  readonly config: InstanceConfig;
  readonly prepared: PreparedPayload;
  readonly material: SecretMaterial;
  /** The forward that leads to the service. */
  readonly forward: PortForward;
  readonly guarded: AbortSignal;
  /** The VM is left running for inspection when the payload does not answer. */
  readonly keep: boolean;
}

/**
 * Waits until the payload answers, within its own bound, and lets its user in. Returns why it did not when the VM is to
 * be kept, else the user's token where there is a login.
 *
 * @throws GatewayError `service-not-ready` with what was seen of it, or the signal's reason.
 */
export async function reachReady(
  parent: Span,
  guest: OpenGuest,
): Promise<GatewayError | { readonly token: LoginToken | undefined }> {
  const { prepared, paths, config, slot, forward, material, guarded } = guest;
  const startedMs = performance.now();
  const { service } = prepared.payload;
  const before = slot ? slot.payload : config.payloadDigest;
  if (before !== prepared.digest) {
    await giveImages(prepared, { paths, span: parent, signal: guarded });
  }
  // From here on, since how long images take is not the payload's to answer for.
  const deadline = performance.now() + service.health.timeoutSeconds * 1000;
  const leftMs = () => Math.max(1000, deadline - performance.now());
  try {
    // Nobody knows what an instance ran that never was READY; its disk starts with the new content anyway.
    const changed = before !== prepared.digest && (slot !== undefined || before !== null);
    const installs = before !== prepared.digest && prepared.payload.charts.length > 0;
    if (changed || installs) {
      await parent.run("payload in place", async () => {
        if (slot && !slot.from) await placeContent(paths, guarded);
        await withApi(guest, guarded, (api) => waitRolledOut(api, prepared, leftMs(), guarded));
      });
    }
    await becomeOwn(parent, guest, leftMs());
    await parent.run("service ready", (span) => {
      const pki = material.certificates;
      const timeoutMs = leftMs();
      return waitServiceReady({
        ...reachedAt(forward),
        ...{ pki, service, span, signal: guarded, timeoutMs },
      });
    });
    if (!prepared.payload.login) return { token: undefined };
    const token = await parent.run("login", () => openLogin(loginParts(guest), leftMs()));
    return { token };
  } catch (error) {
    if (guarded.aborted || !(error instanceof GatewayError)) throw error;
    if (error.code !== "service-not-ready") throw error;
    const explained = await parent.run(
      "evidence",
      () => explain(error, guest, performance.now() - startedMs),
    );
    if (!guest.keep || guarded.aborted) throw explained;
    return explained;
  }
}

/** What the login is opened and kept with. */
function loginParts(guest: OpenGuest): LoginParts {
  const { material: { certificates: { caPem, client } }, prepared: { payload } } = guest;
  return { ...guest, payload, tls: { caPem, ...client } };
}

/** The error with what was seen; the error alone where the cluster cannot be asked. */
async function explain(
  error: GatewayError,
  guest: OpenGuest,
  waitedMs: number,
): Promise<GatewayError> {
  const { guarded, keep, config } = guest;
  const signal = AbortSignal.any([guarded, AbortSignal.timeout(EVIDENCE_TIMEOUT_MS)]);
  const { payload } = guest.prepared;
  const told = { payload, keep, instance: config.name, waitedMs };
  try {
    const deployLog = await readDeployFaults(guest.paths, signal);
    const seen = await withApi(guest, signal, (api) => gatherEvidence(api, payload, signal))
      .catch((inner) => ({ lines: [`the cluster's API: ${apiWords(inner, signal)}`] }));
    return notReady(error, { ...told, ...seen, deployLog });
  } catch {
    return guarded.aborted ? abortError(guarded) : notReady(error, { ...told, lines: [] });
  }
}

function apiWords(error: unknown, signal: AbortSignal): string {
  return signal.aborted
    ? `no answer within ${formatMs(EVIDENCE_TIMEOUT_MS)}`
    : describeError(error);
}

/** Puts this instance's certificates into a cluster that went on from another's memory; nothing to do for any other. */
async function becomeOwn(span: Span, guest: OpenGuest, timeoutMs: number): Promise<void> {
  const { slot, prepared, paths } = guest;
  const from = slot?.from;
  if (!from) return;
  const { payload } = prepared;
  await span.run("identity", (s) =>
    adoptCluster({
      ...guest,
      ...{ from, payload, timeoutMs },
      renewed: isOld(slot),
      apiPort: guest.ports.apiPort,
      readKubeconfig: () => readGuestKubeconfig(paths, guest.guarded),
      span: s,
    }));
}

/** A path as a user can paste it into a command. */
function shellWord(path: string): string {
  return /^[\w@%+=:,./-]+$/.test(path) ? path : shellQuote([path]);
}

/** What the record of a run gains when its payload answers. */
function readyNow(
  payload: Payload,
  config: InstanceConfig,
  forward: PortForward,
): Partial<RunRecord> {
  const endpoint = endpointUrl(payload.service, forward);
  const values = {
    ...{ endpoint, port: String(forward.hostPort), instance: config.name },
    clientFiles: shellWord(join(clientFilesPath(config.name), "mtls")),
  };
  const notes = payload.notes.trim().replaceAll(
    /\{(endpoint|port|instance|clientFiles)\}/g,
    (_, name: keyof typeof values) => values[name],
  );
  return { phase: "ready", readyAt: new Date().toISOString(), endpoint, notes: notes || null };
}

/** The payload did not answer and the VM stays: whoever waits for this start is told now. */
export async function keepForInspection(
  instance: LockedInstance,
  config: InstanceConfig,
  ctx: UpContext,
  error: GatewayError,
): Promise<InstanceConfig> {
  await instance.saveRun({ phase: "failed" });
  ctx.onKept?.(error);
  return config;
}

/** The payload answers: client files, the records, and whoever waits. Returns what the instance remembers from now on. */
export async function announceReady(
  span: Span,
  stack: AsyncDisposableStack,
  instance: LockedInstance,
  guest: OpenGuest,
  kubeApi: Promise<void>,
  ctx: UpContext,
  token: LoginToken | undefined,
): Promise<InstanceConfig> {
  const { paths, forward, prepared: { payload, digest, later } } = guest;
  await span.run("client files", () => publishClientFiles(stack, guest, token, span));
  await kubeApi;
  const config = { ...guest.config, payloadDigest: digest };
  await instance.saveConfig(config);
  const run = await instance.saveRun({
    ...readyNow(payload, config, forward),
    ...laterImages(later),
  });
  await ctx.onReady(run);
  const ssh = { name: paths.name, sshDir: paths.sshDir };
  startLaterImages(stack, {
    images: later,
    load: (images, how) => bringImages(ssh, images, how),
    save: (change) => instance.saveRun(change),
    ...{ span, signal: guest.guarded },
  });
  const adopted = Boolean(guest.slot?.from);
  // A resumed guest has its pods as they were, and a new instance has none of before.
  const lost = !guest.slot && guest.config.payloadDigest !== null;
  if (payload.recreatePodsOf.length > 0 && (adopted || lost)) {
    const startedAt = Date.parse(run.startedAt);
    startRecreating(stack, span, guest, { payload, adopted, startedAt, signal: guest.guarded });
  }
  return config;
}

/**
 * Writes the client's certificates, token and metadata in OpenShell's format for as long as the instance runs, and keeps
 * the token fresh. The first instance becomes the active gateway; a clone, and one beside it, only where the user says so.
 */
async function publishClientFiles(
  stack: AsyncDisposableStack,
  guest: OpenGuest,
  login: LoginToken | undefined,
  span: Span,
): Promise<void> {
  const { paths, material: { certificates: { caPem, client } }, prepared, slot } = guest;
  // Without TLS there is nothing that the client could show.
  if (!usesTls(prepared.payload.service.protocol)) return;
  const owner = { instance: paths.name, instanceDir: paths.dir };
  const cloned = slot?.from && await exists(join(dirname(slot.from.pkiDir), "instance.json"));
  const { host, port } = reachedAt(guest.forward);
  await writeClientFiles({
    ...{ owner, host: urlHost(host), port, caPem, client, login, isRunning },
    activate: cloned ? "never" : paths.name === "default" ? "first" : "free",
  });
  // Disposed after what keeps the token, which could write it again.
  stack.defer(() => deactivateClientFiles(owner).then(() => {}, () => {}));
  if (!login) return;
  startBeside(stack, guest.guarded, (signal) =>
    keepLogin({
      first: login,
      request: tokenRequest(loginParts(guest)),
      write: (token) => writeLoginToken(owner, token),
      isThere: async () => await readLoginToken(owner) !== undefined,
      ...{ span, signal },
    }));
}

async function isRunning({ instance, instanceDir }: Owner): Promise<boolean> {
  const found = await findInstance(instance).catch(() => undefined);
  return found?.state === "running" && found.paths.dir === instanceDir;
}
