/**
 * Every artifact in a store by its manifest, whatever recipe it was made by.
 * It must not verify a byte; the store does that when an artifact is used or signed.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import type { ArtifactStore } from "./artifact.ts";
import type { Artifact, ArtifactManifest } from "./recipe.ts";

/** The artifacts of all manifests that can be read, the newest first. */
export async function storedArtifacts(store: ArtifactStore): Promise<Artifact[]> {
  const dir = dirname(store.manifestPath("any", "any"));
  const found: Artifact[] = [];
  try {
    for await (const { name } of Deno.readDir(dir)) {
      if (!name.endsWith(".json")) continue;
      const manifest = parse(await Deno.readTextFile(join(dir, name)));
      // A manifest under the name of a different artifact describes nothing that a start would find.
      if (!manifest || store.manifestPath(manifest.name, manifest.key) !== join(dir, name)) {
        continue;
      }
      found.push(asArtifact(store, manifest));
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return found.sort((a, b) => (a.manifest.builtAt < b.manifest.builtAt ? 1 : -1));
}

/** Undefined for a text that is not a manifest; a start does not use such a file either. */
function parse(text: string): ArtifactManifest | undefined {
  try {
    const manifest: ArtifactManifest = JSON.parse(text);
    const whole = typeof manifest.name === "string" && typeof manifest.key === "string" &&
      typeof manifest.files === "object";
    return whole ? manifest : undefined;
  } catch {
    return undefined;
  }
}

function asArtifact(store: ArtifactStore, manifest: ArtifactManifest): Artifact {
  const files = Object.entries(manifest.files).map(([name, { sha256, sizeBytes }]) =>
    [name, { path: store.blobPath(sha256, name), sha256, sizeBytes }] as const
  );
  const { name, key } = manifest;
  return { name, key, files: Object.fromEntries(files), manifest };
}
