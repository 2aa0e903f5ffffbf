/**
 * What is deployed: the objects of a payload as YAML, filled with a deployment's certificates.
 * It must not know how they are applied.
 *
 * @module
 */
import { ensurePayload, offeringDemo, payloadSource } from "../payload/choose.ts";
import { packedDigest, payloadFiles, RECORD_FILE } from "../payload/manifests.ts";
import type { PayloadLogin } from "../payload/payload.ts";
import { chartArchives, type PrepareOptions } from "../payload/prepare.ts";
import { type SecretMaterial, wantsJwt } from "../payload/secrets.ts";

/** A payload as a deployment needs it. */
export interface DeployPayload {
  /** A DNS label; the inventory is called by it. */
  readonly name: string;
  /** Where its objects go that name no namespace, and where the inventory is. */
  readonly namespace: string;
  /** Where its service answers on each node, unless it has a load balancer. */
  readonly nodePort: number;
  /** Whether its Secrets hold keys that sign tokens. */
  readonly wantsJwt: boolean;
  /** The service account and audience of its users' tokens, where it has a login. */
  readonly login?: PayloadLogin;
  /** Its objects as YAML, any number in one text. Secret: private keys are among them. */
  readonly documents: (material: SecretMaterial) => Promise<readonly string[]>;
}

/**
 * The payload of a built-in name or a folder. Charts of a registry are pulled by this host; images are not.
 *
 * @throws GatewayError `usage`, `payload-invalid`, or that of a pull.
 */
export async function deployPayload(text: string, options: PrepareOptions): Promise<DeployPayload> {
  const source = payloadSource(text);
  const payload = await ensurePayload(source, options);
  // A removal needs no chart.
  let archives: ReturnType<typeof chartArchives> | undefined;
  return {
    name: payload.name,
    namespace: payload.namespace,
    nodePort: payload.service.nodePort,
    wantsJwt: wantsJwt(payload),
    ...(payload.login && { login: payload.login }),
    documents: async (material) => {
      const charts = await offeringDemo(source, archives ??= chartArchives(payload, options));
      const packed = { payload, charts, digest: packedDigest({ payload, charts }) };
      // The record tells an instance's own start what it applied; a deployment has its inventory.
      const { [RECORD_FILE]: _record, ...files } = payloadFiles(packed, material);
      return Object.values(files);
    },
  };
}
