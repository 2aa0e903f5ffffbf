/**
 * The files of Secrets in the volumes of running pods. kubelet looks at them once a minute, or when a pod is touched, and
 * right after a memory went on it takes many seconds to; so a service that reloads its certificates gets them at once.
 * It must not be the only way that they get there: the cluster has the Secrets first, and kubelet writes the same.
 *
 * @module
 */
import type { V1Secret } from "@kubernetes/client-node";
import { runSsh } from "../../net/guest_command.ts";
import { sshArgs } from "../../net/ssh.ts";
import { PLACE_SECRETS } from "../../rootfs/contract.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import type { Pod } from "./pods.ts";

const TIMEOUT_MS = 60_000;
/** What the program takes apart at spaces, and uses as parts of a path. */
const PLAIN = /^(?!\.{1,2}$)[\w.-]+$/;

/** What the program reads: one line for each file of these Secrets that these pods of their namespace have. Secret. Pure. */
export function placementLines(pods: readonly Pod[], secrets: readonly V1Secret[]): string {
  const lines = pods.flatMap(({ metadata, spec }) =>
    (spec.volumes ?? []).flatMap(({ name: volume = "", secret }) => {
      const found = secrets.find((one) =>
        one.metadata?.name === secret?.secretName && one.metadata?.namespace === metadata.namespace
      );
      const data = found?.data ?? {};
      // Without a list each key is a file of its own name.
      const items = secret?.items ?? Object.keys(data).map((key) => ({ key, path: key }));
      return items.filter(({ key }) => data[key] !== undefined)
        .map(({ key, path }) => [metadata.uid, volume, path, data[key]!])
        .filter((words) => words.slice(0, 3).every((word) => PLAIN.test(word)));
    })
  );
  return lines.map((words) => `${words.join(" ")}\n`).join("");
}

/**
 * Writes the files. The connection is made at once, and what is written may come later.
 *
 * @throws GatewayError `process-failed` from a guest without the program, what `lines` rejects with, or the signal's
 * reason.
 */
export async function placeSecrets(
  paths: InstancePaths,
  lines: Promise<string>,
  signal: AbortSignal,
): Promise<void> {
  const text = async function* () {
    yield new TextEncoder().encode(await lines);
  };
  await runSsh({
    args: sshArgs(`${paths.sshDir}/config`, paths.name, [PLACE_SECRETS]),
    stdin: ReadableStream.from(text()),
    signal,
    timeoutMs: TIMEOUT_MS,
  });
  // A stream that fails ends the program's input, too.
  await lines;
}
