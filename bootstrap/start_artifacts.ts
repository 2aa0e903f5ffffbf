/**
 * The table of all artifacts that a start may take from the store. `gateway keys sign` signs by it and `gateway
 * provenance` compares by it.
 * It must not build anything.
 *
 * @module
 */
import { PULLED_PREFIX, pullerRecipe } from "../rootfs/pulled.ts";
import type { Artifact, ArtifactStore, Recipe } from "../vm/artifact.ts";
import type { Span } from "../vm/event.ts";
import { libkrunRecipe } from "../vm/libkrun_build.ts";
import { vmmProcessRecipe } from "../vm/vmm_bundle.ts";
import { allRecipes, hostArch, type Recipes } from "./artifacts.ts";
import { isGoldenDiskOf } from "./golden_disk.ts";

/** Artifacts that one recipe of this version makes. */
interface OwnKind {
  /** Whether every start takes it; the others are taken where they were made. */
  readonly always: boolean;
  readonly recipe: (recipes: Recipes) => Recipe | Promise<Recipe>;
}

/** Artifacts of which there may be several, since their inputs are the user's choice. */
type ChosenKind = (artifact: Artifact, boot: readonly Artifact[]) => boolean;

/** Taken by every start first, then those of some starts. */
const OWN: readonly OwnKind[] = [
  { always: true, recipe: ({ kernel }) => kernel },
  { always: true, recipe: ({ rootfs }) => rootfs.root },
  { always: true, recipe: ({ gvproxy }) => gvproxy },
  { always: true, recipe: ({ tsc }) => tsc },
  { always: true, recipe: ({ ramshim }) => ramshim },
  // A start reads its manifest: the packages are in the key of the root image.
  { always: false, recipe: ({ rootfs }) => rootfs.base.recipe },
  { always: false, recipe: () => pullerRecipe() },
  { always: false, recipe: ({ rootfs }) => rootfs.helmImage },
  { always: false, recipe: () => libkrunRecipe(hostArch()) },
  { always: false, recipe: () => vmmProcessRecipe() },
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
}

/** The recipes of what every start of this version takes. */
export async function stockRecipes(
  store: ArtifactStore,
  options: StartOptions,
): Promise<readonly Recipe[]> {
  return await recipesOf(store, options, true);
}

/** The recipes of what some starts of this version take. */
export async function optionalRecipes(
  store: ArtifactStore,
  options: StartOptions,
): Promise<readonly Recipe[]> {
  return await recipesOf(store, options, false);
}

async function recipesOf(store: ArtifactStore, options: StartOptions, always: boolean) {
  const recipes = await allRecipes({ ...options, assumeYes: false }, store);
  return await Promise.all(
    OWN.filter((kind) => kind.always === always).map((kind) => kind.recipe(recipes)),
  );
}

/** Of stored artifacts, those that a start with these boot artifacts may take by the user's choice. */
export function chosenArtifacts(
  stored: readonly Artifact[],
  boot: readonly Artifact[],
): Artifact[] {
  return stored.filter((artifact) => CHOSEN.some((takes) => takes(artifact, boot)));
}
