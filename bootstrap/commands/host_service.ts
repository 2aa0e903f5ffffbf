/**
 * The command `host-service` and the option of `up` and `fork`: ports of this host's loopback that an instance may reach.
 *
 * @module
 */
import type { Command } from "commander";
import {
  HOST_SERVICE_ADDRESS,
  parseHostService,
  silentHostServices,
  silentWords,
} from "../../net/host_service.ts";
import { type HostService, LockedInstance, requireInstance } from "../../vm/instance/instance.ts";
import { changedHostServices, type HostServiceChange } from "../run/host_service.ts";
import type { CliKit } from "./instances.ts";
import type { CommandIo } from "./io.ts";

const SPEC = "<host[:guest]>";

/** `host-service list`, `add`, `remove`; `up` and `fork` have to be there already. */
export function addHostServices(root: Command, kit: CliKit): void {
  const optionOf = (name: string, words: string) =>
    root.commands.find((one) => one.name() === name)!
      .option(`--host-service ${SPEC}`, words, collect, []);
  optionOf("up", "open a port of this host's loopback to the guest; repeatable, remembered")
    .option("--no-host-service", "close the ones that are remembered");
  optionOf("fork", "open a port of this host's loopback to the clones; repeatable");
  const parent = root.command("host-service")
    .description("open ports of this host's loopback to an instance, and to nobody else")
    .addHelpText("after", "\nExample:\n  gateway host-service add --name dev 11434\n");
  for (const verb of ["list", "add", "remove"] as const) {
    const usage = verb === "list" ? "list [instance]" : `${verb} ${SPEC}`;
    const example = `gateway host-service ${verb}${verb === "list" ? "" : " 11434"}`;
    const one = kit.withJson(kit.command(parent, usage, DESCRIPTIONS[verb], example))
      .action((word: string | undefined, flags: CommandIo["flags"]) =>
        kit.finish(async (signal) => {
          const spec = verb === "list" ? undefined : word;
          return await runHostService(kit.io(flags, signal), verb, spec);
        })
      );
    if (verb === "list") one.alias("ls");
    if (verb === "remove") one.alias("rm");
  }
}

const DESCRIPTIONS = {
  list: "list the open host services",
  add: "open a port of this host's loopback to the guest",
  remove: "close a host service and the connections to it",
};

/** Commander's collector of a repeatable option; false after --no-host-service. */
function collect(value: string, before: string[] | false): string[] {
  return [...(before || []), value];
}

async function runHostService(
  io: CommandIo,
  verb: "list" | HostServiceChange["verb"],
  spec: string | undefined,
): Promise<number> {
  const name = io.flags.name as string;
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
