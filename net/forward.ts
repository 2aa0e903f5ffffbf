/**
 * Port forwards as the user writes them, and free or taken ports of this host.
 * It must not open a forward; gvproxy does.
 *
 * @module
 */
import { describeError, GatewayError, usageError } from "../vm/base/error.ts";
import type { PortForward } from "../vm/instance/instance.ts";

/** The host address of a forward when the user names none. */
export const LOOPBACK = "127.0.0.1";

/**
 * Parses `[ADDRESS:]HOST:GUEST`; an IPv6 address stands in brackets.
 *
 * @throws GatewayError `usage`.
 */
export function parseForward(text: string): PortForward {
  const match = /^(?:(\[[0-9a-fA-F:.]*:[0-9a-fA-F:.]*\]|[^:[\]]+):)?(\d+):(\d+)$/.exec(text);
  if (!match) {
    throw badForward(text, "it is not [ADDRESS:]HOST:GUEST with two port numbers");
  }
  const address = match[1]?.replace(/^\[|\]$/g, "") ?? LOOPBACK;
  if (!isAddress(address)) throw badForward(text, `"${address}" is no IP address`);
  return { address, hostPort: port(text, match[2]!), guestPort: port(text, match[3]!) };
}

function port(text: string, digits: string): number {
  const value = Number(digits);
  if (value >= 1 && value <= 65_535) return value;
  throw badForward(text, `${digits} is not a port: those go from 1 to 65535`);
}

function isAddress(address: string): boolean {
  if (address.includes(":")) return URL.canParse(`http://[${address}]/`);
  const parts = address.split(".");
  return parts.length === 4 &&
    parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255);
}

function badForward(text: string, why: string): GatewayError {
  return usageError(
    `Cannot forward the port "${text}"`,
    why,
    "write it as 30051:30051 or 127.0.0.1:8080:80",
  );
}

/** `address:port`, with brackets around an IPv6 address. */
export function hostPort(address: string, port: number): string {
  return `${urlHost(address)}:${port}`;
}

/** An address as it stands before a port, with brackets around an IPv6 one. */
export function urlHost(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}

/** Where this host itself reaches a listener: at its own address, or by loopback when it listens at all of them. */
export function reachableAddress(address: string): string {
  if (!address.includes(":")) return address === "0.0.0.0" ? LOOPBACK : address;
  return /^[0:]*$/.test(address) ? "::1" : address;
}

/** Where this host reaches what a forward leads to. */
export function reachedAt(
  { address, hostPort }: Pick<PortForward, "address" | "hostPort">,
): { readonly host: string; readonly port: number } {
  return { host: reachableAddress(address), port: hostPort };
}

/** A loopback port nobody listens on at this moment. */
export function freeLoopbackPort(): number {
  using listener = Deno.listen({ hostname: LOOPBACK, port: 0 });
  return (listener.addr as Deno.NetAddr).port;
}

/** Refuses two forwards from one port. Pure. @throws GatewayError `usage`. */
export function checkDistinct(forwards: readonly PortForward[]): void {
  const seen = new Set<string>();
  for (const forward of forwards) {
    const local = hostPort(forward.address, forward.hostPort);
    if (seen.has(local)) {
      throw usageError(
        `Cannot forward "${local}" twice`,
        "two forwards start at the same port of this host",
        "give each --port its own host port",
      );
    }
    seen.add(local);
  }
}

/**
 * Makes sure that nobody holds the forwards' host ports before anything is started for them.
 *
 * @throws GatewayError `port-in-use` that names the holder where this host shows it; `port-forward-failed`.
 */
export async function checkPortsFree(forwards: readonly PortForward[]): Promise<void> {
  // All stay open until the last one is checked, so that two forwards that exclude each other are seen.
  using held = new DisposableStack();
  for (const forward of forwards) {
    try {
      held.use(Deno.listen({ hostname: forward.address, port: forward.hostPort }));
    } catch (error) {
      throw await portError(forward, error);
    }
  }
}

async function portError(forward: PortForward, error: unknown): Promise<GatewayError> {
  const { address, hostPort: number, guestPort } = forward;
  const local = hostPort(address, number);
  if (error instanceof Deno.errors.AddrInUse) {
    const holder = await portHolder(number, address);
    const other = `${number === 65_535 ? number - 1 : number + 1}:${guestPort}`;
    return new GatewayError({
      code: "port-in-use",
      what: `Cannot listen on "${local}"`,
      why: describeHolder(holder),
      fix: `stop that process, or choose another port: --port ${other}`,
      cause: error,
    });
  }
  return new GatewayError({
    code: "port-forward-failed",
    what: `Cannot listen on "${local}"`,
    why: describeError(error),
    fix: "use an address of this host and a port you may open",
    cause: error,
  });
}

/** A process that listens on a port. */
export interface PortHolder {
  /** Its process. */
  readonly pid: number;
  /** Its name, as the kernel has it: at most 15 characters. */
  readonly program: string;
}

/** The holder as a sentence without its full stop. */
export function describeHolder(holder: PortHolder | undefined): string {
  if (!holder) return "another process holds it";
  if (holder.pid === Deno.pid) return "another forward of the same command holds it";
  return `"${holder.program}" (process ${holder.pid}) holds it`;
}

/**
 * Who listens on a TCP port, at the address or at all addresses, as far as /proc shows it to us; undefined where it does not.
 */
export async function portHolder(
  number: number,
  address: string = LOOPBACK,
): Promise<PortHolder | undefined> {
  const inodes = new Set<string>();
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    const text = await Deno.readTextFile(table).catch(() => "");
    for (const inode of listeningInodes(text, number, address)) inodes.add(`socket:[${inode}]`);
  }
  return inodes.size === 0 ? undefined : await processWithSocket(inodes);
}

/** The inodes of the sockets in a /proc/net/tcp table that stand in the way of a listener. */
export function listeningInodes(table: string, number: number, address: string): string[] {
  const wanted = hexAddress(address);
  const found: string[] = [];
  for (const line of table.split("\n").slice(1)) {
    const fields = line.trim().split(/\s+/);
    // Field 1 is the local address as hex ADDRESS:PORT, state 0A is LISTEN, field 9 the inode.
    const [, local = "", , state] = fields;
    const inode = fields[9];
    if (state !== "0A" || inode === undefined) continue;
    const [theirs = "", port = ""] = local.split(":");
    if (parseInt(port, 16) !== number) continue;
    const anywhere = /^0+$/.test(theirs) || wanted === undefined || /^0+$/.test(wanted);
    if (anywhere || theirs.endsWith(wanted)) found.push(inode);
  }
  return found;
}

/** An IPv4 address as the kernel prints it on a little-endian machine; undefined for IPv6, which is not compared. */
function hexAddress(address: string): string | undefined {
  if (address.includes(":")) return undefined;
  return address.split(".").reverse()
    .map((part) => Number(part).toString(16).padStart(2, "0").toUpperCase()).join("");
}

async function processWithSocket(inodes: ReadonlySet<string>): Promise<PortHolder | undefined> {
  for await (const entry of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(entry.name)) continue;
    try {
      for await (const fd of Deno.readDir(`/proc/${entry.name}/fd`)) {
        const target = await Deno.readLink(`/proc/${entry.name}/fd/${fd.name}`).catch(() => "");
        if (!inodes.has(target)) continue;
        const program = (await Deno.readTextFile(`/proc/${entry.name}/comm`)).trim();
        return { pid: Number(entry.name), program };
      }
    } catch {
      // Gone meanwhile, or another user's process.
    }
  }
  return undefined;
}
