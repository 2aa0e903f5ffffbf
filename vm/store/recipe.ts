/**
 * The words of the artifact store: how an artifact is made, what a build gets, and what is kept about the outcome.
 * It must not hold code.
 *
 * @module
 */
import type { JsonValue, Span } from "../base/event.ts";
import type { HostTool } from "../base/host_tools.ts";
import type { BuilderFacts } from "./builder.ts";

/** How one artifact is made. Everything that decides its bytes is in `inputs`. */
export interface Recipe {
  /** One artifact each, such as "kernel"; also a file name. */
  readonly name: string;
  /** What the user reads: "Linux 6.12 kernel". */
  readonly label: string;
  /** Versions, digests of sources, flags. Its canonical JSON's sha256 is the key. */
  readonly inputs: Readonly<Record<string, string>>;
  /** File names that build() leaves in outDir. */
  readonly outputs: readonly string[];
  /** Host programs needed to build; not looked for when the artifact is there. */
  readonly tools: readonly HostTool[];
  /** Leaves the outputs in ctx.outDir; may return extra facts for the manifest. */
  build(ctx: BuildContext): Promise<Record<string, JsonValue> | void>;
}

/** What a build gets. */
export interface BuildContext {
  /** Empty at the start of each try. */
  readonly outDir: string;
  /** Kept over an interrupted build of the same key, so that it can resume; removed when done. */
  readonly workDir: string;
  /** Append what tools print here. */
  readonly logPath: string;
  /** The build's own span; the store ends it. */
  readonly span: Span;
  /** Ends the build. */
  readonly signal: AbortSignal;
  /** Parallel jobs to use. */
  readonly jobs: number;
  /** Shared and long-lived: Go caches, package downloads. */
  readonly cacheDir: string;
  /** For recipes that are made from other artifacts. */
  readonly store: Ingredients;
}

/** Where a build gets other artifacts from: the store that it runs for. */
export interface Ingredients {
  /** Its folder. */
  readonly root: string;
  /** The artifact of a recipe, built first where it is missing. */
  ensure(recipe: Recipe, options: EnsureOptions): Promise<Artifact>;
}

/** One stored file. */
export interface ArtifactFile {
  /** Absolute. Nothing writes to it, though its mode may allow that to its owner. */
  readonly path: string;
  /** Of its bytes, hexadecimal. */
  readonly sha256: string;
  /** Length of the file. */
  readonly sizeBytes: number;
}

/** A verified artifact. */
export interface Artifact {
  /** The recipe's name. */
  readonly name: string;
  /** {@linkcode recipeKey} of the recipe it was made by. */
  readonly key: string;
  /** By output name. */
  readonly files: Readonly<Record<string, ArtifactFile>>;
  /** How and when it was made. */
  readonly manifest: ArtifactManifest;
}

/** What is kept about an artifact; plain JSON. */
export interface ArtifactManifest {
  /** Of this file's format. */
  readonly schemaVersion: 1;
  /** The recipe's name. */
  readonly name: string;
  /** What the user reads. */
  readonly label: string;
  /** Digest of everything that decides the bytes. */
  readonly key: string;
  /** The recipe's inputs at the time. */
  readonly inputs: Readonly<Record<string, string>>;
  /** Digest and size by output name. */
  readonly files: Readonly<Record<string, { readonly sha256: string; readonly sizeBytes: number }>>;
  /** What the build found out, such as exact package versions. */
  readonly facts: Readonly<Record<string, JsonValue>>;
  /** ISO 8601. */
  readonly builtAt: string;
  /** Wall time of the build that finished. */
  readonly buildMs: number;
  /** What built it; later than the first version of this file, so an older manifest lacks it. */
  readonly builder?: BuilderFacts;
}

/** Options of {@linkcode Ingredients.ensure}. */
export interface EnsureOptions {
  /** Gets a child per build. */
  readonly span: Span;
  /** Ends a running build. */
  readonly signal: AbortSignal;
  /** Install missing host tools without asking. */
  readonly assumeYes: boolean;
  /** Parallel jobs of a build; one per CPU by default. */
  readonly jobs?: number;
}
