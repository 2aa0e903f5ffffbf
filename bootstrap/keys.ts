/**
 * `gateway keys`: the user's signing key, the keys that are trusted, and signing what is there.
 * It must not build anything, and never shows a secret key.
 *
 * @module
 */
import { type Artifact, ArtifactStore } from "../vm/artifact.ts";
import { GatewayError } from "../vm/error.ts";
import type { Span } from "../vm/event.ts";
import { type KeyList } from "../vm/signing.ts";
import { stockRecipes } from "./artifacts.ts";
import { ensureProvenance } from "./image_set.ts";

/**
 * Signs everything that a start boots from, after hashing it anew. Returns the names.
 *
 * @throws GatewayError `build-failed` when something was not built yet, `artifact-corrupt`, `signature-invalid` when it
 * was changed after it had been signed, `usage` when there is no key.
 */
export async function signAll(options: {
  readonly span: Span;
  readonly signal: AbortSignal;
  readonly clusterBinary?: string;
  readonly store?: ArtifactStore;
}): Promise<string[]> {
  // A repairing store looks at what has no signature yet.
  const { store = new ArtifactStore(undefined, { repair: true }) } = options;
  const artifacts: Artifact[] = [];
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
    artifacts.push(artifact);
  }
  for (const artifact of artifacts) await store.sign(artifact);
  await ensureProvenance(store, artifacts, { sign: true });
  return artifacts.map(({ name }) => name);
}

/** The keys for people. */
export function keysText({ signing, trusted, dir }: KeyList): string {
  const asked = trusted.length > 0
    ? trusted.map((id) => `  ${id}${id === signing ? "   (this user's own)" : ""}`)
    : ["  none: no signature is asked for"];
  return [`signing key  ${signing ?? "none"}`, "trusted keys", ...asked, `folder       ${dir}`]
    .join("\n");
}
