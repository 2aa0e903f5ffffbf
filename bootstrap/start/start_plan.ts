/**
 * The first station of a start: everything that is decided before anything is made.
 *
 * @module
 */
import type { Span } from "../../vm/base/event.ts";
import type { PortForward } from "../../vm/instance/instance.ts";
import { type GuestNetworkFiles, guestNetworkFor } from "../images/guest_network.ts";
import { loadPayload } from "../payload/choose.ts";
import type { Payload } from "../payload/payload.ts";
import { serviceForward } from "../payload/service.ts";
import type { UpOptions } from "../plan/options.ts";

/** What a start does, resolved once. */
export interface StartPlan {
  readonly options: UpOptions;
  /** What the cluster is to run. */
  readonly payload: Payload;
  /** The forward that leads to the payload's service. */
  readonly forward: PortForward;
  /** How the cluster's pulls reach registries from this host. */
  readonly network: GuestNetworkFiles;
}

/**
 * Reads the payload and this host's network settings.
 *
 * @throws GatewayError `payload-invalid` or `usage` for what is wrong with them.
 */
export async function makeStartPlan(options: UpOptions, span: Span): Promise<StartPlan> {
  const { config } = options;
  const payload = await loadPayload(config.payload);
  const forward = serviceForward(config, payload);
  const network = await guestNetworkFor(config, span);
  if (options.payloadWhy) span.log(options.payloadWhy);
  return { options, payload, forward, network };
}
