/**
 * The certificates of a running cluster when its guest's clock jumps.
 *
 * @module
 */
import { waitFor } from "../../vm/base/wait.ts";
import type { Client } from "./client.ts";

const MADE = "stat -c %Y /var/lib/rancher/k3s/server/tls/client-admin.crt";

/** Sets the guest's clock to where certificates that were just made end soon, and waits until the cluster has made others. */
export async function renewedByItself(client: Client): Promise<void> {
  const before = await client.sh(MADE);
  await client.sh("date -s @$(($(date +%s) + 320 * 86400))");
  await waitFor({
    what: "certificates that the cluster renewed by itself",
    probe: async () => (await client.sh(MADE)) !== before || undefined,
    timeoutMs: 120_000,
  });
  await client.sh("until kubectl wait --for=condition=Ready node --all; do sleep 1; done");
}
