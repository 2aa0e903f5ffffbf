/**
 * This room builds the root image, with its base of Debian packages and its bill of materials. The scripts in the
 * image are in rootfs/guest. Read root_base.ts next.
 *
 * The root image: Debian packages by mmdebstrap, then our files, then EROFS. Two builds of the same inputs
 * give the same bytes, and nothing that should be one machine's own (keys, ids, seeds) is in it.
 *
 * @module
 */
import { join } from "@std/path";
import type { Arch } from "../../vm/base/arch.ts";
import { GatewayError } from "../../vm/base/error.ts";
import type { JsonValue } from "../../vm/base/event.ts";
import { run } from "../../vm/base/process.ts";
import { together } from "../../vm/base/together.ts";
import {
  type Artifact,
  type BuildContext,
  digestTree,
  type HostTool,
  type Recipe,
  recipeKey,
} from "../../vm/store/artifact.ts";
import { GO_TOOL } from "../../vm/store/go_build.ts";
import { sourceDateEpoch } from "../pins/lock.ts";
import { checkBase, type KnownBase, TAR_TOOL } from "./root_base.ts";
import { writeSbom } from "./sbom.ts";

/** The largest root image that is accepted, in bytes. */
const ROOT_IMAGE_MAX_BYTES = 300 * 1024 * 1024;

/** Fixed, because a random one would make every build another image. */
const EROFS_UUID = "7d2f9a52-5c1e-4b7a-9f0e-0a6761746577";

/** What packages leave behind that is of no use in a read-only image, or that would be one machine's own. */
const REMOVED = [
  "boot",
  "media",
  "mnt",
  "srv",
  "run",
  "tmp",
  "var/cache",
  "var/lib/apt",
  "var/lib/systemd",
  "var/log",
  "var/tmp",
  "var/lib/dpkg/info",
  "etc/machine-id",
  "etc/hostname",
  "etc/hosts",
  "etc/resolv.conf",
];

/** Empty folders that init mounts something on, or links into. */
const FOLDERS = [
  "mnt",
  "opt/cni/bin",
  "proc",
  "run",
  "state",
  "sys",
  "tmp",
  "usr/lib/gateway/images",
  "usr/lib/gateway/manifests",
  "var/cache",
  "var/lib/cni",
  "var/lib/kubelet",
  "var/lib/rancher",
  "var/log",
];

/** What belongs to one boot or one instance lives in /run and on the state disk. */
const LINKS: Readonly<Record<string, string>> = {
  "etc/hostname": "/run/etc/hostname",
  "etc/hosts": "/run/etc/hosts",
  "etc/machine-id": "/state/machine-id",
  "etc/resolv.conf": "/run/etc/resolv.conf",
  "usr/local/bin/crictl": "k3s",
  "usr/local/bin/ctr": "k3s",
  "usr/local/bin/kubectl": "k3s",
  // They signal PID 1, which then stops the cluster and unmounts.
  "usr/sbin/halt": "/usr/bin/busybox",
  "usr/sbin/poweroff": "/usr/bin/busybox",
  "usr/sbin/reboot": "/usr/bin/busybox",
  "var/tmp": "../tmp",
};

const EROFS_TOOL: HostTool = { program: "mkfs.erofs", debian: "erofs-utils" };

/** Everything that goes into the image; each recipe is built when it is missing. */
export interface RootOptions {
  readonly arch: Arch;
  readonly base: KnownBase;
  readonly cluster: Recipe;
  readonly agent: Recipe;
  readonly cniPlugins: Recipe;
  readonly images: readonly Recipe[];
  /** The scripts that run inside. */
  readonly guestDir: string;
  /** YAML files that every cluster gets. */
  readonly manifestsDir: string;
  /** What the kernel has to be able to do; init and `gateway verify` read it. */
  readonly capabilitiesPath: string;
  readonly assumeYes: boolean;
  /** Recipes built side by side at most. */
  readonly concurrency?: number;
}

