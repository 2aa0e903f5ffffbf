/**
 * What a start is made of before anything runs: artifacts, payload, keys, and the disk that hands them to the guest.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { reachableAddress } from "../../net/forward.ts";
import { ensureSsh, type InstanceSsh } from "../../net/ssh.ts";
import type { Span } from "../../vm/base/event.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { together } from "../../vm/base/together.ts";
import type { InstanceConfig, PortForward } from "../../vm/instance/instance.ts";
import type { SavedState } from "../../vm/instance/saved_state.ts";
import { type BootArtifacts, ensureArtifacts } from "../artifacts/ensure.ts";
import { ensureJwt, takeJwt } from "../credentials/jwt.ts";
import { ensureLoginKey } from "../credentials/login_key.ts";
import { ensurePki, type Pki } from "../credentials/pki.ts";
import { guestNetworkFor } from "../images/guest_network.ts";
import { offeringDemo } from "../payload/choose.ts";
import { payloadFiles } from "../payload/manifests.ts";
import type { Payload } from "../payload/payload.ts";
import { type PreparedPayload, preparePayload } from "../payload/prepare.ts";
import { type SecretMaterial, wantsJwt } from "../payload/secrets.ts";
import type { UpOptions } from "../plan/options.ts";
import { writePayload } from "./payload_disk.ts";

/** What a start is made of: artifacts of this host, and what its payload takes from elsewhere. */
export async function ensureParts(
  parent: Span,
  options: UpOptions,
  payload: Payload,
  signal: AbortSignal,
): Promise<{ readonly artifacts: BootArtifacts; readonly prepared: PreparedPayload }> {
  const artifacts = await parent.run(
    "artifacts",
    (span) => ensureArtifacts({ ...options, span, signal }),
  );
  const { config } = options;
  const how = { ...options, span: parent, signal };
  const prepared = await offeringDemo(config.payload, preparePayload(payload, how));
  return { artifacts, prepared };
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
export async function readMaterial(
  paths: InstancePaths,
  payload: Payload,
  certificates: Pki,
): Promise<SecretMaterial> {
  const jwt = wantsJwt(payload) ? await ensureJwt(paths.jwtDir) : undefined;
  const tokenKey = payload.login ? await ensureLoginKey(paths.loginDir) : undefined;
  return { certificates, ...(jwt && { jwt }), ...(tokenKey !== undefined && { tokenKey }) };
}

/** The material of an instance that goes on from another's memory: the service's own token keys stay what they are there. */
export async function adoptMaterial(
  paths: InstancePaths,
  slot: SavedState | undefined,
  material: SecretMaterial,
): Promise<SecretMaterial> {
  if (!slot?.from || !material.jwt) return material;
  const jwt = await takeJwt(join(dirname(slot.from.pkiDir), "jwt"), paths.jwtDir);
  return jwt ? { ...material, jwt } : material;
}

/**
 * What the guest is given: settings, its ssh host key, the payload with its Secrets. Without a span nothing of the
 * user's registries, proxy and authorities.
 */
export async function writeUpPayload(
  paths: InstancePaths,
  config: InstanceConfig,
  prepared: PreparedPayload,
  material: SecretMaterial,
  ssh: InstanceSsh,
  span?: Span,
): Promise<void> {
  const network = span && await guestNetworkFor(config, span);
  await writePayload(paths.payload, {
    env: {
      GW_MODE: "cluster",
      GW_NAME: config.name,
      GW_HOSTNAME: config.name === "default" ? "gateway" : config.name,
      GW_NET: "gvproxy",
      GW_K3S_ARGS: "",
      GW_CLOCK: (Date.now() / 1000).toFixed(3),
    },
    ssh: ssh.payload,
    manifests: payloadFiles(prepared, material),
    tokenKey: material.tokenKey,
    ...network,
  });
}
