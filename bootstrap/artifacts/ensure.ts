/**
 * This room decides which artifacts a start needs, and states what boots together. How each is built is in rootfs,
 * kernel, net and vm; the store is vm/store. Read statement.ts next.
 *
 * Which artifacts a start needs, built where they are missing: independent ones side by side.
 * It must not run a build when everything is there, and then has to take well under a second.
 *
 * @module
 */
import { kernelRecipe } from "../../kernel/kernel.ts";
import { krunfwRecipe } from "../../kernel/krunfw.ts";
import { gvproxyRecipe } from "../../net/gvproxy_recipe.ts";
import { SSH_TOOL } from "../../net/ssh.ts";
import { rootfsRecipes } from "../../rootfs/recipes.ts";
import { BASE_MAX_AGE_DAYS, baseAgeDays, type KnownBase } from "../../rootfs/root/root_base.ts";
import { type Arch, guestArch, hostArch, type HostPlatform, thisHost } from "../../vm/base/arch.ts";
import { describeError, GatewayError, usageError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { ensureTools, type HostTool } from "../../vm/base/host_tools.ts";
import { together } from "../../vm/base/together.ts";
import { libkrunFormulaError, libkrunRecipe } from "../../vm/libkrun/build.ts";
import type { VmmChoice } from "../../vm/machine/vmm.ts";
import { qemuTool } from "../../vm/qemu/driver.ts";
import { ramshimRecipe } from "../../vm/qemu/ramshim.ts";
import { tscRecipe } from "../../vm/qemu/tsc.ts";
import { type Artifact, ArtifactStore, type Recipe } from "../../vm/store/artifact.ts";
import { ensureProvenance } from "./statement.ts";

/** What a VM boots from. */
export interface BootArtifacts {
  /** Holds `vmlinux`. */
  readonly kernel: Artifact;
  /** Holds `root.erofs`, shared read-only by all VMs. */
  readonly root: Artifact;
  /** Holds `gvproxy`, a program of the host. */
  readonly gvproxy: Artifact;
  /** Measures the host's counter for guests under TCG; null but on Linux. */
  readonly tsc: Artifact | null;
  /** Makes a guest's memory out of layers; null but on Linux. */
  readonly ramshim: Artifact | null;
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
  /** Its `vmm` is the user's, auto without it; its `arch` the guest's, this host's without it. */
  readonly config?: { readonly vmm: VmmChoice; readonly arch?: Arch };
  /** Where they are to be used: this host by default. */
  readonly host?: HostPlatform;
}

/** What `gateway build` can be asked for. */
export const BUILD_TARGETS = [
  ...["kernel", "root", "cluster", "images", "golden", "payload", "libkrun", "all"] as const,
  "libkrunfw" as const,
];
/** One of {@linkcode BUILD_TARGETS}. */
export type BuildTarget = typeof BUILD_TARGETS[number];

/** The target that a user named. @throws GatewayError `usage` for an unknown one, or words that do not go with it. */
export function checkBuild(
  asked: {
    readonly target: string;
    readonly payload?: string;
    readonly refresh: boolean;
    readonly arch?: Arch;
  },
): BuildTarget {
  const target = BUILD_TARGETS.find((name) => name === asked.target);
  if (target === undefined) {
    throw usageError(
      `Cannot build "${asked.target}"`,
      `the targets are ${BUILD_TARGETS.join(", ")}`,
      "run `gateway build all`",
    );
  }
  if (asked.payload !== undefined && target !== "payload") {
    throw usageError(
      `Cannot build "${target}" of "${asked.payload}"`,
      "only the target payload takes a second word",
      `run \`gateway build ${target}\`, or \`gateway build payload ${asked.payload}\``,
    );
  }
  if (asked.arch === "arm64" && target === "libkrunfw") {
    throw usageError(
      `Cannot build "${target}" with --arch "${asked.arch}"`,
      "that library is made of the amd64 kernel",
      `run \`gateway build kernel --arch ${asked.arch}\``,
    );
  }
  if (asked.refresh && target !== "root") {
    throw usageError(
      `Cannot renew "${target}"`,
      "--refresh renews the Debian packages of the root image",
      `run \`${REFRESH_COMMAND}\``,
    );
  }
  return target;
}

/** Refuses guests that this host cannot build. @throws GatewayError `host-unsupported`. */
export function checkBuilder(
  arch: Arch,
  host: { readonly os: string; readonly arch: Arch } = { os: Deno.build.os, arch: hostArch() },
): void {
  const refuse = (why: string, fix: string) =>
    new GatewayError({
      code: "host-unsupported",
      what: `Cannot build an ${arch} guest on this host`,
      why,
      fix,
    });
  if (host.os !== "linux") {
    throw refuse(`guests are built on Linux, and this is ${host.os}`, "use a Linux host");
  }
  if (arch === "amd64" && host.arch !== "amd64") {
    throw refuse(
      `its processor is ${host.arch}, which has no compiler for amd64`,
      "use --arch arm64",
    );
  }
}

/**
 * Finds or builds everything a VM boots from. Missing host tools are installed or named before any build starts.
 *
 * @throws GatewayError `tool-missing`, `build-failed`, `disk-full`, `usage`.
 */
export async function ensureArtifacts(options: EnsureArtifactsOptions): Promise<BootArtifacts> {
  const { store = new ArtifactStore(), span } = options;
  const wanted = ({ kernel, rootfs, gvproxy, ofLinux }: Recipes) =>
    [kernel, rootfs.root, gvproxy, ...ofLinux] as const;
  const found = await allRecipes(options, store);
  await ensureAllTools(found, store, options);
  const recipes = await withKnownBase(found, wanted(found), store, options);
  const built = await ensureAll(wanted(recipes), store, options);
  const old = ageWarning(recipes.rootfs.base);
  if (old !== undefined) span.warn(old);
  // A store that cannot be written to is still good to boot from.
  await ensureProvenance(store, built).catch((error) =>
    span.warn(`no provenance.json: ${describeError(error)}`)
  );
  const [kernel, root, gvproxy, tsc, ramshim] = built;
  return {
    kernel: kernel!,
    root: root!,
    gvproxy: gvproxy!,
    tsc: tsc ?? null,
    ramshim: ramshim ?? null,
    cluster: recipes.rootfs.cluster.source,
  };
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
    return [await store.ensure(await libkrunRecipe(Deno.build.arch), options)];
  }
  checkBuilder(guestArch(options.config));
  const found = await allRecipes(options, store);
  const wanted = await recipesOf(target, found);
  await ensureTools(wanted.flatMap(({ tools }) => tools), options);
  const recipes = await withKnownBase(found, wanted, store, options);
  const known = recipes === found ? wanted : await recipesOf(target, recipes);
  const built = await ensureAll(known, store, options);
  if (target === "all") {
    await ensureProvenance(store, built.filter(({ name }) => SET_NAMES.includes(name)));
  }
  return built;
}