/** The root image itself. Its key is made of its parts' keys and the base's packages, so a look-up needs no part. */
export async function rootImageRecipe(options: RootOptions): Promise<Recipe> {
  const { base, cluster, agent, cniPlugins, images } = options;
  const keys = [base.recipe, cluster, agent, cniPlugins, ...images].map((recipe, index) =>
    [`part-${index}-${recipe.name}`, recipe === base.recipe ? base.key : recipeKey(recipe)] as const
  );
  return {
    name: "root",
    label: "root image",
    inputs: {
      ...Object.fromEntries(keys),
      guest: await digestTree(options.guestDir),
      manifests: await digestTree(options.manifestsDir),
      capabilities: await digestTree(options.capabilitiesPath),
      layout: [...REMOVED, "+", ...FOLDERS, "+", ...Object.entries(LINKS).flat()].join("\n"),
      erofs: `${EROFS_UUID} ${sourceDateEpoch} ${EROFS_FLAGS.join(" ")} ${HINTS.trim()}`,
      arch: options.arch,
    },
    outputs: ["root.erofs", "sbom.spdx.json"],
    tools: [EROFS_TOOL, TAR_TOOL, GO_TOOL],
    build: (ctx) => buildRoot(options, ctx),
  };
}

const EROFS_FLAGS = ["-zlz4hc", "-x-1", "--all-root", "-Eforce-inode-compact"];

/**
 * Compression hints: the cluster binary is left as it is. Every start pages in most of it, and under emulation
 * decompressing costs more than a second.
 */
const HINTS = "0 usr/local/bin/k3s$\n";

async function buildRoot(
  options: RootOptions,
  ctx: BuildContext,
): Promise<Record<string, number | Record<string, string>>> {
  const parts = await ensureParts(options, ctx);
  checkBase(options.base, parts.base);
  const tree = join(ctx.workDir, "tree");
  await Deno.remove(tree, { recursive: true }).catch(() => {});
  await Deno.mkdir(tree, { mode: 0o755 });
  await unpackBase(parts.base, tree, ctx);
  await placeParts(options, parts, tree);
  const sbom = await writeSbom(tree, join(ctx.outDir, "sbom.spdx.json"), {
    arch: options.arch,
    packageSha256: strings(parts.base.manifest.facts.packageSha256),
  }, ctx);
  const image = join(ctx.outDir, "root.erofs");
  const hints = join(ctx.workDir, "hints");
  await Deno.writeTextFile(hints, HINTS);
  await packImage(tree, image, [`--compress-hints=${hints}`], ctx);
  if ((await Deno.stat(image)).size > ROOT_IMAGE_MAX_BYTES) {
    ctx.span.log("the image is too large with an uncompressed cluster binary; packing it again");
    await Deno.remove(image);
    await packImage(tree, image, [], ctx);
  }
  await checkSize(image);
  return {
    ...sbom,
    packages: strings(parts.base.manifest.facts.packages),
    packageSha256: strings(parts.base.manifest.facts.packageSha256),
    cluster: parts.cluster.manifest.facts as Record<string, string>,
    parts: Object.fromEntries(parts.all.map((part) => [part.name, part.key])),
  };
}

function strings(fact: JsonValue | undefined): Record<string, string> {
  return (fact ?? {}) as Record<string, string>;
}

async function packImage(
  tree: string,
  image: string,
  hints: readonly string[],
  ctx: BuildContext,
): Promise<void> {
  await run("mkfs.erofs", {
    args: [
      ...EROFS_FLAGS,
      ...hints,
      `-T${sourceDateEpoch}`,
      "-U",
      EROFS_UUID,
      "--quiet",
      image,
      tree,
    ],
    logPath: ctx.logPath,
    signal: ctx.signal,
    timeoutMs: 20 * 60_000,
    niceness: 10,
    code: "build-failed",
    what: "Cannot pack the root image",
  });
}

interface Parts {
  readonly base: Artifact;
  readonly cluster: Artifact;
  readonly agent: Artifact;
  readonly cniPlugins: Artifact;
  readonly images: readonly Artifact[];
  readonly all: readonly Artifact[];
}

