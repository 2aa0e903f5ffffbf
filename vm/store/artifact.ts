/**
 * This room is the cache of built and downloaded files, with their recipes, manifests and signatures. The recipes
 * themselves are beside what they build. Read recipe.ts next, then signing.ts.
 *
 * The content-addressed artifact store: what is built or downloaded is verified when written and when opened,
 * written under a temporary name and renamed, and found again by the digest of everything it was made from.
 * It must not know what any artifact is.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { canonicalJson, digestBytes, digestFile } from "../base/digest.ts";
import { renameDurable, syncFile, writeFileAtomic } from "../base/durable.ts";
import { abortError, GatewayError } from "../base/error.ts";
import type { JsonValue, Span } from "../base/event.ts";
import { ensureTools } from "../base/host_tools.ts";
import { cacheDir, exists, refuseForeignDir } from "../base/layout.ts";
import { keepStamp } from "../base/stamp.ts";
import { lockArtifact } from "./artifact_lock.ts";
import { builderFacts } from "./builder.ts";
import { Embedded } from "./embedded.ts";
import {
  buildFailed,
  corrupt,
  noSigningKey,
  unpackFailed,
  unsignedBuild,
  untrusted,
} from "./errors.ts";
import type { Artifact, ArtifactFile, ArtifactManifest, EnsureOptions, Recipe } from "./recipe.ts";
import { keysDir, type SignatureState, signFile, Trust } from "./signing.ts";
import { VerifiedFiles } from "./verified_files.ts";

export type {
  Artifact,
  ArtifactFile,
  ArtifactManifest,
  BuildContext,
  EnsureOptions,
  Ingredients,
  Recipe,
} from "./recipe.ts";
export { canonicalJson, digestBytes, digestFile, digestTree } from "../base/digest.ts";
export type { HostTool } from "../base/host_tools.ts";

/** The key of a recipe: the digest of its name, outputs and inputs. */
export function recipeKey(recipe: Pick<Recipe, "name" | "inputs" | "outputs">): string {
  const { name, inputs, outputs } = recipe;
  return digestBytes(canonicalJson({ name, inputs, outputs: [...outputs] }));
}

/** What a store does beyond keeping files. */
export interface StoreOptions {
  /** Where signing and trusted keys are; the user's own by default. */
  readonly keysDir?: string;
  /** Replaces what was damaged even when signatures are asked for: `gateway build` does, a boot does not. */
  readonly repair?: boolean;
  /** Artifacts that come with a file; those of the running one by default. */
  readonly embedded?: () => Promise<Embedded>;
}

/** The store below one folder, by default `$XDG_CACHE_HOME/gateway`. */
export class ArtifactStore {
  /** The cache folder. */
  readonly root: string;
  /** Long-lived build caches. */
  readonly buildCacheDir: string;

  readonly #keysDir: string;
  readonly #repair: boolean;
  readonly #embedded: () => Promise<Embedded>;
  readonly #verified = new VerifiedFiles();
  #trustRead: Promise<Trust> | undefined;

  /** Nothing is created until something is written. */
  constructor(root: string = cacheDir(), options: StoreOptions = {}) {
    this.root = root;
    this.buildCacheDir = join(root, "build");
    this.#keysDir = options.keysDir ?? keysDir();
    this.#repair = options.repair === true;
    this.#embedded = options.embedded ?? (() => Embedded.ofThisProgram());
  }