async function recipesOf(
  target: Exclude<BuildTarget, "golden" | "payload" | "libkrun">,
  { rootfs, kernel, gvproxy, ofLinux }: Recipes,
): Promise<Recipe[]> {
  switch (target) {
    case "kernel":
      return [kernel];
    case "cluster":
      return [rootfs.cluster];
    case "images":
      return [...rootfs.images, rootfs.helmImage];
    case "root":
      return [rootfs.root];
    case "all":
      return [kernel, rootfs.cluster, ...rootfs.images, rootfs.root, gvproxy, ...ofLinux];
    // For other tools: nothing here boots from it.
    case "libkrunfw":
      return [kernel, await krunfwRecipe(kernel)];
  }
}

/**
 * The recipes once the base was built, where anything wanted is made from it: its packages are in the keys of that. What
 * takes longest is built beside a base that is missing.
 */
async function withKnownBase(
  recipes: Recipes,
  wanted: readonly Recipe[],
  store: ArtifactStore,
  options: EnsureArtifactsOptions,
): Promise<Recipes> {
  const { base, cluster, root, images } = recipes.rootfs;
  const others = wanted.filter((recipe) => recipe !== root && !images.includes(recipe));
  if (base.record || others.length === wanted.length) return recipes;
  const parts = wanted.includes(root) ? [cluster] : [];
  await ensureAll([base.recipe, ...new Set([...parts, ...others])], store, options);
  return await allRecipes(options, store);
}

