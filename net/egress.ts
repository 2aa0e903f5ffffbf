/**
 * What a guest may reach through this host: the user's words for it, and what is said of a refusal.
 * The decisions are gvproxy's (net/gvproxy/internal/egress/egress.go).
 *
 * @module
 */
import * as v from "valibot";
import { usageError } from "../vm/base/error.ts";
import type { AllowedNet, EgressMode } from "../vm/instance/instance.ts";

/** A host that the user's settings name, reached by TCP on one port. */
export interface AllowedHost {
  /** Name or address. */
  readonly host: string;
  /** 1 to 65535. */
  readonly port: number;
}

/** What gvproxy is told; what is absent is the default of an instance. */
export interface Egress {
  readonly mode?: EgressMode;
  readonly nets?: readonly AllowedNet[];
  readonly hosts?: readonly AllowedHost[];
}

/** What nothing opens; a test holds this list to gvproxy's. */
export const NEVER_REACHED: readonly string[] = [
  ...["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "169.254.0.0/16"],
  ...["168.63.129.16/32", "100.100.100.200/32", "100.100.100.100/32", "192.0.0.192/32"],
];
const VIRTUAL_NETWORK = "192.168.127.0/24";

/**
 * Parses `CIDR[:PORT]`; an address alone is a network of one.
 *
 * @throws GatewayError `usage`.
 */
export function parseAllowedNet(text: string): AllowedNet {
  const refuse = (
    why: string,
    fix = "write it as 10.0.0.0/8, or as 10.1.2.3/32:443 for one port",
  ) => usageError(`Cannot allow the network "${text}"`, why, fix);
  const match = /^(\d+\.\d+\.\d+\.\d+)(?:\/(\d{1,2}))?(?::(\d{1,6}))?$/.exec(text);
  if (!match) throw refuse("it is not an IPv4 network CIDR[:PORT]");
  const [, address = "", length = "32", digits] = match;
  const value = numberOf(address);
  const bits = Number(length);
  if (value === undefined || bits > 32) throw refuse(`${address}/${length} is not an IPv4 network`);
  const first = firstOf(value, bits);
  if (first !== value) {
    const net = `${textOf(first)}/${bits}`;
    throw refuse(`${address} is not the first address of a network of that size`, `write ${net}`);
  }
  const port = digits === undefined ? null : Number(digits);
  if (port !== null && (port < 1 || port > 65_535)) {
    throw refuse(`${digits} is not a port: those go from 1 to 65535`);
  }
  const closed = [VIRTUAL_NETWORK, ...NEVER_REACHED].find((never) => isWithin(first, bits, never));
  if (closed !== undefined) {
    throw refuse(
      `${closed} is always closed to guests`,
      "for a port of this host's loopback use --host-service; see docs/network.md",
    );
  }
  return { net: `${textOf(first)}/${bits}`, port };
}

function numberOf(address: string): number | undefined {
  const parts = address.split(".");
  if (parts.some((part) => Number(part) > 255 || String(Number(part)) !== part)) return undefined;
  return parts.reduce((value, part) => value * 256 + Number(part), 0);
}

const textOf = (value: number) => [24, 16, 8, 0].map((by) => (value >>> by) & 255).join(".");

const firstOf = (value: number, bits: number) => value - value % 2 ** (32 - bits);

function isWithin(first: number, bits: number, net: string): boolean {
  const [address = "", length] = net.split("/");
  return bits >= Number(length) && firstOf(first, Number(length)) === numberOf(address);
}

/** As the user writes it. */
export function allowedNetText({ net, port }: AllowedNet): string {
  return port === null ? net : `${net}:${port}`;
}

/** What gvproxy says of the first refusal of a kind. */
export const Refusal = v.object({
  kind: v.picklist(["tcp", "udp", "icmp", "dns"]),
  /** address:port, an address, or a name. The guest's words. */
  target: v.pipe(v.string(), v.maxLength(1100)),
  reason: v.picklist(["never", "private", "host", "none"]),
});

/** The first refusal of a kind. */
export type Refusal = v.InferOutput<typeof Refusal>;

/** One sentence: what was refused, why, and which option opens it. */
export function refusalText({ kind, target, reason }: Refusal): string {
  const what = {
    tcp: `a connection to ${target}`,
    udp: `a datagram to ${target}`,
    icmp: `a ping of ${target}`,
    dns: `a look-up of "${target}"`,
  }[kind];
  const said = `the guest was refused ${what}`;
  if (reason === "never") return `${said}: no option opens that address`;
  const [address, port] = target.split(":");
  const option = kind === "dns"
    ? "--egress internet"
    : `--allow-net ${allowedNetText({ net: `${address}/32`, port: port ? Number(port) : null })}`;
  const why = {
    none: "nothing is open with --egress none",
    private: "it is not a public address",
    host: "it is an address of this host",
  }[reason];
  return `${said}: ${why}; \`gateway up ${option}\` opens it`;
}

/** How often a guest was refused something since its network was started. */
export interface RefusedCounts {
  /** TCP connections. */
  readonly tcp: number;
  /** UDP datagrams. */
  readonly udp: number;
  /** Pings. */
  readonly icmp: number;
  /** Questions to DNS. */
  readonly dns: number;
}