  #trust(): Promise<Trust> {
    return this.#trustRead ??= Trust.load(this.#keysDir);
  }

  /** Where the log of a recipe's last build is. */
  logPath(name: string): string {
    return join(this.root, "logs", `${name}.log`);
  }

  /** Where the manifest of an artifact is. */
  manifestPath(name: string, key: string): string {
    return join(this.root, "artifacts", "manifests", `${name}-${key.slice(0, 16)}.json`);
  }

  /** Where a file of an artifact is. */
  blobPath(sha256: string, name: string): string {
    return join(this.root, "artifacts", "sha256", sha256, name);
  }

  /**
   * The artifact if it is there and its bytes are those that were written, and signed if a key is trusted.
   *
   * @throws GatewayError `artifact-corrupt` when a file was changed, cut or lost, `signature-invalid` when the manifest
   * has no good signature by a trusted key, `permission` when another user may write here.
   */
  async lookup(recipe: Recipe): Promise<Artifact | undefined> {
    const manifest = await this.#readManifest(recipe);
    if (!manifest) return undefined;
    const files: Record<string, ArtifactFile> = {};
    for (const name of recipe.outputs) {
      const entry = manifest.files?.[name];
      if (!entry) return undefined;
      const { sha256, sizeBytes } = entry;
      files[name] = { path: this.blobPath(sha256, name), sha256, sizeBytes };
      await this.#verified.check(recipe, files[name], (await this.#trust()).active);
    }
    return { name: recipe.name, key: manifest.key, files, manifest };
  }

  /**
   * The manifest of an artifact that was built here or whose manifest this program's file brings; its files may be gone.
   *
   * @throws GatewayError `signature-invalid`, `permission` as {@linkcode lookup}.
   */
  async manifest(recipe: Recipe): Promise<ArtifactManifest | undefined> {
    return await this.#readManifest(recipe) ??
      (await this.#embedded()).record(recipeKey(recipe));
  }

  async #readManifest(recipe: Recipe): Promise<ArtifactManifest | undefined> {
    await refuseForeignDir(this.root);
    const key = recipeKey(recipe);
    try {
      const path = this.manifestPath(recipe.name, key);
      const bytes = await Deno.readFile(path);
      await this.#checkSignature(recipe, path, bytes);
      const manifest: ArtifactManifest = JSON.parse(new TextDecoder().decode(bytes));
      return manifest.schemaVersion === 1 && manifest.key === key ? manifest : undefined;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return undefined;
      throw error;
    }
  }

  /** How an artifact's manifest stands to the trusted keys. */
  async signatureOf(artifact: Pick<Artifact, "name" | "key">): Promise<SignatureState> {
    const path = this.manifestPath(artifact.name, artifact.key);
    return await (await this.#trust()).check(path, await Deno.readFile(path));
  }

  /**
   * Signs what is there with the key of this user, after hashing every file of it anew.
   *
   * @throws GatewayError `key-missing` when there is no key, `artifact-corrupt` when a file is not what its manifest says,
   * `signature-invalid` when the manifest was changed after it had been signed.
   */
  async sign(artifact: Artifact): Promise<void> {
    for (const { path, sha256 } of Object.values(artifact.files)) {
      const found = await digestFile(path).catch(() => "unreadable");
      if (found !== sha256) {
        throw corrupt(artifact, `"${path}" has sha256 ${found} instead of ${sha256}`);
      }
    }
    const path = this.manifestPath(artifact.name, artifact.key);
    const bytes = await Deno.readFile(path);
    const trust = await this.#trust();
    const before = await trust.check(path, bytes);
    if (trust.active && before.state === "invalid") {
      throw untrusted(artifact.manifest, true, before.why);
    }
    if (await signFile(path, bytes, this.#keysDir)) return;
    throw noSigningKey();
  }

  /** Signs a text that is about to be written to the path; false when there is no signing key. */
  async signText(path: string, text: string): Promise<boolean> {
    return await signFile(path, new TextEncoder().encode(text), this.#keysDir);
  }

  /** With a trusted key nothing unsigned is used. A repairing store only throws out what was changed. */
  async #checkSignature(recipe: Recipe, path: string, bytes: Uint8Array): Promise<void> {
    const trust = await this.#trust();
    if (!trust.active) return;
    const found = await trust.check(path, bytes);
    if (found.state === "signed" || (this.#repair && found.state !== "invalid")) return;
    throw untrusted(recipe, found.state === "invalid", found.why);
  }

  /** Whether the artifact is here or comes with this program's file, so that nothing is needed to build it. */
  async holds(recipe: Recipe): Promise<boolean> {
    if (await this.lookup(recipe).catch(() => undefined)) return true;
    return await this.brings(recipe);
  }

  /** Whether this program's file has the artifact. */
  async brings(recipe: Recipe): Promise<boolean> {
    return (await this.#embedded()).manifest(recipeKey(recipe)) !== undefined;
  }

  /** The artifact if it is here, or unpacked out of this program's file; nothing is built. */
  async find(
    recipe: Recipe,
    options: Pick<EnsureOptions, "span" | "signal">,
  ): Promise<Artifact | undefined> {
    const found = await this.#lookupOrDiscard(recipe, options.span);
    const manifest = (await this.#embedded()).manifest(recipeKey(recipe));
    if (found || !manifest) return found;
    await this.#mayBuild(recipe);
    return await options.span.run(`unpack ${recipe.name}`, async (span) => {
      using _lock = await lockArtifact(this.root, recipe, { ...options, span });
      return await this.#lookupOrDiscard(recipe, span) ??
        await this.#unpack(recipe, manifest, options.signal);
    }, { label: recipe.label });
  }

  /** Finds the artifact or builds it; only one process builds a key at a time, the others wait for it. */
  async ensure(recipe: Recipe, options: EnsureOptions): Promise<Artifact> {
    return await this.find(recipe, options) ??
      await this.#make(recipe, options, (span) => this.#lookupOrDiscard(recipe, span));
  }

  /** Builds the artifact although it is there. The new one takes its place once it is whole. */
  async rebuild(recipe: Recipe, options: EnsureOptions): Promise<Artifact> {
    return await this.#make(recipe, options, () => Promise.resolve(undefined));
  }

  async #make(
    recipe: Recipe,
    options: EnsureOptions,
    found: (span: Span) => Promise<Artifact | undefined>,
  ): Promise<Artifact> {
    await this.#mayBuild(recipe);
    return await options.span.run(`build ${recipe.name}`, async (span) => {
      await ensureTools(recipe.tools, { ...options, span, logPath: await this.#ensureLog("apt") });
      using _lock = await lockArtifact(this.root, recipe, { ...options, span });
      // Another process may have built it while we waited.
      return await found(span) ?? await this.#build(recipe, options, span);
    }, { label: recipe.label });
  }

  async #lookupOrDiscard(recipe: Recipe, span: Span): Promise<Artifact | undefined> {
    try {
      return await this.lookup(recipe);
    } catch (error) {
      const codes = ["artifact-corrupt", "signature-invalid"];
      if (!(error instanceof GatewayError) || !codes.includes(error.code)) throw error;
      // Whoever trusts a key wants to hear of a change, and not have it papered over.
      if (!this.#repair && (await this.#trust()).active) throw error;
      span.warn(`${error.message}; building it again`);
      const path = this.manifestPath(recipe.name, recipeKey(recipe));
      for (const gone of [path, `${path}.sig`]) await Deno.remove(gone).catch(() => {});
      return undefined;
    }
  }

  /** Whether a start would take what is built now: no key is trusted, or a trusted one signs here. */
  async signsBuilds(): Promise<boolean> {
    const trust = await this.#trust();
    return !trust.active || await trust.signsHere();
  }

  /** A build that nobody here could sign would only be refused after it. */
  async #mayBuild(recipe: Recipe): Promise<void> {
    if (this.#repair || await this.signsBuilds()) return;
    throw unsignedBuild(recipe);
  }

  async #unpack(
    recipe: Recipe,
    manifest: ArtifactManifest,
    signal: AbortSignal,
  ): Promise<Artifact> {
    const outDir = join(this.root, "work", `${recipe.name}-${manifest.key.slice(0, 16)}.unpack`);
    try {
      await Deno.remove(outDir, { recursive: true }).catch(() => {});
      await Deno.mkdir(outDir);
      await (await this.#embedded()).unpack(manifest.key, outDir, signal);
      const files = await this.#keepFiles(recipe, outDir, manifest.files);
      await this.#writeManifest(manifest);
      return { name: recipe.name, key: manifest.key, files, manifest };
    } catch (error) {
      if (signal.aborted) throw abortError(signal);
      throw unpackFailed(recipe, error, outDir);
    } finally {
      await Deno.remove(outDir, { recursive: true }).catch(() => {});
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
      throw buildFailed(recipe, error, workDir, logPath);
    }
  }

  async #keep(
    recipe: Recipe,
    key: string,
    outDir: string,
    facts: Record<string, JsonValue>,
    started: number,
  ): Promise<Artifact> {
    const files = await this.#keepFiles(recipe, outDir);
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
      builder: await builderFacts(recipe.tools, new AbortController().signal),
    };
    await this.#writeManifest(manifest);
    return { name: recipe.name, key, files, manifest };
  }

  /** Moves outputs to where they stay; `expected` are the digests they have to have. */
  async #keepFiles(
    recipe: Recipe,
    outDir: string,
    expected?: ArtifactManifest["files"],
  ): Promise<Record<string, ArtifactFile>> {
    const files: Record<string, ArtifactFile> = {};
    for (const name of recipe.outputs) {
      const built = join(outDir, name);
      if (!await exists(built)) throw new Error(`the build left no ${name}`);
      await syncFile(built);
      const sha256 = await digestFile(built);
      if (expected && expected[name]?.sha256 !== sha256) {
        throw new Error(`${name} has sha256 ${sha256}`);
      }
      const path = this.blobPath(sha256, name);
      await Deno.mkdir(dirname(path), { recursive: true });
      await renameDurable(built, path);
      const info = await Deno.stat(path);
      await keepStamp(path, sha256, info);
      files[name] = { path, sha256, sizeBytes: info.size };
    }
    return files;
  }

  async #writeManifest(manifest: ArtifactManifest): Promise<void> {
    const path = this.manifestPath(manifest.name, manifest.key);
    await Deno.mkdir(dirname(path), { recursive: true });
    const text = JSON.stringify(manifest, null, 2) + "\n";
    await this.signText(path, text);
    await writeFileAtomic(path, text, 0o644);
  }
}
