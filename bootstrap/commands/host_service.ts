/**
 * The command `host-service`: ports of this host's loopback that an instance may reach.
 *
 * @module
 */
import {
  HOST_SERVICE_ADDRESS,
  parseHostService,
  silentHostServices,
  silentWords,
} from "../../net/host_service.ts";
import { type HostService, LockedInstance, requireInstance } from "../../vm/instance/instance.ts";
import { changedHostServices, type HostServiceChange } from "../run/host_service.ts";
import type { CommandIo } from "./io.ts";
import { type CliKit, group, named, type Parent, withJson } from "./kit.ts";

const SPEC = "<host[:guest]>";

/** `host-service list`, `add`, `remove`. */
export function addHostServices(root: Parent, kit: CliKit): void {
  const parent = group(
    root,
    "host-service",
    "open ports of this host's loopback to an instance, and to nobody else",
    "gateway host-service add --name dev 11434",
  );
  const list = "gateway host-service list";
  withJson(named(parent, "list [instance]", "list the open host services", list)).alias("ls")
    .action((_, flags) =>
      kit.finish((signal) => runHostService(kit.io(flags, signal), "list", undefined))
    );
  for (const [verb, description] of VERBS) {
    const example = `gateway host-service ${verb} 11434`;
    const one = withJson(named(parent, `${verb} ${SPEC}`, description, example))
      .action((spec, flags) =>
        kit.finish((signal) => runHostService(kit.io(flags, signal), verb, spec))
      );
    if (verb === "remove") one.alias("rm");
  }
}

const VERBS = [
  ["add", "open a port of this host's loopback to the guest"],
  ["remove", "close a host service and the connections to it"],
] as const;

async function runHostService(
  io: CommandIo<{ readonly name: string; readonly json?: true }>,
  verb: "list" | HostServiceChange["verb"],
  spec: string | undefined,
): Promise<number> {
  const { name } = io.flags;
  const service = spec === undefined ? undefined : parseHostService(spec);
  if (verb !== "list") await changeHostServices(name, { verb, service: service! }, io.signal);
  const services = await hostServicesOf(name);
  if (io.flags.json) io.json(services);
  else if (services.length > 0) io.out(services.map(line).join("\n"));
  if (verb === "add") {
    for (const one of await silentHostServices([service!])) io.err(`Note: ${silentWords(one)}.`);
  }
  return 0;
}

const line = ({ hostPort, guestPort }: HostService) =>
  `${HOST_SERVICE_ADDRESS}:${guestPort} -> 127.0.0.1:${hostPort}`;

/** What of this host an instance may reach, by port of the guest. @throws GatewayError `instance-unknown`. */
export async function hostServicesOf(name: string): Promise<readonly HostService[]> {
  return (await requireInstance(name)).config.hostServices ?? [];
}

/**
 * Opens or closes a host service; the instance remembers it. A running one takes it at once, one that does not run with
 * its next start.
 *
 * @throws GatewayError `instance-unknown`, `instance-locked` while it starts or stops, `port-in-use`, `usage`.
 */
export async function changeHostServices(
  name: string,
  change: HostServiceChange,
  signal: AbortSignal,
): Promise<void> {
  const { paths, state, config } = await requireInstance(name);
  // What is wrong by itself is told also by an instance that is just starting.
  changedHostServices(config.hostServices ?? [], change);
  if (state === "running") {
    const { askSupervisor } = await import("../run/requests.ts");
    await askSupervisor(paths, { do: "host-service", ...change }, signal);
    return;
  }
  await using locked = await LockedInstance.open(name, signal);
  const now = (await locked.config()) ?? config;
  const hostServices = changedHostServices(now.hostServices ?? [], change);
  await locked.saveConfig({ ...now, hostServices });
}
