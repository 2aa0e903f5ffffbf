/**
 * What commands and supervisor share about host services: flags, the request that changes them, and words for people.
 *
 * @module
 */
import * as v from "valibot";
import type { GvproxyClient } from "../../net/gvproxy.ts";
import {
  hostServiceText,
  parseHostService,
  silentHostServices,
  silentWords,
} from "../../net/host_service.ts";
import { GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { type HostService, requireInstance, writeConfig } from "../../vm/instance/instance.ts";

/** A change of the services of a running instance, as its supervisor is asked for it. */
export const HostServiceRequest = v.object({
  do: v.literal("host-service"),
  verb: v.picklist(["add", "remove"]),
  service: v.object({ hostPort: v.number(), guestPort: v.number() }),
});

/** One change. */
export interface HostServiceChange {
  /** What is done with it. */
  readonly verb: "add" | "remove";
  /** The whole of it: both ports have to be right, also to remove it. */
  readonly service: HostService;
}

/** `--host-service` and `--no-host-service`; undefined where the user said nothing. */
export function hostServiceFlags(
  { hostService }: { readonly hostService?: readonly string[] | boolean },
): HostService[] | false | undefined {
  if (hostService === false) return false;
  return Array.isArray(hostService) && hostService.length > 0
    ? hostService.map(parseHostService)
    : undefined;
}

/**
 * The services after a change. Adding one that is there changes nothing.
 *
 * @throws GatewayError `port-in-use` when the guest's port leads to another one, `usage` for one to remove that is not there.
 */
export function changedHostServices(
  services: readonly HostService[],
  { verb, service }: HostServiceChange,
): HostService[] {
  const { hostPort, guestPort } = service;
  const others = services.filter((one) => one.guestPort !== guestPort);
  const there = services.find((one) => one.guestPort === guestPort);
  if (verb === "add") {
    if (there && there.hostPort !== hostPort) throw taken(service, there);
    return [...others, service].sort((a, b) => a.guestPort - b.guestPort);
  }
  if (there?.hostPort === hostPort) return others;
  throw new GatewayError({
    code: "usage",
    what: `Cannot remove the host service "${hostServiceText(service)}"`,
    why: services.length === 0
      ? "the instance has none"
      : `the instance has only ${services.map(hostServiceText).join(", ")}`,
    fix: "run `gateway host-service list` and name one of them as it stands there",
  });
}

function taken(service: HostService, there: HostService): GatewayError {
  return new GatewayError({
    code: "port-in-use",
    what: `Cannot add the host service "${hostServiceText(service)}"`,
    why:
      `the guest's port ${service.guestPort} leads to port ${there.hostPort} of this host already`,
    fix: `choose another port of the guest, as in ${service.hostPort}:GUESTPORT, or run ` +
      `\`gateway host-service remove ${hostServiceText(there)}\` first`,
  });
}

/**
 * In the supervisor: changes what the guest can reach, and what the instance remembers. When it cannot be remembered,
 * it is not changed either.
 *
 * @throws GatewayError as {@linkcode changedHostServices}, `port-forward-failed`.
 */
export async function applyHostServices(
  paths: InstancePaths,
  gvproxy: Pick<GvproxyClient, "addHostService" | "removeHostService">,
  change: HostServiceChange,
  signal: AbortSignal,
): Promise<void> {
  const { config } = await requireInstance(paths.name);
  const hostServices = changedHostServices(config.hostServices ?? [], change);
  const { verb, service } = change;
  const apply = (add: boolean) =>
    add ? gvproxy.addHostService(service, signal) : gvproxy.removeHostService(service, signal);
  await apply(verb === "add");
  try {
    await writeConfig(paths, { ...config, hostServices });
  } catch (error) {
    await apply(verb !== "add").catch(() => {});
    throw error;
  }
}

/** Warns of services that nobody serves now; the guest is refused until somebody does. */
export async function tellSilentServices(
  services: readonly HostService[] | undefined,
  span: Pick<Span, "warn">,
): Promise<void> {
  for (const service of await silentHostServices(services ?? [])) span.warn(silentWords(service));
}

/** What `fork` says of services that the clones did not get. */
export function leftBehindWords(
  source: string,
  clone: string,
  services: readonly HostService[],
): string {
  const texts = services.map(hostServiceText);
  return `Host services of "${source}" (${texts.join(", ")}) are closed to its clones. ` +
    `To open one: gateway host-service add --name ${clone} ${texts[0]}`;
}
