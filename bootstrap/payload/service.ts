/**
 * Where a payload's service is reached from this host.
 *
 * @module
 */
import { hostPort, reachedAt } from "../../net/forward.ts";
import { usageError } from "../../vm/base/error.ts";
import type { InstanceConfig, PortForward } from "../../vm/instance/instance.ts";
import type { Payload, PayloadService } from "./payload.ts";

/**
 * The forward that leads to a payload's service.
 *
 * @throws GatewayError `usage` when no forward leads there.
 */
export function serviceForward(
  config: InstanceConfig,
  { service }: Pick<Payload, "service">,
): PortForward {
  const forward = config.ports.find((port) => port.guestPort === service.nodePort);
  if (forward) return forward;
  throw usageError(
    "Cannot tell when the service is ready",
    `no --port leads to the guest's port ${service.nodePort}`,
    `add --port ${service.nodePort}:${service.nodePort}`,
  );
}

/** The URL of a service behind a forward, as this host reaches it. */
export function endpointUrl(
  { protocol }: Pick<PayloadService, "protocol">,
  forward: PortForward,
): string {
  const scheme = usesTls(protocol) ? "https" : protocol;
  const { host, port } = reachedAt(forward);
  return `${scheme}://${hostPort(host, port)}`;
}

/** Whether a service shows a certificate, and is shown one. */
export function usesTls(protocol: PayloadService["protocol"]): boolean {
  return protocol === "https" || protocol === "grpcs";
}
