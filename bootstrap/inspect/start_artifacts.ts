/**
 * The table of all artifacts that a start may take from the store. `gateway keys sign` signs by it and `gateway
 * provenance` compares by it. Nothing is built here.
 *
 * @module
 */
import { PULLED_PREFIX, pullerRecipe } from "../../rootfs/images/pulled.ts";
import type { Span } from "../../vm/base/event.ts";
import { libkrunRecipe } from "../../vm/libkrun/build.ts";
import { vmmProcessRecipe } from "../../vm/libkrun/vmm_bundle.ts";
import type { Artifact, ArtifactStore, Recipe } from "../../vm/store/artifact.ts";
import { allRecipes, type EnsureArtifactsOptions, type Recipes } from "../artifacts/ensure.ts";
import { isGoldenDiskOf } from "../saved/golden_disk.ts";

/** An artifact that one recipe of this version makes. */
type OwnKind = (recipes: Recipes) => Recipe | Promise<Recipe> | readonly Recipe[];

/** Artifacts of which there may be several, since their inputs are the user's choice. */
type ChosenKind = (artifact: Artifact, boot: readonly Artifact[]) => boolean;

/** Taken by every start. */
const STOCK: readonly OwnKind[] = [
  ({ kernel }) => kernel,
  ({ rootfs }) => rootfs.root,
  ({ gvproxy }) => gvproxy,
  ({ ofLinux }) => ofLinux,
];

/** Taken by some starts, where they were made. */
const OPTIONAL: readonly OwnKind[] = [
  // A start reads its manifest: the packages are in the key of the root image.
  ({ rootfs }) => rootfs.base.recipe,
  () => pullerRecipe(),
  ({ rootfs }) => rootfs.helmImage,
  () => libkrunRecipe(Deno.build.arch),
  () => vmmProcessRecipe(),
];

const CHOSEN: readonly ChosenKind[] = [
  // Images and charts that payloads name by digest.
  ({ name }) => name.startsWith(PULLED_PREFIX),
  // One for each size of the state disk.
  (artifact, boot) => isGoldenDiskOf(artifact, boot),
];

/** How the recipes are chosen. */
export interface StartOptions {
  readonly span: Span;
  readonly signal: AbortSignal;
  /** A cluster binary of the user's instead of our own. */
  readonly clusterBinary?: string;
  /** Its `arch` is the guest's; this host's without it. */
  readonly config?: EnsureArtifactsOptions["config"];
}

/** The recipes of what every start of this version takes. */
export async function stockRecipes(
  store: ArtifactStore,
  options: StartOptions,
): Promise<readonly Recipe[]> {
  return await recipesOf(STOCK, store, options);
}

/** The recipes of what some starts of this version take. */
export async function optionalRecipes(
  store: ArtifactStore,
  options: StartOptions,
): Promise<readonly Recipe[]> {
  return await recipesOf(OPTIONAL, store, options);
}

async function recipesOf(
  kinds: readonly OwnKind[],
  store: ArtifactStore,
  options: StartOptions,
): Promise<readonly Recipe[]> {
  const recipes = await allRecipes({ ...options, assumeYes: false }, store);
  return (await Promise.all(kinds.map((kind) => kind(recipes)))).flat();
}

/** Of stored artifacts, those that a start with these boot artifacts may take by the user's choice. */
export function chosenArtifacts(
  stored: readonly Artifact[],
  boot: readonly Artifact[],
): Artifact[] {
  return stored.filter((artifact) => CHOSEN.some((takes) => takes(artifact, boot)));
}
