/**
 * What a cluster does after READY when it is started again: pods that are not reached from outside, and manifests, come
 * after those that are.
 *
 * @module
 */
import { waitFor } from "../../vm/base/wait.ts";
import type { Client } from "./client.ts";

const TIMEOUT_MS = 120_000;

/** kubenode's log of this start, from the API server on, once a manifest is deployed of which an object was missing. */
export async function deployLog(client: Client, manifest: string): Promise<string> {
  return await waitFor({
    what: `${manifest} to be deployed`,
    probe: async () => {
      const log = await client.sh("cat /var/log/k3s.log");
      const last = log.slice(log.lastIndexOf("API server is ready"));
      return last.includes(`deployed ${manifest}`) ? last : undefined;
    },
    timeoutMs: TIMEOUT_MS,
  });
}

/** How often each pod's containers were started once all of them have been started again. */
export async function restartsAfter(
  client: Client,
  before: Readonly<Record<string, number>>,
): Promise<Record<string, number>> {
  return await waitFor({
    what: "pods that were started again",
    probe: async () => {
      const now = await client.settledRestarts();
      return Object.entries(before).every(([pod, count]) => now[pod] !== count) ? now : undefined;
    },
    timeoutMs: TIMEOUT_MS,
    probeTimeoutMs: TIMEOUT_MS,
  });
}
