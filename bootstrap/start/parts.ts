/**
 * The second station of a start: artifacts, payload, VMM and keys, and the disk that hands them to the guest.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { reachableAddress } from "../../net/forward.ts";
import { ensureSsh, type InstanceSsh } from "../../net/ssh.ts";
import { guestEnv } from "../../rootfs/contract.ts";
import type { Span } from "../../vm/base/event.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { together } from "../../vm/base/together.ts";
import type { LockedInstance, PortForward } from "../../vm/instance/instance.ts";
import type { SavedState } from "../../vm/instance/saved_state.ts";
import { type BootArtifacts, ensureArtifacts } from "../artifacts/ensure.ts";
import { ensureJwt, takeJwt } from "../credentials/jwt.ts";
import { ensureLoginKey } from "../credentials/login_key.ts";
import { ensurePki, type Pki } from "../credentials/pki.ts";
import { offeringDemo } from "../payload/choose.ts";
import { payloadFiles } from "../payload/manifests.ts";
import type { Payload } from "../payload/payload.ts";
import { type PreparedPayload, preparePayload } from "../payload/prepare.ts";
import { type SecretMaterial, wantsJwt } from "../payload/secrets.ts";
import { chooseVmm, type ChosenVmm } from "../plan/choose_vmm.ts";
import { writePayload } from "./payload_disk.ts";
import type { StartPlan } from "./start_plan.ts";

/** What a start is made of. */
export interface Parts {
  readonly plan: StartPlan;
  readonly instance: LockedInstance;
  readonly artifacts: BootArtifacts;
  /** The payload with what it takes from elsewhere. */
  readonly prepared: PreparedPayload;
  readonly chosen: ChosenVmm;
  readonly ssh: InstanceSsh;
  /** What the payload's Secrets are filled with in an instance that starts from nothing. */
  readonly material: SecretMaterial;
}

/**
 * Makes what is missing, and remembers what the user chose.
 *
 * @throws GatewayError of the part that could not be had, or the signal's reason.
 */
export async function prepare(
  plan: StartPlan,
  instance: LockedInstance,
  parent: Span,
  signal: AbortSignal,
): Promise<Parts> {
  const { options, payload, forward } = plan;
  const { config } = options;
  const artifacts = await parent.run(
    "artifacts",
    (span) => ensureArtifacts({ ...options, span, signal }),
  );
  const preparing = preparePayload(payload, { ...options, span: parent, signal });
  const prepared = await offeringDemo(config.payload, preparing);
  const chosen = await parent.run(
    "choose vmm",
    (span) => chooseVmm(artifacts, { ...options, span, signal }),
  );
  await instance.saveConfig(config);
  const [pki, ssh] = await parent.run(
    "pki",
    (span) => ensureKeys(instance.paths, forward, { span, signal }),
  );
  const material = await readMaterial(instance.paths, payload, pki);
  return { plan, instance, artifacts, prepared, chosen, ssh, material };
}

/**
 * The instance's own certificates and ssh keys. The service's certificate also names the address that it is forwarded
 * from, since a client calls it by that.
 *
 * @throws GatewayError as ensurePki().
 */
export async function ensureKeys(
  paths: Pick<InstancePaths, "pkiDir" | "sshDir">,
  { address }: Pick<PortForward, "address">,
  options: { readonly span: Span; readonly signal: AbortSignal },
): Promise<readonly [Pki, InstanceSsh]> {
  const extraNames = [reachableAddress(address)];
  return await together<[Pki, InstanceSsh]>([
    (both) => ensurePki(paths.pkiDir, { ...options, signal: both, extraNames }),
    () => ensureSsh(paths.sshDir),
  ], options);
}

/** What the payload's Secrets are filled with; keys that sign tokens only where it wants them. */
async function readMaterial(
  paths: InstancePaths,
  payload: Payload,
  certificates: Pki,
): Promise<SecretMaterial> {
  const jwt = wantsJwt(payload) ? await ensureJwt(paths.jwtDir) : undefined;
  const tokenKey = payload.login ? await ensureLoginKey(paths.loginDir) : undefined;
  return { certificates, ...(jwt && { jwt }), ...(tokenKey !== undefined && { tokenKey }) };
}

/** The material of an instance that resumes from another's memory: the service's own token keys stay what they are there. */
async function adoptMaterial(
  paths: InstancePaths,
  slot: SavedState | undefined,
  material: SecretMaterial,
): Promise<SecretMaterial> {
  if (!slot?.from || !material.jwt) return material;
  const jwt = await takeJwt(join(dirname(slot.from.pkiDir), "jwt"), paths.jwtDir);
  return jwt ? { ...material, jwt } : material;
}

/**
 * Writes what the guest is given: settings, its ssh host key, and the payload with its Secrets. Returns what the Secrets
 * are filled with.
 *
 * @throws GatewayError `payload-invalid`, `disk-full`.
 */
export async function writeGuestPayload(
  parts: Parts,
  slot: SavedState | undefined,
): Promise<SecretMaterial> {
  const { plan: { options: { config }, network }, instance: { paths }, prepared, ssh } = parts;
  const material = await adoptMaterial(paths, slot, parts.material);
  await writePayload(paths.payload, {
    env: guestEnv({
      mode: "cluster",
      name: config.name,
      hostname: config.name === "default" ? "gateway" : config.name,
      net: "gvproxy",
    }),
    ssh: ssh.payload,
    manifests: payloadFiles(prepared, material),
    tokenKey: material.tokenKey,
    ...network,
  });
  return material;
}
