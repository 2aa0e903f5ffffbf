/**
 * The fifth station of a start: from a booting guest to READY: the payload's images and changed content, this instance's identity, the
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
import { type ApiAccess, readGuestKubeconfig, startKubeApi, withApi } from "../cluster/access.ts";
import { adoptCluster } from "../cluster/adopt.ts";
import { gatherEvidence, notReady, readDeployFaults } from "../cluster/evidence.ts";
import { keepLogin, type LoginParts, openLogin, tokenRequest } from "../cluster/login.ts";
import { waitServiceReady } from "../cluster/readiness.ts";
import { startRecreating } from "../cluster/recreate_pods.ts";
import { placeContent, waitRolledOut } from "../cluster/rollout.ts";
import { placeSecrets } from "../cluster/secret_volumes.ts";
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
import { exposePorts, guestUp } from "./guest_up.ts";
import type { Machine } from "./machine.ts";
import type { Parts } from "./parts.ts";
import type { Source } from "./source.ts";

/** What was seen of a payload that does not answer is gathered within this. */
const EVIDENCE_TIMEOUT_MS = 60_000;

/** What a guest with open ports is asked through. */
interface OpenGuest extends ApiAccess {
  readonly config: InstanceConfig;
  readonly prepared: PreparedPayload;
  readonly material: SecretMaterial;
  /** The forward that leads to the service. */
  readonly forward: PortForward;
  readonly guarded: AbortSignal;
  /** The VM is left running for inspection when the payload does not answer. */
  readonly keep: boolean;
}

/** An instance whose payload answers, or that is kept to look inside. Disposing ends what runs beside it. */
export interface Ready extends AsyncDisposable {
  /** What the instance remembers from now on. */
  readonly config: InstanceConfig;
  readonly ports: { readonly sshPort: number; readonly apiPort: number | null };
}

/**
 * Waits until the payload answers, within its own bound, and tells who waits for it: READY, or with `keep` why it does not
 * answer.
 *
 * @throws GatewayError `service-not-ready` with what was seen of it, or the signal's reason.
 */
export async function reachReady(
  parts: Parts,
  source: Source,
  machine: Machine,
  ctx: Pick<UpContext, "onReady" | "onKept">,
  span: Span,
): Promise<Ready> {
  const { plan: { options, forward }, instance, prepared } = parts;
  const { config, keep = false } = options;
  const { paths } = instance;
  const { control, guarded, gvproxy, vm } = machine;
  const { slot, material } = source;
  await span.run("guest up", () => guestUp(control, slot, guarded, prepared));
  await vm.keep();
  const ports = await span.run(
    "expose ports",
    () => exposePorts(gvproxy.client, paths, config, slot),
  );
  await instance.saveRun(ports);
  const access = { paths, slot, ports, gvproxy: gvproxy.client };
  const guest = { ...access, config, prepared, material, forward, guarded, keep };
  await using stack = new AsyncDisposableStack();
  const kubeApi = stack.use(startKubeApi(span, config, access, guarded));
  const answer = await waitForPayload(span, guest);
  let now = config;
  if (answer instanceof GatewayError) {
    await instance.saveRun({ phase: "failed" });
    ctx.onKept?.(answer);
  } else {
    const { token } = answer;
    stack.use(await span.run("client files", () => publishClientFiles(guest, token, span)));
    await kubeApi.settled;
    now = { ...config, payloadDigest: prepared.digest };
    await announceReady(instance, guest, now, ctx);
    for (const work of startAfterReady(instance, guest, span)) stack.use(work);
  }
  const beside = stack.move();
  return { config: now, ports, [Symbol.asyncDispose]: () => beside.disposeAsync() };
}

/** Gives why the payload does not answer when the VM is to be kept, else the user's token where there is a login. */
async function waitForPayload(
  parent: Span,
  guest: OpenGuest,
): Promise<GatewayError | { readonly token: LoginToken | undefined }> {
  const startedMs = performance.now();
  try {
    return { token: await openPayload(parent, guest) };
  } catch (error) {
    if (guest.guarded.aborted || !(error instanceof GatewayError)) throw error;
    if (error.code !== "service-not-ready") throw error;
    const explained = await parent.run(
      "evidence",
      () => explain(error, guest, performance.now() - startedMs),
    );
    if (!guest.keep || guest.guarded.aborted) throw explained;
    return explained;
  }
}

