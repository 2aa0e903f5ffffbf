/**
 * Finds and opens libkrun. libkrunfw is opened before it by its absolute path, so that libkrun finds it loaded already and
 * nobody has to set a search path for the loader.
 * It must not build a VM (krun.ts does).
 *
 * @module
 */
import { KrunError } from "./error.ts";
import { type FunctionTable, openFunctions } from "./functions.ts";
import { KRUN_SYMBOLS, type KrunSymbolName } from "./symbols.ts";

/** The environment variable that names a library. */
export const LIBRARY_VARIABLE = "GATEWAY_LIBKRUN";

/** Features of a build, by libkrun's own numbers. */
const KRUN_FEATURES = { net: 0n, blk: 1n } as const;
/** A feature that can be asked for. */
export type KrunFeature = keyof typeof KRUN_FEATURES;

/** A place where libkrun may be. */
export interface LibraryCandidate {
  /** Absolute. */
  readonly path: string;
  /** "--libkrun", the variable's name, "Homebrew", "the system" or "gateway build libkrun". */
  readonly source: string;
}

/** What {@linkcode libraryCandidates} looks at. */
export interface CandidateOptions {
  readonly os: string;
  readonly arch: string;
  /** `--libkrun`. */
  readonly flag?: string;
  /** The variable's value. */
  readonly variable?: string;
  /** The library in the artifact store, if one was built. */
  readonly artifact?: string;
}

/**
 * Where libkrun may be, first choice first. A flag or the variable is the only candidate: who names one does not want
 * another.
 */
export function libraryCandidates(options: CandidateOptions): LibraryCandidate[] {
  const { os, arch, flag, variable, artifact } = options;
  if (flag) return [{ path: flag, source: "--libkrun" }];
  if (variable) return [{ path: variable, source: LIBRARY_VARIABLE }];
  const ours = artifact ? [{ path: artifact, source: "gateway build libkrun" }] : [];
  if (os === "darwin") {
    const folders = arch === "aarch64" ? ["/opt/homebrew/lib", "/usr/local/lib"] : [
      "/usr/local/lib",
    ];
    return [
      ...folders.map((dir) => ({ path: `${dir}/libkrun.dylib`, source: "Homebrew" })),
      ...ours,
    ];
  }
  const triplet = `${arch}-linux-gnu`;
  const folders = [
    ...["/usr/local/lib64", "/usr/local/lib", `/usr/lib/${triplet}`, "/usr/lib64", "/usr/lib"],
    "/home/linuxbrew/.linuxbrew/lib",
  ];
  const system = folders.map((dir) => ({
    path: `${dir}/libkrun.so.1`,
    source: dir.includes("linuxbrew") ? "Homebrew" : "the system",
  }));
  return [...system, ...ours];
}

/** Where the libkrunfw that belongs to a library may be: beside it first. */
export function firmwareCandidates(libraryPath: string, os: string, arch: string): string[] {
  const beside = libraryPath.slice(0, libraryPath.lastIndexOf("/"));
  const name = os === "darwin" ? "libkrunfw.5.dylib" : "libkrunfw.so.5";
  const folders = libraryCandidates({ os, arch }).map(({ path }) =>
    path.slice(0, path.lastIndexOf("/"))
  );
  return [...new Set([beside, ...folders])].map((dir) => `${dir}/${name}`);
}

/** The version in a library's real name, such as "1.19.7" of libkrun.so.1.19.7; undefined where it has none. */
export function versionOfName(path: string): string | undefined {
  const match = /libkrun(?:-\w+)?\.(?:so\.)?(\d+\.\d+\.\d+)(?:\.dylib)?$/.exec(path);
  return match?.[1];
}

/** Orders versions. */
export function compareVersions(a: string, b: string): number {
  const other = b.split(".");
  const differences = a.split(".").map((part, at) => Number(part) - Number(other[at]));
  return differences.find((difference) => difference !== 0) ?? 0;
}

type Loaded = Deno.DynamicLibrary<typeof KRUN_SYMBOLS>["symbols"];
/** The functions of the table, as they are called. */
export type KrunFunctions = { readonly [N in KrunSymbolName]: NonNullable<Loaded[N]> };