/** Builds what is missing, the longest first, a few at a time; the first failure ends the others. */
async function ensureParts(options: RootOptions, ctx: BuildContext): Promise<Parts> {
  // The busybox image is made from the base, so the base comes before the images.
  const order = [
    options.cluster,
    options.base.recipe,
    ...options.images,
    options.cniPlugins,
    options.agent,
  ];
  const all = await together(
    order.map((recipe) => (signal) =>
      ctx.store.ensure(recipe, { span: ctx.span, signal, assumeYes: options.assumeYes })
    ),
    { signal: ctx.signal, atOnce: options.concurrency ?? 2 },
  );
  const found = (recipe: Recipe) => all[order.indexOf(recipe)]!;
  return {
    base: found(options.base.recipe),
    cluster: found(options.cluster),
    agent: found(options.agent),
    cniPlugins: found(options.cniPlugins),
    images: options.images.map(found),
    all,
  };
}

async function unpackBase(base: Artifact, tree: string, ctx: BuildContext): Promise<void> {
  await run("tar", {
    args: ["-xf", base.files["base.tar"]!.path, "-C", tree, "--exclude=./dev/*", "--no-same-owner"],
    logPath: ctx.logPath,
    signal: ctx.signal,
    timeoutMs: 300_000,
    code: "build-failed",
    what: "Cannot unpack the root base",
  });
  for (const path of REMOVED) {
    await Deno.remove(join(tree, path), { recursive: true }).catch(ignoreMissing);
  }
  for (const path of FOLDERS) {
    await Deno.mkdir(join(tree, path), { recursive: true });
    await Deno.chmod(join(tree, path), 0o755);
  }
  for (const [path, target] of Object.entries(LINKS)) {
    await Deno.remove(join(tree, path)).catch(ignoreMissing);
    await Deno.symlink(target, join(tree, path));
  }
}

async function placeParts(options: RootOptions, parts: Parts, tree: string): Promise<void> {
  const lib = join(tree, "usr/lib/gateway");
  await copyTree(options.guestDir, lib);
  await Deno.rename(join(lib, "gateway-init"), join(tree, "usr/sbin/gateway-init"));
  // OpenSSH before 9.8 has no penalties to turn off, and refuses the word.
  const splitSshd = join(tree, "usr/lib/openssh/sshd-session");
  const penalties = join(lib, "sshd.d/penalties.conf");
  await Deno.stat(splitSshd).catch(() => Deno.remove(penalties));
  await copyTree(options.manifestsDir, join(lib, "manifests"));
  await place(options.capabilitiesPath, join(lib, "capabilities.tsv"), 0o644);
  const programs = async (artifact: Artifact, folder: string) => {
    for (const [name, file] of Object.entries(artifact.files)) {
      await place(file.path, join(tree, folder, name), 0o755);
    }
  };
  await programs(parts.agent, "usr/lib/gateway");
  await programs(parts.cluster, "usr/local/bin");
  await programs(parts.cniPlugins, "opt/cni/bin");
  for (const image of parts.images) {
    for (const [name, file] of Object.entries(image.files)) {
      await place(file.path, join(lib, "images", name), 0o644);
    }
  }
}

async function copyTree(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  await Deno.chmod(to, 0o755);
  for await (const entry of Deno.readDir(from)) {
    if (entry.name.startsWith(".") || entry.name.endsWith(".md")) continue;
    const source = join(from, entry.name);
    if (entry.isDirectory) {
      await copyTree(source, join(to, entry.name));
    } else {
      const executable = ((await Deno.stat(source)).mode ?? 0) & 0o100;
      await place(source, join(to, entry.name), executable ? 0o755 : 0o644);
    }
  }
}

async function place(from: string, to: string, mode: number): Promise<void> {
  await Deno.copyFile(from, to);
  await Deno.chmod(to, mode);
}

async function checkSize(image: string): Promise<void> {
  const { size } = await Deno.stat(image);
  if (size <= ROOT_IMAGE_MAX_BYTES) return;
  throw new GatewayError({
    code: "build-failed",
    what: "Cannot use the root image that was built",
    why: `it has ${Math.ceil(size / 1048576)} MiB and ${
      ROOT_IMAGE_MAX_BYTES / 1048576
    } are allowed`,
    fix: "take a smaller cluster binary, or fewer packages in rootfs/lock.json",
  });
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