/** Brings the payload's images and changed content, gives the cluster this instance's identity, and waits for the service. */
async function openPayload(parent: Span, guest: OpenGuest): Promise<LoginToken | undefined> {
  const { prepared, paths, config, slot, forward, material, guarded } = guest;
  const { service } = prepared.payload;
  const before = slot ? slot.payload : config.payloadDigest;
  if (before !== prepared.digest) {
    await giveImages(prepared, { paths, span: parent, signal: guarded });
  }
  // From here on, since how long images take is not the payload's to answer for.
  const deadline = performance.now() + service.health.timeoutSeconds * 1000;
  const leftMs = () => Math.max(1000, deadline - performance.now());
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
  if (!prepared.payload.login) return undefined;
  return await parent.run("login", () => openLogin(loginParts(guest), leftMs()));
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
      placeFiles: (lines) => placeSecrets(paths, lines, guest.guarded),
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

/** Writes the records, and tells who waits. */
async function announceReady(
  instance: LockedInstance,
  { forward, prepared: { payload, later } }: OpenGuest,
  config: InstanceConfig,
  { onReady }: Pick<UpContext, "onReady">,
): Promise<void> {
  await instance.saveConfig(config);
  const run = await instance.saveRun({
    ...readyNow(payload, config, forward),
    ...laterImages(later),
  });
  await onReady(run);
}

/** Work that READY does not wait for. */
function startAfterReady(
  instance: LockedInstance,
  guest: OpenGuest,
  span: Span,
): readonly AsyncDisposable[] {
  const { paths, guarded: signal, prepared: { payload, later } } = guest;
  const ssh = { name: paths.name, sshDir: paths.sshDir };
  const loading = startLaterImages({
    images: later,
    load: (images, how) => bringImages(ssh, images, how),
    save: (change) => instance.saveRun(change),
    ...{ span, signal },
  });
  const adopted = Boolean(guest.slot?.from);
  // A resumed guest has its pods as they were, and a new instance has none of before.
  const lost = !guest.slot && guest.config.payloadDigest !== null;
  if (payload.recreatePodsOf.length === 0 || !(adopted || lost)) return [loading];
  const startedAt = Date.parse(instance.run!.startedAt);
  return [loading, startRecreating(span, guest, { payload, adopted, startedAt, signal })];
}

/**
 * Writes the client's certificates, token and metadata in OpenShell's format, and keeps the token fresh until disposed. The first instance becomes the active gateway; a clone, and one beside it, only where the user says so.
 */
async function publishClientFiles(
  guest: OpenGuest,
  login: LoginToken | undefined,
  span: Span,
): Promise<AsyncDisposable> {
  await using stack = new AsyncDisposableStack();
  const { paths, material: { certificates: { caPem, client } }, prepared, slot } = guest;
  // Without TLS there is nothing that the client could show.
  if (!usesTls(prepared.payload.service.protocol)) return stack.move();
  const owner = { instance: paths.name, instanceDir: paths.dir };
  const cloned = slot?.from && await exists(join(dirname(slot.from.pkiDir), "instance.json"));
  const { host, port } = reachedAt(guest.forward);
  await writeClientFiles({
    ...{ owner, host: urlHost(host), port, caPem, client, login, isRunning },
    activate: cloned ? "never" : paths.name === "default" ? "first" : "free",
  });
  // Disposed after what keeps the token, which could write it again.
  stack.defer(() => deactivateClientFiles(owner).then(() => {}, () => {}));
  if (!login) return stack.move();
  stack.use(startBeside(guest.guarded, (signal) =>
    keepLogin({
      first: login,
      request: tokenRequest(loginParts(guest)),
      write: (token) => writeLoginToken(owner, token),
      isThere: async () => await readLoginToken(owner) !== undefined,
      ...{ span, signal },
    })));
  return stack.move();
}

async function isRunning({ instance, instanceDir }: Owner): Promise<boolean> {
  const found = await findInstance(instance).catch(() => undefined);
  return found?.state === "running" && found.paths.dir === instanceDir;
}