/** An open libkrun; disposing closes it. */
export class KrunLibrary implements Disposable {
  readonly #opened: { close(): void }[] = [];
  readonly #functions = new Map<KrunSymbolName, unknown>();
  #version: string | undefined;

  private constructor(readonly path: string) {}

  /**
   * Opens the library, and its firmware first where one is named.
   *
   * @throws KrunError when a file is missing, is not a library, or is not libkrun.
   */
  static open(path: string, firmwarePath?: string): KrunLibrary {
    const library = new KrunLibrary(path);
    if (firmwarePath !== undefined) library.#opened.push(load(firmwarePath, {}));
    if (library.has("krun_create_ctx") && library.has("krun_start_enter")) return library;
    library[Symbol.dispose]();
    throw new KrunError("load", "dlopen", `"${path}" is a library but not libkrun`);
  }

  /** "1.19.7", or "1.18.0 or later" when only its functions tell. */
  get version(): string {
    this.#version ??= versionOfName(realName(this.path)) ?? `${this.#newest()} or later`;
    return this.#version;
  }

  /**
   * A function of the library.
   *
   * @throws KrunError that names the symbol, this library's version and the version that has it.
   */
  get<N extends KrunSymbolName>(name: N): KrunFunctions[N] {
    if (this.has(name)) return this.#functions.get(name) as KrunFunctions[N];
    throw new KrunError(
      "symbol",
      name,
      `libkrun ${this.version} has no ${name}, which is there since ${
        KRUN_SYMBOLS[name].since
      } (or left out of this build)`,
    );
  }

  /** Whether the library has a function. */
  has(name: KrunSymbolName): boolean {
    let found = this.#functions.get(name);
    if (found === undefined) {
      // One at a time, when it is asked for: most VMs need half of the table.
      const library = load(this.path, { [name]: KRUN_SYMBOLS[name] });
      this.#opened.push(library);
      found = library.symbols[name];
      this.#functions.set(name, found);
    }
    return found !== null;
  }

  /** The version that the newest function of the table came with. */
  #newest(): string {
    return (Object.keys(KRUN_SYMBOLS) as KrunSymbolName[])
      .filter((name) => this.has(name))
      .map((name) => KRUN_SYMBOLS[name].since as string)
      .sort(compareVersions).at(-1) ?? "0.0.0";
  }

  /** Whether it was built with a feature; a library too old to be asked is judged by the functions that come with it. */
  hasFeature(feature: KrunFeature): boolean {
    if (!this.has("krun_has_feature")) {
      return this.has(feature === "net" ? "krun_add_net_unixstream" : "krun_add_disk2");
    }
    return this.get("krun_has_feature")(KRUN_FEATURES[feature]) === 1;
  }

  /** @throws KrunError that names the first feature that is not there. */
  requireFeatures(features: readonly KrunFeature[]): void {
    const missing = features.find((feature) => !this.hasFeature(feature));
    if (missing === undefined) return;
    throw new KrunError(
      "feature",
      "krun_has_feature",
      `libkrun ${this.version} at "${this.path}" was built without the feature "${missing}"`,
    );
  }

  /** @throws KrunError that names the first function that is not there. */
  requireSymbols(names: readonly KrunSymbolName[]): void {
    for (const name of names) this.get(name);
  }

  /** Closes the libraries; a VM that was entered never comes back to do so. */
  [Symbol.dispose](): void {
    for (const library of this.#opened.splice(0)) library.close();
    this.#functions.clear();
  }
}

function load<T extends FunctionTable>(path: string, table: T) {
  if (!path.startsWith("/")) {
    throw new KrunError("load", "dlopen", `"${path}" is not an absolute path`);
  }
  try {
    return openFunctions(path, table);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new KrunError("load", "dlopen", `"${path}" cannot be loaded: ${shorten(text, path)}`);
  }
}

/** The loader repeats the path and Deno puts a sentence before it. */
function shorten(text: string, path: string): string {
  const words = text.replace(/^Could not open library: /, "").replaceAll(`${path}: `, "");
  return words.replace(/\s+/g, " ").trim();
}

function realName(path: string): string {
  try {
    return Deno.realPathSync(path);
  } catch {
    return path;
  }
}
