/**
 * The golden state disk: what a first boot leaves on its disk, without anything that is one instance's own. Images are
 * imported and unpacked, the cluster's fixed objects are in its database; keys, certificates, tokens, the node and the
 * machine id are not: each instance's first boot makes its own. Made for any VMM.
 * It must not hold a secret: tests/vm look for them byte by byte.
 *
 * @module
 */
import { join } from "@std/path";
import { kernelFile } from "../../kernel/kernel.ts";
import { AGENT_DIR, CLUSTER_SETTINGS, DATABASE, HOLD, SERVER_DIR } from "../../rootfs/contract.ts";
import { guestArch } from "../../vm/base/arch.ts";
import { describeError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import type { HostTool } from "../../vm/base/host_tools.ts";
import { run } from "../../vm/base/process.ts";
import { shareFile } from "../../vm/instance/disk_chain.ts";
import type { InstanceConfig } from "../../vm/instance/instance.ts";
import { qemuTool } from "../../vm/qemu/driver.ts";
import {
  type Artifact,
  type ArtifactStore,
  type BuildContext,
  type Recipe,
  recipeKey,
} from "../../vm/store/artifact.ts";
import type { BootArtifacts } from "../artifacts/ensure.ts";
import { DEMO } from "../payload/choose.ts";
import type { GoldenDisk } from "./guest_source.ts";
import { cleanKine } from "./kine_clean.ts";
import { PrivateGateway } from "./private_gateway.ts";

const OUTPUT = "state.qcow2";
/** Packs the disk; a start from it does not need this program. */
export const QEMU_IMG_TOOL: HostTool = { program: "qemu-img", debian: "qemu-utils", brew: "qemu" };

/** What decides the key. */
function identity({ kernel, root }: Pick<BootArtifacts, "kernel" | "root">, stateMiB: string) {
  return {
    name: "golden",
    inputs: {
      kernel: kernelFile(kernel).sha256,
      root: root.files["root.erofs"]!.sha256,
      payload: "gateway.local/demo:1",
      stateMiB,
      steps: SEAL.join("\n"),
    },
    outputs: [OUTPUT],
  };
}

/** Its output is a state disk that others lie over. */
export function goldenDiskRecipe(
  artifacts: Pick<BootArtifacts, "kernel" | "root">,
  config: InstanceConfig,
): Recipe {
  return {
    label: "golden state disk",
    ...identity(artifacts, String(config.stateMiB)),
    tools: [qemuTool(guestArch(config)), QEMU_IMG_TOOL],
    // Its pods are gone from the disk in the end, their images are not.
    build: (ctx) => buildDisk(ctx, { ...config, payload: DEMO }),
  };
}

/** Whether an artifact is a golden disk of these boot artifacts, of whatever size. */
export function isGoldenDiskOf(artifact: Artifact, boot: readonly Artifact[]): boolean {
  const [kernel, root] = [/^kernel/, /^root$/].map((name) =>
    boot.find((one) => name.test(one.name))
  );
  const { stateMiB } = artifact.manifest.inputs;
  if (!kernel || !root || stateMiB === undefined) return false;
  return recipeKey(identity({ kernel, root }, stateMiB)) === artifact.key;
}

/** The golden disk for a config if it was built, or comes with this program's file; never builds. */
export async function findGoldenDisk(
  artifacts: Pick<BootArtifacts, "kernel" | "root">,
  config: InstanceConfig,
  store: ArtifactStore,
  options: { readonly span: Span; readonly signal: AbortSignal },
): Promise<GoldenDisk | undefined> {
  // It holds the demo's objects, which another payload's cluster would have to remove first.
  if (config.payload !== DEMO) return undefined;
  const recipe = goldenDiskRecipe(artifacts, config);
  const found = await store.find(recipe, options).catch((error) => {
    if (options.signal.aborted) throw error;
    options.span.warn(`no golden disk: ${describeError(error)}`);
    return undefined;
  });
  return found && asGoldenDisk(found, config.stateMiB);
}

function asGoldenDisk(artifact: Artifact, stateMiB: number): GoldenDisk {
  const { path, sha256 } = artifact.files[OUTPUT]!;
  return {
    stateMiB,
    async linkInto(dir, signal) {
      // The artifact's own file can go with the cache; a link of it stays.
      const name = `disk-${sha256.slice(0, 8)}.qcow2`;
      await shareFile(path, join(dir, name), signal);
      return { name, format: "qcow2" };
    },
  };
}

/**
 * No pod is left: what ran is taken down by kubelet, so that containerd keeps images and nothing else. The deployments
 * come back from their manifests.
 */
const EMPTY = [
  "kubectl delete deployments -A --all --cascade=foreground --timeout=150s >/dev/null",
  'for i in $(seq 60); do [ -n "$(ctr -n k8s.io containers ls -q)" ] || exit 0; sleep 1; done',
  'echo "containers are left: $(ctr -n k8s.io containers ls -q)" >&2; exit 1',
];

/** The cluster ends and init does not start it again. */
const STOP = [
  `: >${HOLD}`,
  'pid=$(pgrep -o -x k3s); kill "$pid"',
  'for i in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done',
  `rm -f ${DATABASE}-wal ${DATABASE}-shm`,
];

/**
 * What is one instance's own goes; freed blocks are given back, so that their old bytes go, too. Another text, also by a
 * path of the contract, is another golden disk.
 */
const SEAL = [
  `cd ${SERVER_DIR}`,
  "rm -rf tls cred token node-token manifests kine.sock lock",
  "cd ../agent; rm -f ./*.crt ./*.key ./*.kubeconfig",
  `rm -rf /var/lib/kubelet/* /var/log/* /root/* /root/.[a-z]* ${CLUSTER_SETTINGS} /etc/cni`,
  "rm -f /state/machine-id /state/gateway/ours.list",
  `rm -rf ${AGENT_DIR}/containerd/io.containerd.runtime.v2.task ${AGENT_DIR}/containerd/*.log`,
  "sync; fstrim /state; sync",
];

async function buildDisk(ctx: BuildContext, config: InstanceConfig) {
  const { span, signal, workDir, outDir } = ctx;
  await using golden = await PrivateGateway.make(join(workDir, "home"), signal);
  const script = (lines: readonly string[]) => golden.exec("sh", "-euc", lines.join("\n"));
  await span.run("boot", () => golden.up(config));
  await span.run("empty", () => script(EMPTY));
  await script(STOP);
  const copy = join(workDir, "state.db");
  await golden.fetch(DATABASE, copy);
  const cleaning = cleanKine(copy);
  await golden.send(copy, DATABASE);
  await Deno.remove(copy);
  await span.run("seal", () => script(SEAL));
  await golden.down();
  await run("qemu-img", {
    args: [
      "convert",
      "-f",
      "raw",
      "-O",
      "qcow2",
      join(golden.paths.dir, "state.img"),
      join(outDir, OUTPUT),
    ],
    signal,
    logPath: ctx.logPath,
  });
  return { ...cleaning };
}
