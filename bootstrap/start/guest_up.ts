/**
 * What is asked of a guest that runs: its clock, its identity where it goes on from a saved state, its open ports.
 *
 * @module
 */
import { hostPort } from "../../net/forward.ts";
import { GUEST_ADDRESS, GUEST_API_PORT } from "../../net/guest.ts";
import type { GvproxyClient } from "../../net/gvproxy.ts";
import { GUEST_SSH_PORT, writeSshConfig } from "../../net/ssh.ts";
import { describeError, GatewayError } from "../../vm/base/error.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import type { InstanceConfig } from "../../vm/instance/instance.ts";
import type { SavedState } from "../../vm/instance/saved_state.ts";
import type { ControlPort } from "../../vm/machine/control_port.ts";
import { isOld } from "../cluster/slot_certificates.ts";
import type { PreparedPayload } from "../payload/prepare.ts";
import { clockRequest } from "../run/clock.ts";
import { type GuestControl, reseed } from "../run/frozen_programs.ts";
const GUEST_UP_TIMEOUT_MS = 120_000;

/**
 * Waits for the guest's network and sets its clock. A guest that goes on has its network already and its clock stood
 * still; it also gets fresh random bytes, since the pool may have been copied with the memory, before its programs run,
 * loses the connections whose other end is gone, and becomes this instance if it was another. `prepared` is the payload that it is to run.
 */
export async function guestUp(
  control: Pick<ControlPort, "request" | "waitForMark">,
  slot: SavedState | undefined,
  guarded: AbortSignal,
  prepared?: Pick<PreparedPayload, "digest" | "payload">,
): Promise<void> {
  if (!slot) await control.waitForMark("network", GUEST_UP_TIMEOUT_MS, guarded);
  await control.request(clockRequest(Date.now()), 10_000, guarded);
  if (!slot) return;
  // Programs that were frozen for the save run from here on, by the right clock.
  await reseed(control, guarded);
  // It takes what is its own, or was changed, from its own payload.
  if (slot.from || slot.payload !== prepared?.digest) {
    await control.request("payload", 40_000, guarded);
  }
  // Before anything starts again and before anybody is let in: until then its tokens are the other's, too.
  if (slot.from && !slot.from.self && prepared?.payload.login) {
    await replaceTokenKey(control, guarded);
  }
  const words = [...(slot.from ? ["adopt"] : []), ...(isOld(slot) ? ["renew"] : [])];
  await control.request(["thaw", ...words].join(" "), 40_000, guarded);
}

/** Lets the cluster sign with this instance's own key. @throws GatewayError `not-supported`, or the signal's reason. */
async function replaceTokenKey(control: GuestControl, guarded: AbortSignal): Promise<void> {
  try {
    await control.request("token-key", 40_000, guarded);
  } catch (error) {
    if (guarded.aborted) throw error;
    throw new GatewayError({
      code: "not-supported",
      what: "Cannot give the clone a login of its own",
      why: describeError(error),
      fix: "start it with `gateway up --cold`, and leave --cluster-binary out to fork instances",
    });
  }
}

/** Opens the user's forwards, and one loopback port each for ssh and the cluster's API. */
export async function exposePorts(
  gvproxy: GvproxyClient,
  paths: InstancePaths,
  config: InstanceConfig,
  before: Pick<SavedState, "sshPort" | "apiPort"> | undefined,
): Promise<{ readonly sshPort: number; readonly apiPort: number | null }> {
  const guest = (port: number) => `${GUEST_ADDRESS}:${port}`;
  for (const forward of config.ports) {
    await gvproxy.expose(hostPort(forward.address, forward.hostPort), guest(forward.guestPort));
  }
  // The ports of before the suspend, if nobody took them: then kubeconfig and ssh config stay as they are.
  const exposeFree = async (guestPort: number, wanted: number | null | undefined) => {
    const again = wanted
      ? await gvproxy.exposeLoopback(guest(guestPort), wanted).catch(() => undefined)
      : undefined;
    return again ?? await gvproxy.exposeLoopback(guest(guestPort));
  };
  const sshPort = await exposeFree(GUEST_SSH_PORT, before?.sshPort);
  const apiPort = config.kubeApi ? await exposeFree(GUEST_API_PORT, before?.apiPort) : null;
  const { sshDir, name } = paths;
  await writeSshConfig({ sshDir, name, port: sshPort });
  return { sshPort, apiPort };
}
