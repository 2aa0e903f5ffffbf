/**
 * This room chooses and builds the cluster binary. The sources of kubenode are in rootfs/kubenode; what the cluster
 * runs is not decided here. This is its only file.
 *
 * The cluster binary from the first source that works: a file the user names, the pinned k3s release, or
 * our own build of rootfs/kubenode. Nothing after this file knows which one it was; the manifest says it.
 *
 * @module
 */
import { basename, join } from "@std/path";
import { type Arch, ARCHES } from "../../vm/base/arch.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { sourcePath } from "../../vm/base/source.ts";
import { digestFile, type Recipe } from "../../vm/store/artifact.ts";
import { wrongDownload } from "../../vm/store/errors.ts";
import { type K3sPin, k3sPin } from "../pins/lock.ts";
import { guestGoRecipe } from "../pins/programs.ts";

/** Where a cluster binary can come from. */
export type ClusterSource = "file" | "k3s" | "kubenode";

/** A recipe of a cluster binary and where it gets it. */
export interface ClusterRecipe extends Recipe {
  readonly source: ClusterSource;
}

const ELF_MACHINES: Readonly<Record<Arch, number>> = { amd64: 62, arm64: 183 };

/**
 * The user's own file. Its digest is its identity, so a changed file is a new artifact.
 *
 * @throws GatewayError `usage` when it is no program of the guest's architecture.
 */
export async function clusterFromFile(path: string, arch: Arch): Promise<ClusterRecipe> {
  await checkProgram(path, arch);
  return {
    source: "file",
    name: "cluster",
    label: `cluster binary ${basename(path)}`,
    inputs: { source: "file", sha256: await digestFile(path), arch },
    outputs: ["k3s"],
    tools: [],
    build: async (ctx) => {
      await Deno.copyFile(path, join(ctx.outDir, "k3s"));
      return { source: "file", file: basename(path) };
    },
  };
}

/**
 * The pinned k3s release.
 *
 * @throws GatewayError `usage` when its digest was never pinned.
 */
export function clusterFromRelease(arch: Arch, pin: K3sPin = k3sPin(arch)): ClusterRecipe {
  const { sha256, url, version } = pin;
  if (sha256 === null) {
    throw new GatewayError({
      code: "usage",
      what: `Cannot use the k3s release "${version}" for ${arch}`,
      why: "rootfs/lock.json has no sha256 for it, and what is not pinned is not run",
      fix:
        `take the digest from the release's own sha256sum file, check it against a download of ` +
        `${url}, and write it to k3s.${arch}.sha256 in rootfs/lock.json`,
    });
  }
  return {
    source: "k3s",
    name: "cluster",
    label: `k3s ${version}`,
    inputs: { source: "k3s", version, sha256, arch },
    outputs: ["k3s"],
    tools: [],
    build: async (ctx) => {
      const path = join(ctx.outDir, "k3s");
      await download(url, path, ctx.signal);
      const found = await digestFile(path);
      if (found !== sha256) throw wrongDownload(`k3s ${version}`, found, sha256);
      return { source: "k3s", version };
    },
  };
}

/** Our own build from the upstream modules. */
export async function clusterFromModules(arch: Arch): Promise<ClusterRecipe> {
  const recipe = await guestGoRecipe({
    name: "cluster",
    label: "Kubernetes (kubenode)",
    dir: "kubenode",
    programs: [
      { pkg: ".", output: "k3s" },
      {
        pkg: "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        output: "containerd-shim-runc-v2",
      },
    ],
    ldflags: await versionFlags(),
    tags: ["netgo", "osusergo", "no_btrfs", "no_devmapper", "no_zfs", "no_aufs"],
    // Its newer collector marks objects in the pages they lie on, which a clone would then have for itself.
    experiments: ["nogreenteagc"],
    arch,
    facts: { source: "kubenode" },
  });
  return { ...recipe, source: "kubenode" };
}

/** What `kubectl get nodes` and `ctr version` say; go.mod is where the versions are pinned. */
async function versionFlags(): Promise<string> {
  const text = await Deno.readTextFile(sourcePath("rootfs/kubenode/go.mod"));
  const version = (module: string) => {
    const pin = new RegExp(`^\\s*${module.replaceAll(".", "\\.")} (v\\S+)`, "m").exec(text)?.[1];
    if (!pin) throw new Error(`kubenode's go.mod does not require ${module}`);
    return pin;
  };
  const kubernetes = version("k8s.io/kubernetes");
  const [major, minor] = kubernetes.slice(1).split(".");
  const base = "k8s.io/component-base/version";
  return [
    `-X ${base}.gitVersion=${kubernetes}+gateway.1`,
    `-X ${base}.gitMajor=${major}`,
    `-X ${base}.gitMinor=${minor}`,
    `-X ${base}.gitTreeState=clean`,
    `-X github.com/containerd/containerd/v2/version.Version=${
      version("github.com/containerd/containerd/v2")
    }`,
  ].join(" ");
}

/** Reads just enough to tell a program for the guest from anything else. */
async function checkProgram(path: string, arch: Arch): Promise<void> {
  const refuse = (why: string, cause?: unknown) =>
    new GatewayError({
      code: "usage",
      what: `Cannot use "${path}" as the cluster binary`,
      why,
      fix: `name a k3s program for linux/${arch}`,
      cause,
    });
  const head = new Uint8Array(20);
  try {
    using file = await Deno.open(path);
    if (!(await file.stat()).isFile) throw refuse("it is not a file");
    await file.read(head);
  } catch (error) {
    if (error instanceof GatewayError) throw error;
    throw refuse(error instanceof Error ? error.message : String(error), error);
  }
  const isElf = head[0] === 0x7f && head[1] === 0x45 && head[2] === 0x4c && head[3] === 0x46;
  if (!isElf) throw refuse("it is not a Linux program (no ELF header)");
  const machine = new DataView(head.buffer).getUint16(18, true);
  if (machine !== ELF_MACHINES[arch]) {
    const found = ARCHES.find((one) => ELF_MACHINES[one] === machine) ?? `ELF machine ${machine}`;
    throw refuse(`it is a program for ${found}, and the guest's processor is ${arch}`);
  }
}

async function download(url: string, path: string, signal: AbortSignal): Promise<void> {
  const response = await fetch(url, { signal });
  if (!response.ok || !response.body) {
    await response.body?.cancel();
    throw new GatewayError({
      code: "network-failed",
      what: `Cannot download ${url}`,
      why: `the server answered ${response.status}`,
      fix: "check the network, or name a file that is there already as the cluster binary",
    });
  }
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  await response.body.pipeTo(file.writable, { preventClose: true });
}
