/**
 * The content-addressed artifact store: what is built or downloaded is verified when written and when opened,
 * written under a temporary name and renamed, and found again by the digest of everything it was made from.
 * It must not know what any artifact is.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { asDiskFull, describeError, GatewayError } from "./error.ts";
import type { JsonValue, Span } from "./event.ts";
import { canonicalJson, digestBytes, digestFile } from "./digest.ts";
import { ensureTools, type HostTool } from "./host_tools.ts";
import { cacheDir, exists, writeFileAtomic } from "./layout.ts";
import { waitFor } from "./wait.ts";

export { canonicalJson, digestBytes, digestFile, digestTree } from "./digest.ts";
export type { HostTool } from "./host_tools.ts";

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
  readonly store: ArtifactStore;
}

/** One stored file. */
export interface ArtifactFile {
  /** Absolute, read-only to everybody. */
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
}

/** Options of {@linkcode ArtifactStore.ensure}. */
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

/** The key of a recipe: the digest of its name, outputs and inputs. */
export function recipeKey(recipe: Recipe): string {
  const { name, inputs, outputs } = recipe;
  return digestBytes(canonicalJson({ name, inputs, outputs: [...outputs] }));
}

/** The store below one folder, by default `$XDG_CACHE_HOME/gateway`. */
export class ArtifactStore {
  /** The cache folder. */
  readonly root: string;
  /** Long-lived build caches. */
  readonly buildCacheDir: string;

  /** Nothing is created until something is written. */
  constructor(root: string = cacheDir()) {
    this.root = root;
    this.buildCacheDir = join(root, "build");
  }

  /** Where the log of a recipe's last build is. */
  logPath(name: string): string {
    return join(this.root, "logs", `${name}.log`);
  }

