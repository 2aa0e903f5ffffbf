/**
 * Which artifacts a start needs, built where they are missing: independent ones side by side.
 * It must not run a build when everything is there, and then has to take well under a second.
 *
 * @module
 */
import { kernelRecipe } from "../kernel/kernel.ts";
import { krunfwRecipe } from "../kernel/krunfw.ts";
import { gvproxyRecipe } from "../net/gvproxy_build.ts";
import { SSH_TOOL } from "../net/ssh.ts";
import { rootfsRecipes } from "../rootfs/recipes.ts";
import { type Artifact, ArtifactStore, type Recipe } from "../vm/artifact.ts";
import { describeError, GatewayError } from "../vm/error.ts";
import type { Span } from "../vm/event.ts";
import { ensureTools, type HostTool } from "../vm/host_tools.ts";
import { libkrunFormulaError, libkrunRecipe } from "../vm/libkrun_build.ts";
import { QEMU_TOOL } from "../vm/qemu.ts";
import { ramshimRecipe } from "../vm/ramshim.ts";
import { together } from "../vm/together.ts";
import { tscRecipe } from "../vm/tsc.ts";
import { QEMU_IMG_TOOL } from "../vm/disk_chain.ts";
import { ensureProvenance } from "./image_set.ts";
import type { VmmChoice } from "./options.ts";

/** What a VM boots from. */
export interface BootArtifacts {
  /** Holds `vmlinux`. */
  readonly kernel: Artifact;
  /** Holds `root.erofs`, shared read-only by all VMs. */
  readonly root: Artifact;
  /** Holds `gvproxy`, a program of the host. */
  readonly gvproxy: Artifact;
  /** Measures the host's counter for guests under TCG. */
  readonly tsc: Artifact;
  /** Makes a guest's memory out of layers. */
  readonly ramshim: Artifact;
  /** Where the cluster binary came from, such as "kubenode v1.37.2". */
  readonly cluster: string;
}

/** How {@linkcode ensureArtifacts} may act. */
export interface EnsureArtifactsOptions {
  /** Builds and installs become its children. */
  readonly span: Span;
  /** Ends running builds; what they finished is kept. */
  readonly signal: AbortSignal;
  /** As root, install missing host tools. */
  readonly assumeYes: boolean;
  /** A cluster binary of the user's. */
  readonly clusterBinary?: string;
  /** The user's own store by default. */
  readonly store?: ArtifactStore;
  /** Its `vmm` is the user's; auto without it. */
  readonly config?: { readonly vmm: VmmChoice };
}

/** What `gateway build` can be asked for. */
export const BUILD_TARGETS = [
  ...["kernel", "root", "cluster", "images", "golden", "payload", "libkrun", "all"] as const,
  ...["libkrunfw", "kernel-arm64"] as const,
];
/** One of {@linkcode BUILD_TARGETS}. */
export type BuildTarget = typeof BUILD_TARGETS[number];

/** The guest's architecture, in the kernel's word. @throws GatewayError `host-unsupported`. */
export function hostArch(): "x86_64" {
  if (Deno.build.arch === "x86_64") return "x86_64";
  throw new GatewayError({
    code: "host-unsupported",
    what: `Cannot build artifacts for "${Deno.build.arch}"`,
    why: "only x86_64 is built so far",
    fix: "use an x86_64 Linux host",
  });
}

/**
 * Finds or builds everything a VM boots from. Missing host tools are installed or named before any build starts.
 *
 * @throws GatewayError `tool-missing`, `build-failed`, `disk-full`, `usage`.
 */
export async function ensureArtifacts(options: EnsureArtifactsOptions): Promise<BootArtifacts> {
  const { store = new ArtifactStore(), span } = options;
  const recipes = await allRecipes(options, store);
  await ensureAllTools(recipes, store, options);
  const wanted = [
    ...[recipes.kernel, recipes.rootfs.root, recipes.gvproxy, recipes.tsc, recipes.ramshim],
  ];
  const [kernel, root, gvproxy, tsc, ramshim] = await ensureAll(wanted, store, options);
  // A store that cannot be written to is still good to boot from.
  await ensureProvenance(store, [kernel, root, gvproxy, tsc, ramshim]).catch((error) =>
    span.warn(`no provenance.json: ${describeError(error)}`)
  );
  return { kernel, root, gvproxy, tsc, ramshim, cluster: recipes.rootfs.cluster.source };
}

