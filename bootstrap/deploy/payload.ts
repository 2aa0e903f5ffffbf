/**
 * What is deployed: the YAML of a payload, filled with a deployment's certificates.
 * It must not know how it is applied.
 *
 * @module
 */
import { usageError } from "../../vm/error.ts";
import { payloadManifests, SERVICE_NODE_PORT } from "../manifests.ts";
import { type ClusterCertificates, NAMESPACE } from "../secrets.ts";

/** A payload as a deployment needs it. */
export interface DeployPayload {
  /** A DNS label; the inventory is called by it. */
  readonly name: string;
  /** Where its objects go that name no namespace, and where the inventory is. */
  readonly namespace: string;
  /** Where its service answers on each node, unless it has a load balancer. */
  readonly nodePort: number;
  /** Its objects as YAML, any number in one text. Secret: private keys are among them. */
  readonly documents: (certificates: ClusterCertificates) => Promise<readonly string[]>;
}

/** The payload of a name. @throws GatewayError `usage` for one that is not known. */
export function deployPayload(text: string): Promise<DeployPayload> {
  if (text !== "demo") {
    throw usageError(
      `Cannot deploy the payload "${text}"`,
      "the only payload is demo",
      "pass --payload demo, or leave it out",
    );
  }
  return Promise.resolve({
    name: text,
    namespace: NAMESPACE,
    nodePort: SERVICE_NODE_PORT,
    documents: (certificates) => Promise.resolve(Object.values(payloadManifests({ certificates }))),
  });
}