/** What renews the packages of the root image. */
export const REFRESH_COMMAND = "gateway build root --refresh";

/** What a start says about packages that should be renewed; undefined where they need not. Pure. */
export function ageWarning(
  { record }: Pick<KnownBase, "record">,
  nowMs: number = Date.now(),
): string | undefined {
  if (!record) return undefined;
  const days = baseAgeDays(record, nowMs);
  if (days < BASE_MAX_AGE_DAYS) return undefined;
  return `the Debian packages of the root image are ${days} days old; run \`${REFRESH_COMMAND}\``;
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
const SET_NAMES: readonly string[] = [
  ...["kernel", "kernel-arm64", "root", "gvproxy", "tsckhz", "ramshim"],
];

/** The recipes of what is built for starts, with those of their parts; nothing is built. */
export async function allRecipes(options: EnsureArtifactsOptions, store: ArtifactStore) {
  const arch = guestArch(options.config);
  const { host = thisHost() } = options;
  const [kernel, gvproxy, rootfs, ofLinux] = await Promise.all([
    kernelRecipe(arch),
    gvproxyRecipe(host),
    rootfsRecipes({ ...options, store, arch }),
    host.os === "linux" ? Promise.all([tscRecipe(), ramshimRecipe(host.arch)]) : [],
  ]);
  return { kernel, gvproxy, rootfs, ofLinux };
}

/** Those of {@linkcode allRecipes}. */
export type Recipes = Awaited<ReturnType<typeof allRecipes>>;

/** One question to the host for everything that is missing, instead of one error after another. */
async function ensureAllTools(
  recipes: Recipes,
  store: ArtifactStore,
  options: EnsureArtifactsOptions,
): Promise<void> {
  const { rootfs, kernel, gvproxy, ofLinux } = recipes;
  const missing = async (...wanted: readonly Recipe[]) =>
    (await Promise.all(
      wanted.map(async (recipe) => await store.holds(recipe) ? [] : [recipe]),
    )).flat();
  const toolsOf = (list: readonly Recipe[]) => list.flatMap(({ tools }) => tools);
  const absent = await missing(kernel, gvproxy, rootfs.root, ...ofLinux);
  if (absent.includes(kernel) || absent.includes(rootfs.root)) {
    checkBuilder(guestArch(options.config));
  }
  const tools = toolsOf(absent);
  // When the root image is there, nothing it was made of is needed any more.
  if (rootfs.root.tools.some((tool) => tools.includes(tool))) {
    tools.push(...toolsOf(await missing(rootfs.base.recipe, rootfs.cluster, ...rootfs.images)));
  }
  await ensureTools([...tools, ...startTools(options.config)], options);
}

/**
 * What a start runs when everything is built. A user of libkrun does not need QEMU. On a Mac libkrun is tried first, so QEMU
 * is required only where it was requested; if libkrun does not work, the error names what to install.
 */
export function startTools(
  config: EnsureArtifactsOptions["config"],
  { os }: Pick<HostPlatform, "os"> = thisHost(),
): HostTool[] {
  if (config?.vmm === "libkrun" || os === "darwin" && config?.vmm !== "qemu") return [SSH_TOOL];
  return [qemuTool(guestArch(config)), SSH_TOOL];
}
