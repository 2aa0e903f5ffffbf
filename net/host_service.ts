/**
 * Host services: TCP ports of this host's loopback that a guest may reach, as the user writes them, and where the guest
 * finds them.
 *
 * @module
 */
import { usageError } from "../vm/base/error.ts";
import type { HostService } from "../vm/instance/instance.ts";

/** The address of the host services in the guest's network. Nothing else of the host is there. */
export const HOST_SERVICE_ADDRESS = "192.168.127.253";

/**
 * Parses `HOSTPORT[:GUESTPORT]`; the guest's port is the host's by default. Ports below 1024 need no rights on either
 * side, since nothing listens on this host.
 *
 * @throws GatewayError `usage`.
 */
export function parseHostService(text: string): HostService {
  const match = /^(\d+)(?::(\d+))?$/.exec(text);
  if (!match) throw badService(text, "it is not HOSTPORT[:GUESTPORT] with port numbers");
  const hostPort = port(text, match[1]!);
  return { hostPort, guestPort: match[2] === undefined ? hostPort : port(text, match[2]) };
}

function port(text: string, digits: string): number {
  const value = Number(digits);
  if (value >= 1 && value <= 65_535) return value;
  throw badService(text, `${digits} is not a port: those go from 1 to 65535`);
}

function badService(text: string, why: string): Error {
  return usageError(
    `Cannot open the host service "${text}"`,
    why,
    "write it as 11434, or as 11434:80 for another port in the guest",
  );
}

/** As the user writes it: `11434`, or `11434:80` where the two ports differ. */
export function hostServiceText({ hostPort, guestPort }: HostService): string {
  return hostPort === guestPort ? String(hostPort) : `${hostPort}:${guestPort}`;
}

/** Refuses two services on one port of the guest; the same service twice is one. @throws GatewayError `usage`. */
export function distinctHostServices(services: readonly HostService[]): HostService[] {
  const byPort = new Map<number, HostService>();
  for (const service of services) {
    const other = byPort.get(service.guestPort);
    if (other && other.hostPort !== service.hostPort) {
      throw usageError(
        `Cannot open the host services "${hostServiceText(other)}" and "${
          hostServiceText(service)
        }"`,
        `both are port ${service.guestPort} in the guest`,
        `give one of them another port: --host-service ${service.hostPort}:GUESTPORT`,
      );
    }
    byPort.set(service.guestPort, service);
  }
  return [...byPort.values()].sort((a, b) => a.guestPort - b.guestPort);
}

/** Those on whose port of this host's loopback nobody listens at this moment. */
export async function silentHostServices(
  services: readonly HostService[],
): Promise<HostService[]> {
  const listens = async (hostname: string, { hostPort }: HostService) => {
    try {
      (await Deno.connect({ hostname, port: hostPort })).close();
      return true;
    } catch {
      return false;
    }
  };
  const silent: HostService[] = [];
  for (const service of services) {
    if (await listens("127.0.0.1", service) || await listens("::1", service)) continue;
    silent.push(service);
  }
  return silent;
}

/** What a service that nobody serves means to the guest. */
export function silentWords({ hostPort }: HostService): string {
  return `nobody listens on port ${hostPort} of this host's loopback; the guest is refused until a program does`;
}
