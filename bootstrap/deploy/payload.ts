/**
 * What is deployed: the objects of a payload as YAML, filled with a deployment's certificates.
 * It must not know how they are applied.
 *
 * @module
 */
import { GatewayError } from "../../vm/error.ts";
import { type ChartArchives, payloadFiles, RECORD_FILE } from "../manifests.ts";
import { packedChart } from "../payload_files.ts";
import { loadPayload, payloadSource } from "../payloads.ts";
import type { Payload } from "../payload_spec.ts";
import { type SecretMaterial, wantsJwt } from "../secrets.ts";

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
  /** Its objects as YAML, any number in one text. Secret: private keys are among them. */
  readonly documents: (material: SecretMaterial) => Promise<readonly string[]>;
}

/**
 * The payload of a built-in name or a folder.
 *
 * @throws GatewayError `usage`, `payload-invalid`, `not-supported` for a chart of a registry.
 */
export async function deployPayload(text: string): Promise<DeployPayload> {
  const payload = await loadPayload(payloadSource(text));
  const charts = await packCharts(payload);
  return {
    name: payload.name,
    namespace: payload.namespace,
    nodePort: payload.service.nodePort,
    wantsJwt: wantsJwt(payload),
    documents: (material) => {
      // The record tells an instance's own start what it applied; a deployment has its inventory.
      const { [RECORD_FILE]: _record, ...files } = payloadFiles(payload, material, charts);
      return Promise.resolve(Object.values(files));
    },
  };
}

async function packCharts({ name, charts }: Payload): Promise<ChartArchives> {
  const distant = charts.find(({ from }) => from.kind === "oci");
  if (distant) {
    throw new GatewayError({
      code: "not-supported",
      what: `Cannot deploy the payload "${name}"`,
      why: `its chart "${distant.name}" comes from a registry, and deploy pulls none`,
      fix: "pull it with helm, and name the .tgz as archive in payload.yaml",
    });
  }
  return await Promise.all(charts.map(packedChart));
}