  #manifestPath(name: string, key: string): string {
    return join(this.root, "artifacts", "manifests", `${name}-${key.slice(0, 16)}.json`);
  }

  #blobPath(sha256: string, name: string): string {
    return join(this.root, "artifacts", "sha256", sha256, name);
  }

  /**
   * The artifact if it is there and its bytes are those that were written.
   *
   * @throws GatewayError `artifact-corrupt` when a file was changed, cut or lost.
   */
  async lookup(recipe: Recipe): Promise<Artifact | undefined> {
    const key = recipeKey(recipe);
    let manifest: ArtifactManifest;
    try {
      manifest = JSON.parse(await Deno.readTextFile(this.#manifestPath(recipe.name, key)));
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return undefined;
      throw error;
    }
    if (manifest.schemaVersion !== 1 || manifest.key !== key) return undefined;
    const files: Record<string, ArtifactFile> = {};
    for (const name of recipe.outputs) {
      const entry = manifest.files?.[name];
      if (!entry) return undefined;
      const path = this.#blobPath(entry.sha256, name);
      await this.#verify(recipe, path, entry.sha256, entry.sizeBytes);
      files[name] = { path, sha256: entry.sha256, sizeBytes: entry.sizeBytes };
    }
    return { name: recipe.name, key, files, manifest };
  }

  /** Finds the artifact or builds it; only one process builds a key at a time, the others wait for it. */
  async ensure(recipe: Recipe, options: EnsureOptions): Promise<Artifact> {
    const found = await this.#lookupOrDiscard(recipe, options.span);
    if (found) return found;
    return await options.span.run(`build ${recipe.name}`, async (span) => {
      await ensureTools(recipe.tools, { ...options, span, logPath: await this.#ensureLog("apt") });
      using _lock = await this.#lock(recipe, span, options.signal);
      // Another process may have built it while we waited.
      return await this.#lookupOrDiscard(recipe, span) ?? await this.#build(recipe, options, span);
    }, { label: recipe.label });
  }

  async #lookupOrDiscard(recipe: Recipe, span: Span): Promise<Artifact | undefined> {
    try {
      return await this.lookup(recipe);
    } catch (error) {
      if (!(error instanceof GatewayError) || error.code !== "artifact-corrupt") throw error;
      span.warn(`${error.message}; building it again`);
      await Deno.remove(this.#manifestPath(recipe.name, recipeKey(recipe))).catch(() => {});
      return undefined;
    }
  }

  async #lock(recipe: Recipe, span: Span, signal: AbortSignal): Promise<Disposable> {
    const dir = join(this.root, "work");
    await Deno.mkdir(dir, { recursive: true });
    const file = await Deno.open(join(dir, `${recipe.name}.lock`), { create: true, write: true });
    try {
      if (!await file.tryLock(true)) {
        span.log(`another process builds ${recipe.label}; waiting for it`);
        await waitFor({
          what: `the other build of ${recipe.label}`,
          probe: async () => (await file.tryLock(true)) || undefined,
          timeoutMs: 90 * 60_000,
          intervalMs: 250,
          signal,
        });
      }
      return file;
    } catch (error) {
      file.close();
      throw error;
    }
  }

  async #ensureLog(name: string): Promise<string> {
    const path = this.logPath(name);
    await Deno.mkdir(dirname(path), { recursive: true });
    return path;
  }

  async #build(recipe: Recipe, options: EnsureOptions, span: Span): Promise<Artifact> {
    const key = recipeKey(recipe);
    const workDir = join(this.root, "work", `${recipe.name}-${key.slice(0, 16)}`);
    const outDir = join(workDir, "out");
    const logPath = await this.#ensureLog(recipe.name);
    const started = performance.now();
    try {
      await Deno.mkdir(workDir, { recursive: true });
      await Deno.remove(outDir, { recursive: true }).catch(() => {});
      await Deno.mkdir(outDir);
      await Deno.writeTextFile(logPath, `# ${recipe.label} ${key}\n`);
      await Deno.mkdir(this.buildCacheDir, { recursive: true });
      const facts = await recipe.build({
        outDir,
        workDir,
        logPath,
        span,
        signal: options.signal,
        jobs: options.jobs ?? navigator.hardwareConcurrency,
        cacheDir: this.buildCacheDir,
        store: this,
      });
      const artifact = await this.#keep(recipe, key, outDir, facts ?? {}, started);
      await Deno.remove(workDir, { recursive: true });
      return artifact;
    } catch (error) {
      const cause = asDiskFull(error, workDir);
      if (cause instanceof GatewayError) throw cause;
      throw new GatewayError({
        code: "build-failed",
        what: `Cannot build ${recipe.label}`,
        why: describeError(error),
        fix: `read ${logPath}, then run \`gateway build ${recipe.name}\` again: it resumes`,
        cause,
      });
    }
  }

  async #keep(
    recipe: Recipe,
    key: string,
    outDir: string,
    facts: Record<string, JsonValue>,
    started: number,
  ): Promise<Artifact> {
    const files: Record<string, ArtifactFile> = {};
    for (const name of recipe.outputs) {
      const built = join(outDir, name);
      if (!await exists(built)) throw new Error(`the build left no ${name}`);
      await syncFile(built);
      const sha256 = await digestFile(built);
      const path = this.#blobPath(sha256, name);
      await Deno.mkdir(dirname(path), { recursive: true });
      await Deno.rename(built, path);
      const info = await Deno.stat(path);
      await this.#stamp(path, sha256, info);
      files[name] = { path, sha256, sizeBytes: info.size };
    }
    const manifest: ArtifactManifest = {
      schemaVersion: 1,
      name: recipe.name,
      label: recipe.label,
      key,
      inputs: recipe.inputs,
      files: Object.fromEntries(
        Object.entries(files).map(([name, { sha256, sizeBytes }]) => [name, { sha256, sizeBytes }]),
      ),
      facts,
      builtAt: new Date().toISOString(),
      buildMs: Math.round(performance.now() - started),
    };
    const path = this.#manifestPath(recipe.name, key);
    await Deno.mkdir(dirname(path), { recursive: true });
    await writeFileAtomic(path, JSON.stringify(manifest, null, 2) + "\n", 0o644);
    return { name: recipe.name, key, files, manifest };
  }

  /**
   * Compares a file with its digest. Hashing hundreds of MiB at every start would cost more than the boot's own
   * first step, so the result is remembered for exactly this inode, size, mtime and ctime: any write to the file
   * changes its ctime, which no unprivileged program can set back.
   */
  async #verify(recipe: Recipe, path: string, sha256: string, sizeBytes: number): Promise<void> {
    const corrupt = (why: string) =>
      new GatewayError({
        code: "artifact-corrupt",
        what: `Cannot use ${recipe.label}`,
        why,
        fix: `run \`gateway build ${recipe.name}\` to make it again`,
      });
    let info: Deno.FileInfo;
    try {
      info = await Deno.stat(path);
    } catch {
      throw corrupt(`"${path}" is gone`);
    }
    if (info.size !== sizeBytes) {
      throw corrupt(`"${path}" has ${info.size} bytes instead of ${sizeBytes}`);
    }
    const known = await Deno.readTextFile(`${path}.verified`).catch(() => "");
    if (known === stampText(sha256, info)) return;
    const found = await digestFile(path);
    if (found !== sha256) {
      throw corrupt(`"${path}" has sha256 ${found} instead of ${sha256}`);
    }
    await this.#stamp(path, sha256, info);
  }

  async #stamp(path: string, sha256: string, info: Deno.FileInfo): Promise<void> {
    // A read-only store is still usable, only slower.
    await writeFileAtomic(`${path}.verified`, stampText(sha256, info), 0o644).catch(() => {});
  }
}

function stampText(sha256: string, info: Deno.FileInfo): string {
  return [sha256, info.ino, info.size, info.mtime?.getTime(), info.ctime?.getTime()].join(" ");
}

async function syncFile(path: string): Promise<void> {
  using file = await Deno.open(path, { read: true });
  await file.syncData();
}