/**
 * Builds what `gateway build TARGET` names; returns the artifacts in build order. "all" is what a start needs, which
 * libkrun is not.
 */
export async function buildTargets(
  target: Exclude<BuildTarget, "golden" | "payload">,
  options: EnsureArtifactsOptions,
): Promise<Artifact[]> {
  const { store = new ArtifactStore(undefined, { repair: true }) } = options;
  if (target === "libkrun") {
    if (Deno.build.os !== "linux") throw libkrunFormulaError(Deno.build.os);
    return [await store.ensure(await libkrunRecipe(hostArch()), options)];
  }
  const recipes = await allRecipes(options, store);
  const { rootfs, kernel, gvproxy, tsc, ramshim } = recipes;
  const wanted = {
    kernel: [kernel],
    cluster: [rootfs.cluster],
    images: [...rootfs.images, rootfs.helmImage],
    root: [rootfs.root],
    all: [kernel, rootfs.cluster, ...rootfs.images, rootfs.root, gvproxy, tsc, ramshim],
    // For other tools and another processor: nothing here boots from them.
    "libkrunfw": [kernel, await krunfwRecipe(kernel)],
    "kernel-arm64": [await kernelRecipe("arm64")],
  }[target];
  await ensureTools(wanted.flatMap((recipe) => recipe.tools), options);
  const built = await ensureAll(wanted, store, options);
  if (target === "all") {
    await ensureProvenance(store, built.filter(({ name }) => SET_NAMES.includes(name)));
  }
  return built;
}

/** Finds or builds each; where one fails, the builds of the others are ended first. */
async function ensureAll(
  wanted: readonly Recipe[],
  store: ArtifactStore,
  options: EnsureArtifactsOptions,
): Promise<Artifact[]> {
  const ensure = (recipe: Recipe) => (signal: AbortSignal) =>
    store.ensure(recipe, { ...options, signal });
  return await together(wanted.map(ensure), options);
}

/** The artifacts that boot together. */
const SET_NAMES: readonly string[] = ["kernel", "root", "gvproxy", "tsckhz", "ramshim"];

/** The recipes of what is built for starts, with those of their parts; nothing is built. */
export async function allRecipes(options: EnsureArtifactsOptions, store: ArtifactStore) {
  const [kernel, gvproxy, tsc, ramshim, rootfs] = await Promise.all([
    kernelRecipe(hostArch()),
    gvproxyRecipe(),
    tscRecipe(),
    ramshimRecipe(),
    rootfsRecipes({ ...options, store, arch: "amd64" }),
  ]);
  return { kernel, gvproxy, tsc, ramshim, rootfs };
}

/** Those of {@linkcode allRecipes}. */
export type Recipes = Awaited<ReturnType<typeof allRecipes>>;

/** One question to the host for everything that is missing, instead of one error after another. */
async function ensureAllTools(
  recipes: Recipes,
  store: ArtifactStore,
  options: EnsureArtifactsOptions,
): Promise<void> {
  const { rootfs, kernel, gvproxy, ramshim } = recipes;
  const missing = async (...wanted: readonly Recipe[]) =>
    (await Promise.all(
      wanted.map(async (recipe) => await store.holds(recipe) ? [] : recipe.tools),
    )).flat();
  const tools = await missing(kernel, gvproxy, ramshim, rootfs.root);
  // When the root image is there, nothing it was made of is needed any more.
  if (rootfs.root.tools.some((tool) => tools.includes(tool))) {
    tools.push(...await missing(rootfs.base, rootfs.cluster, ...rootfs.images));
  }
  await ensureTools([...tools, ...startTools(options.config?.vmm ?? "auto")], options);
}

/** What a start runs when everything is built. Who asked for libkrun is not asked for QEMU. */
export function startTools(vmm: VmmChoice): HostTool[] {
  return vmm === "libkrun" ? [SSH_TOOL] : [QEMU_TOOL, QEMU_IMG_TOOL, SSH_TOOL];
}
