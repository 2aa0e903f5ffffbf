/**
 * What a start is asked for, resolved to what it does: with what the instance remembers, and the payload that runs.
 *
 * @module
 */
import type { EventLog } from "../../vm/base/event.ts";
import { findInstance, type InstanceConfig } from "../../vm/instance/instance.ts";
import {
  defaultPayload,
  ensurePayload,
  loadPayload,
  needsPinning,
  type PayloadChoice,
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
  return { ...options, payloadWhy: why };
}

/** The payload that a start runs, read, so that a fault in it is reported before anything is done. */
async function choosePayload(
  asked: UpRequest,
  stored: InstanceConfig | undefined,
  config: InstanceConfig,
  log: EventLog,
  signal: AbortSignal,
): Promise<PayloadChoice & { readonly payload: Payload }> {
  const known = asked.payload ?? stored?.payload;
  const chosen: PayloadChoice = known === undefined
    ? await defaultPayload()
    : { source: payloadSource(known), why: undefined };
  if (!await needsPinning(chosen.source)) {
    return { ...chosen, payload: await loadPayload(chosen.source) };
  }
  const how = { span: log.span("payload"), signal, assumeYes: asked.assumeYes, config };
  return { ...chosen, payload: await ensurePayload(chosen.source, how) };
}
