/**
 * The API of an instance's own cluster during a start: its credentials, a client of it, and the user's kubeconfig.
 * A boot never depends on the kubeconfig. It must not know a payload.
 *
 * @module
 */
import { join } from "@std/path";
import { hostPort, LOOPBACK } from "../../net/forward.ts";
import { GUEST_ADDRESS, GUEST_API_PORT } from "../../net/guest.ts";
import { runSsh } from "../../net/guest_command.ts";
import type { GvproxyClient } from "../../net/gvproxy.ts";
import { sshArgs } from "../../net/ssh.ts";
import { KUBECONFIG } from "../../rootfs/contract.ts";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { describeError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { exists, type InstancePaths } from "../../vm/base/layout.ts";
import { type Background, startBeside } from "../../vm/base/together.ts";
import { waitFor } from "../../vm/base/wait.ts";
import type { InstanceConfig } from "../../vm/instance/instance.ts";
import type { SavedState } from "../../vm/instance/saved_state.ts";
import { ClusterApi } from "./api.ts";
import { localTransport } from "./local_transport.ts";
import { kubeconfigPath, readCredentials, writeKubeconfig } from "./kubeconfig.ts";
import { waitApiReady } from "./readiness.ts";
import { isOld } from "./slot_certificates.ts";

/** The bound of what does not depend on the payload: a cold cluster under emulation on a busy machine takes minutes. */
const API_TIMEOUT_MS = 12 * 60_000;

/**
 * Fetches the kubeconfig and waits for the API beside the wait for the service. The boot never depends on it: what
 * goes wrong becomes a warning.
 */
export function startKubeApi(
  parent: Span,
  config: InstanceConfig,
  access: ApiAccess,
  guarded: AbortSignal,
): Background {
  return startBeside(guarded, (signal) => bringKubeApi(parent, config, access, signal));
}

async function bringKubeApi(
  parent: Span,
  config: InstanceConfig,
  access: ApiAccess,
  guarded: AbortSignal,
): Promise<void> {
  const { paths, slot: before, ports: { apiPort } } = access;
  if (apiPort === null) return;
  // The kubeconfig of before the suspend is still right.
  const same = before?.apiPort === apiPort && !before.from && !isOld(before);
  if (same && await exists(kubeconfigPath(config.name))) return;
  try {
    await parent.run("kubernetes api", async (span) => {
      const k3sYaml = await keptKubeconfig(before) ??
        await readGuestKubeconfig(paths, guarded);
      await writeFileAtomic(join(paths.dir, "k3s.yaml"), k3sYaml);
      const credentials = readCredentials(k3sYaml);
      const timeoutMs = API_TIMEOUT_MS;
      await waitApiReady({ port: apiPort, credentials, span, signal: guarded, timeoutMs });
      const owner = { instance: config.name, instanceDir: paths.dir };
      const written = await writeKubeconfig({ k3sYaml, apiPort, owner });
      span.log(`kubeconfig ${written.path}`);
    });
  } catch (error) {
    if (!guarded.aborted) parent.warn(`no kubeconfig: ${describeError(error)}`);
  }
}

/** The kubeconfig that was saved with another's state: its cluster's authority and client are still the same. */
async function keptKubeconfig(before: SavedState | undefined): Promise<string | undefined> {
  if (!before || isOld(before)) return undefined;
  const { from } = before;
  return from?.k3sYaml ? await Deno.readTextFile(from.k3sYaml).catch(() => undefined) : undefined;
}

/** Waits for the cluster's own kubeconfig and reads it. @throws GatewayError `guest-unreachable`, or the signal's reason. */
export async function readGuestKubeconfig(
  paths: InstancePaths,
  signal: AbortSignal,
): Promise<string> {
  const args = sshArgs(`${paths.sshDir}/config`, paths.name, ["cat", KUBECONFIG]);
  return await waitFor({
    what: "the cluster's kubeconfig in the guest",
    probe: async (inner) => {
      const { code, stdout } = await runSsh({ args, signal: inner, check: false });
      return code === 0 && stdout !== "" ? stdout : undefined;
    },
    timeoutMs: API_TIMEOUT_MS,
    intervalMs: 1000,
    probeTimeoutMs: 40_000,
    signal,
    code: "guest-unreachable",
  });
}

/** What leads to the API of a guest with open ports. */
export interface ApiAccess {
  readonly paths: InstancePaths;
  readonly slot: SavedState | undefined;
  /** Null where the user wants no port to the API; then one is opened for the time of the call. */
  readonly ports: { readonly apiPort: number | null };
  readonly gvproxy: GvproxyClient;
}

/** Lends a client of the API. @throws GatewayError `guest-unreachable`, what the callee throws, or the signal's reason. */
export async function withApi<T>(
  access: ApiAccess,
  signal: AbortSignal,
  use: (api: ClusterApi) => Promise<T>,
): Promise<T> {
  const { paths, gvproxy, slot, ports } = access;
  const k3sYaml = await keptKubeconfig(slot) ?? await readGuestKubeconfig(paths, signal);
  await using opened = await openApiPort(ports.apiPort, gvproxy);
  using api = new ClusterApi(localTransport(opened.port, readCredentials(k3sYaml)));
  return await use(api);
}

/** The loopback port that leads to the API: the run's own, or where it has none one that is closed by disposing. */
export async function openApiPort(
  own: number | null,
  gvproxy: GvproxyClient,
): Promise<AsyncDisposable & { readonly port: number }> {
  const port = own ?? await gvproxy.exposeLoopback(`${GUEST_ADDRESS}:${GUEST_API_PORT}`);
  return {
    port,
    async [Symbol.asyncDispose]() {
      if (own === null) await gvproxy.unexpose(hostPort(LOOPBACK, port)).catch(() => {});
    },
  };
}
