/**
 * The port forwards of a running instance: `port list`, `add`, `remove`, and what `status` shows of them.
 *
 * @module
 */
import { hostPort, LOOPBACK, parseForward } from "../../net/forward.ts";
import { GUEST_ADDRESS } from "../../net/guest.ts";
import { gvproxyApiSocket, GvproxyClient, type GvproxyForward } from "../../net/gvproxy.ts";
import { usageError } from "../../vm/base/error.ts";
import { type PortForward, requireRunning, type RunRecord } from "../../vm/instance/instance.ts";

/** Lists, adds or removes forwards of a running instance; they last until it stops. Returns the open ones. */
export async function portCommand(
  name: string,
  verb: "list" | "add" | "remove",
  spec: string | undefined,
  signal: AbortSignal,
): Promise<readonly GvproxyForward[]> {
  const forward = spec === undefined ? undefined : parseForward(spec);
  const { paths, run } = await requireRunning(name);
  using client = new GvproxyClient(gvproxyApiSocket(paths.runtimeDir));
  if (forward) {
    const local = hostPort(forward.address, forward.hostPort);
    if (verb === "add") await client.expose(local, `${GUEST_ADDRESS}:${forward.guestPort}`, signal);
    if (verb === "remove") {
      checkRemoval(spec!, forward, await client.list(signal), run);
      await client.unexpose(local, signal);
    }
  }
  return await client.list(signal);
}

/**
 * Refuses a removal of what is not there, of a forward that leads elsewhere, and of those that gateway itself uses. Pure.
 *
 * @throws GatewayError `usage`.
 */
export function checkRemoval(
  spec: string,
  forward: PortForward,
  open: readonly GvproxyForward[],
  own: Pick<RunRecord, "sshPort" | "apiPort">,
): void {
  const refuse = (why: string) =>
    usageError(`Cannot remove the forward "${spec}"`, why, "run `gateway port list` to see them");
  const local = hostPort(shortest(forward.address), forward.hostPort);
  const found = open.find((one) => one.local === local);
  if (found === undefined) throw refuse(`no forward starts at ${local}`);
  if (found.remote !== `${GUEST_ADDRESS}:${forward.guestPort}`) {
    throw refuse(`the forward from ${local} leads to ${found.remote}`);
  }
  if (local === ownLocal(own.sshPort)) throw refuse("`gateway exec`, `shell` and `cp` use it");
  if (local === ownLocal(own.apiPort)) throw refuse("the instance's kubeconfig uses it");
}

/** Where one of gateway's own forwards starts. */
function ownLocal(port: number | null): string | undefined {
  return port === null ? undefined : hostPort(LOOPBACK, port);
}

/** An IPv6 address as gvproxy lists it. */
function shortest(address: string): string {
  if (!address.includes(":")) return address;
  return new URL(`http://[${address}]/`).hostname.replace(/^\[|\]$/g, "");
}

/** As `status` shows a forward. */
export interface ForwardReport {
  /** address:port. */
  readonly host: string;
  /** Its port in the guest. */
  readonly guestPort: number;
}

const LIST_TIMEOUT_MS = 2000;

/**
 * The forwards that are open in a running instance, without those that gateway itself uses; undefined when gvproxy does
 * not answer.
 */
export async function openForwards(
  runtimeDir: string,
  own: Pick<RunRecord, "sshPort" | "apiPort">,
): Promise<ForwardReport[] | undefined> {
  try {
    using client = new GvproxyClient(gvproxyApiSocket(runtimeDir));
    return forwardReports(await client.list(AbortSignal.timeout(LIST_TIMEOUT_MS)), own);
  } catch {
    return undefined;
  }
}

/** Leaves out what gateway itself uses. Pure. */
export function forwardReports(
  open: readonly GvproxyForward[],
  own: Pick<RunRecord, "sshPort" | "apiPort">,
): ForwardReport[] {
  const hidden = [ownLocal(own.sshPort), ownLocal(own.apiPort)];
  return open.filter(({ local }) => !hidden.includes(local)).map(({ local, remote }) => ({
    host: local,
    guestPort: Number(remote.slice(remote.lastIndexOf(":") + 1)),
  }));
}
