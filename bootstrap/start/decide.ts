/**
 * What a start is asked for, resolved to what it does: with what the instance remembers, and the payload that runs.
 *
 * @module
 */
import { join } from "@std/path";
import { EventLog } from "../../vm/base/event.ts";
import { exists, xdgConfigHome } from "../../vm/base/layout.ts";
import { findInstance, type InstanceConfig } from "../../vm/instance/instance.ts";
import {
  defaultPayload,
  ensurePayload,
  loadPayload,
  needsPinning,
  payloadSource,
} from "../payload/choose.ts";
import type { Payload } from "../payload/payload.ts";
import { hostFacts, resolveOptions, type UpOptions, type UpRequest } from "../plan/options.ts";

/**
 * Resolves a request for a start with a cluster. Bad input fails before a registry is contacted. `log` gets what has to be
 * pulled to know the payload.
 *
 * @throws GatewayError `usage` for bad input, and of the payload that cannot be had.
 */
export async function decideOptions(
  asked: UpRequest,
  log: EventLog,
  signal: AbortSignal,
): Promise<UpOptions> {
  const stored = (await findInstance(asked.name))?.config;
  const { config } = resolveOptions(asked, hostFacts(), stored);
  const { source, why, payload } = await choosePayload(asked, stored, config, log, signal);
  const options = resolveOptions({ ...asked, payload: source }, hostFacts(), stored, payload);
  await checkNetwork(options.config);
  return { ...options, payloadWhy: why };
}

/** The payload that a start runs, read, so that a fault in it is reported before anything is done. */
async function choosePayload(
  asked: UpRequest,
  stored: InstanceConfig | undefined,
  config: InstanceConfig,
  log: EventLog,
  signal: AbortSignal,
): Promise<{ readonly source: string; readonly why?: string; readonly payload: Payload }> {
  const known = asked.payload ?? stored?.payload;
  const source = known === undefined ? undefined : payloadSource(known);
  if (source !== undefined && !await needsPinning(source)) {
    return { source, payload: await loadPayload(source) };
  }
  const how = { span: log.span("payload"), signal, assumeYes: asked.assumeYes, config };
  const found = source === undefined ? await defaultPayload(how) : { source };
  return { ...found, payload: await ensurePayload(found.source, how) };
}

/** What the cluster takes of this host's network: bad input has to fail before anything is made. */
async function checkNetwork(config: InstanceConfig): Promise<void> {
  const path = join(xdgConfigHome(), "gateway", "registries.yaml");
  if (!config.network && !await exists(path)) return;
  const { guestNetworkFor } = await import("../images/guest_network.ts");
  await guestNetworkFor(config, new EventLog().span("check"));
}
