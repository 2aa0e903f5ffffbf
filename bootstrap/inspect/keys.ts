/**
 * `gateway keys`: the user's signing key, the keys that are trusted, and signing what is there.
 * It must not build anything, and never shows a secret key.
 *
 * @module
 */
import { hostArch } from "../../vm/base/arch.ts";
import { describeError, GatewayError } from "../../vm/base/error.ts";
import { type Artifact, ArtifactStore, recipeKey } from "../../vm/store/artifact.ts";
import type { KeyList } from "../../vm/store/signing.ts";
import { storedArtifacts } from "../../vm/store/stored.ts";
import { ensureProvenance } from "../artifacts/statement.ts";
import {
  chosenArtifacts,
  optionalRecipes,
  type StartOptions,
  stockRecipes,
} from "./start_artifacts.ts";

/**
 * Signs everything that a start may take from the store, after hashing it anew. Returns the names. An artifact that only
 * some starts take and that is damaged is left unsigned, with a warning.
 *
 * @throws GatewayError `build-failed` when what every start takes was not built yet, `artifact-corrupt`,
 * `signature-invalid` when a manifest was changed after it had been signed, `usage` without a signing key.
 */
export async function signAll(
  options: StartOptions & { readonly store?: ArtifactStore },
): Promise<string[]> {
  // A repairing store looks at what has no signature yet.
  const { store = new ArtifactStore(undefined, { repair: true }) } = options;
  const names = await signGuest(store, options);
  // Guests of another processor are optional, and an arm64 host has none.
  if (hostArch() !== "amd64") return names;
  const foreign = { ...options, config: { vmm: "auto", arch: "arm64" } } as const;
  const parts = await stockRecipes(store, foreign);
  const built = await Promise.all(parts.map((recipe) => store.lookup(recipe)));
  if (built.includes(undefined)) return names;
  return [...new Set([...names, ...await signGuest(store, foreign)])];
}

/** What starts of guests of one processor take. */
async function signGuest(store: ArtifactStore, options: StartOptions): Promise<string[]> {
  const boot: Artifact[] = [];
  for (const recipe of await stockRecipes(store, options)) {
    const artifact = await store.lookup(recipe);
    if (!artifact) {
      throw new GatewayError({
        code: "build-failed",
        what: `Cannot sign ${recipe.label}`,
        why: "it was not built yet",
        fix: "run `gateway build all` first",
      });
    }
    boot.push(artifact);
  }
  for (const artifact of boot) await store.sign(artifact);
  await ensureProvenance(store, boot, { sign: true });
  const more = await signOptional(store, boot, options);
  return [...boot, ...more].map(({ name }) => name);
}

/** Signs what only some starts take; gives what was signed. */
async function signOptional(
  store: ArtifactStore,
  boot: readonly Artifact[],
  options: StartOptions,
): Promise<Artifact[]> {
  const stored = await storedArtifacts(store);
  const keys = (await optionalRecipes(store, options)).map(recipeKey);
  const signed: Artifact[] = [];
  const own = stored.filter(({ key }) => keys.includes(key));
  for (const artifact of [...own, ...chosenArtifacts(stored, boot)]) {
    try {
      await store.sign(artifact);
      signed.push(artifact);
    } catch (error) {
      if (options.signal.aborted) throw error;
      options.span.warn(`not signed: ${describeError(error)}`);
    }
  }
  return signed;
}

/** The keys for people. */
export function keysText({ signing, trusted, dir }: KeyList): string {
  const asked = trusted.length > 0
    ? trusted.map((id) => `  ${id}${id === signing ? "   (this user's own)" : ""}`)
    : ["  none: no signature is asked for"];
  return [`signing key  ${signing ?? "none"}`, "trusted keys", ...asked, `folder       ${dir}`]
    .join("\n");
}
