/**
 * This room makes the archives of container images: those of our own programs, and those that are pulled by digest.
 * How an archive gets into a guest is in bootstrap/images. Read pulled.ts next.
 *
 * Container images without a container engine: one layer tar by GNU tar, put into an OCI layout by ocipack
 * (go-containerregistry), and archived for import. The same inputs give the same bytes.
 * It must not reach a registry.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { type Arch, type HostPlatform, thisHost } from "../../vm/base/arch.ts";
import { run } from "../../vm/base/process.ts";
import {
  type Artifact,
  type BuildContext,
  canonicalJson,
  type Recipe,
  recipeKey,
} from "../../vm/store/artifact.ts";
import { imageNames, sourceDateEpoch } from "../pins/lock.ts";
import { guestGoRecipe } from "../pins/programs.ts";
import { checkBase, type KnownBase, TAR_TOOL } from "../root/root_base.ts";

/** One file of a layer: taken from a file of another artifact, from an archive in it, or given here. */
export type LayerEntry =
  | { readonly path: string; readonly from: string; readonly member?: string }
  | { readonly path: string; readonly text: string }
  | { readonly path: string; readonly link: string }
  | { readonly path: string; readonly folderMode: number };

/** What {@linkcode imageRecipe} needs. */
export interface ImageOptions {
  /** Short name: the archive is NAME.tar and the artifact image-NAME. */
  readonly name: string;
  /** The image's name with its tag. */
  readonly image: string;
  readonly label: string;
  /** The artifact that the layer's program comes from. */
  readonly program: Recipe;
  /** Stands for the program in the key; its recipe's key when undefined. */
  readonly programKey?: string;
  /** Throws for a program that the key does not stand for. */
  readonly checkProgram?: (program: Artifact) => void;
  readonly layer: readonly LayerEntry[];
  readonly entrypoint: readonly string[];
  /** Numeric user and group, empty for root. */
  readonly user: string;
  readonly arch: Arch;
  /** The host's ocipack. */
  readonly packer: Recipe;
  /** Passed on when this build needs another artifact. */
  readonly assumeYes: boolean;
}

/** Applets that get a name of their own in the busybox image; the rest go by `busybox NAME`. */
const APPLETS = `
  ash cat chmod chown cp cut date dd df du echo env false find grep head hostname id ip kill ln ls md5sum
  mkdir mv nc nslookup ping printf ps pwd rm rmdir sed seq sh sha256sum sleep sort stat sync tail tar tee
  test touch true uname vi wc wget which yes`.trim().split(/\s+/);

/** GNU tar options that leave nothing of the host in an archive. */
const REPRODUCIBLE_TAR: readonly string[] = [
  "--format=gnu",
  "--sort=name",
  `--mtime=@${sourceDateEpoch}`,
  "--owner=0",
  "--group=0",
  "--numeric-owner",
];

/** The ocipack of a host: of this one by default. */
export function packerRecipe({ os, arch }: HostPlatform = thisHost()): Promise<Recipe> {
  return guestGoRecipe({
    name: "ocipack",
    label: "OCI image packer",
    dir: "ocipack",
    programs: [{ pkg: ".", output: "ocipack" }],
    arch,
    goos: os,
  });
}

/** A recipe that leaves NAME.tar, an OCI archive that `ctr images import` names as requested. */
export function imageRecipe(options: ImageOptions): Recipe {
  const { name, layer, arch, packer } = options;
  const output = `${name}.tar`;
  // What it packs is the same on every host, and so is the key: an image is found where it was not built.
  const { platform: _, ...ofPacker } = packer.inputs;
  return {
    name: `image-${name}`,
    label: options.label,
    inputs: {
      program: options.programKey ?? recipeKey(options.program),
      packer: recipeKey({ ...packer, inputs: ofPacker }),
      layer: canonicalJson(layer.map((entry) => ({ ...entry }))),
      entrypoint: options.entrypoint.join(" "),
      user: options.user,
      image: options.image,
      platform: `linux/${arch}`,
      epoch: String(sourceDateEpoch),
    },
    outputs: [output],
    tools: [TAR_TOOL],
    build: (ctx) => buildImage(options, output, ctx),
  };
}

async function buildImage(
  options: ImageOptions,
  output: string,
  ctx: BuildContext,
): Promise<Record<string, string>> {
  const ensure = { span: ctx.span, signal: ctx.signal, assumeYes: options.assumeYes };
  const packer = await ctx.store.ensure(options.packer, ensure);
  const program = await ctx.store.ensure(options.program, ensure);
  options.checkProgram?.(program);
  const tree = join(ctx.workDir, "layer");
  await Deno.remove(tree, { recursive: true }).catch(() => {});
  await Deno.mkdir(tree, { mode: 0o755 });
  for (const entry of options.layer) await placeEntry(tree, entry, program.files, ctx);
  const layerTar = join(ctx.workDir, "layer.tar");
  const layout = join(ctx.workDir, "layout");
  await Deno.remove(layout, { recursive: true }).catch(() => {});
  const tool = { signal: ctx.signal, logPath: ctx.logPath, timeoutMs: 300_000 };
  const top = [...Deno.readDirSync(tree)].map((entry) => entry.name).sort();
  await run("tar", { ...tool, args: [...REPRODUCIBLE_TAR, "-cf", layerTar, "-C", tree, ...top] });
  await run(packer.files["ocipack"]!.path, {
    ...tool,
    args: [
      `-name=${options.image}`,
      `-layer=${layerTar}`,
      `-arch=${options.arch}`,
      `-user=${options.user}`,
      `-entrypoint=${options.entrypoint.join(" ")}`,
      `-output=${layout}`,
    ],
  });
  const parts = ["oci-layout", "index.json", "blobs"];
  const archive = join(ctx.outDir, output);
  await run("tar", {
    ...tool,
    args: [...REPRODUCIBLE_TAR, "--mode=a+rX,u+w,go-w", "-cf", archive, "-C", layout, ...parts],
  });
  return { image: options.image };
}

/** Modes are set outright, so that the umask of whoever builds does not count. */
async function placeEntry(
  tree: string,
  entry: LayerEntry,
  files: Readonly<Record<string, { readonly path: string }>>,
  ctx: BuildContext,
): Promise<void> {
  const path = join(tree, entry.path);
  await makeFolders(tree, "folderMode" in entry ? entry.path : dirname(entry.path));
  if ("folderMode" in entry) {
    await Deno.chmod(path, entry.folderMode);
  } else if ("link" in entry) {
    await Deno.symlink(entry.link, path);
  } else if ("text" in entry) {
    await Deno.writeTextFile(path, entry.text);
    await Deno.chmod(path, 0o644);
  } else {
    const from = files[entry.from]!.path;
    if (entry.member === undefined) await Deno.copyFile(from, path);
    else await extractMember(from, entry.member, path, ctx);
    await Deno.chmod(path, 0o755);
  }
}

async function makeFolders(tree: string, relative: string): Promise<void> {
  let path = tree;
  for (const part of relative.split("/").filter((part) => part !== "" && part !== ".")) {
    path = join(path, part);
    try {
      await Deno.mkdir(path);
      await Deno.chmod(path, 0o755);
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    }
  }
}

async function extractMember(
  archive: string,
  member: string,
  path: string,
  ctx: BuildContext,
): Promise<void> {
  const { stdoutBytes } = await run("tar", {
    maxOutputBytes: 1024 ** 3,
    args: ["-xOf", archive, member],
    signal: ctx.signal,
    timeoutMs: 120_000,
  });
  await Deno.writeFile(path, stdoutBytes);
}

/** What every image of ours is made with. */
interface SharedOptions {
  readonly arch: Arch;
  readonly assumeYes: boolean;
  readonly packer: Recipe;
}

/** The recipes of the images that are part of the root image, in the order of the lock. */
export async function imageRecipes(
  o: { arch: Arch; base: KnownBase; assumeYes: boolean },
): Promise<readonly Recipe[]> {
  const shared = { arch: o.arch, assumeYes: o.assumeYes, packer: await packerRecipe() };
  const single = (
    name: Exclude<keyof typeof imageNames, "busybox" | "helm">,
    label: string,
    go: { dir: string; pkg: string },
    user: string,
  ) => programImage(shared, { name, label, ...go, user });
  return [
    await single("pause", "pause program", { dir: "pause", pkg: "." }, "65535:65535"),
    await single("coredns", "CoreDNS", { dir: "coredns", pkg: "." }, ""),
    await single("local-path-provisioner", "local path provisioner", {
      dir: "localpath",
      pkg: "github.com/rancher/local-path-provisioner",
    }, ""),
    busyboxRecipe({ ...shared, base: o.base }),
    await single("demo", "demo service", { dir: "demo", pkg: "." }, "65532:65532"),
  ];
}

/**
 * The image of the jobs that install charts. Only a payload with charts takes it, so it is an artifact of its own and
 * not a part of the root image. Its output is `helm.tar`.
 */
export async function helmImageRecipe(
  o: { arch: Arch; assumeYes: boolean },
): Promise<Recipe> {
  const program = {
    label: "helm for HelmChart jobs",
    dir: "helmjob",
    pkg: ".",
    user: "65532:65532",
  };
  return await programImage({ ...o, packer: await packerRecipe() }, { name: "helm", ...program });
}

/** An image of one program of ours and nothing else. */
async function programImage(
  shared: SharedOptions,
  o: { name: keyof typeof imageNames; label: string; dir: string; pkg: string; user: string },
): Promise<Recipe> {
  return imageRecipe({
    ...shared,
    name: o.name,
    image: imageNames[o.name],
    label: `container image ${imageNames[o.name]}`,
    program: await guestGoRecipe({
      name: `program-${o.name}`,
      label: o.label,
      dir: o.dir,
      programs: [{ pkg: o.pkg, output: o.name }],
      arch: shared.arch,
    }),
    layer: [{ path: o.name, from: o.name }],
    entrypoint: [`/${o.name}`],
    user: o.user,
  });
}

/** Debian's static busybox, taken from the base of the root image: a shell for helper pods and for people. */
function busyboxRecipe(o: SharedOptions & { readonly base: KnownBase }): Recipe {
  return imageRecipe({
    arch: o.arch,
    assumeYes: o.assumeYes,
    packer: o.packer,
    name: "busybox",
    image: imageNames.busybox,
    label: `container image ${imageNames.busybox}`,
    program: o.base.recipe,
    programKey: o.base.key,
    checkProgram: (program) => checkBase(o.base, program),
    layer: [
      { path: "bin/busybox", from: "base.tar", member: "./usr/bin/busybox" },
      ...APPLETS.map((applet) => ({ path: `bin/${applet}`, link: "busybox" })),
      {
        path: "etc/passwd",
        text: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
      },
      { path: "etc/group", text: "root:x:0:\nnogroup:x:65534:\n" },
      { path: "root", folderMode: 0o700 },
      { path: "tmp", folderMode: 0o1777 },
    ],
    entrypoint: ["/bin/sh"],
    user: "",
  });
}
