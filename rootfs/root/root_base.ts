/**
 * The base of the root image: a tar of Debian or Ubuntu packages, made by mmdebstrap.
 * It must not hold anything of ours; root.ts adds that.
 *
 * @module
 */
import { join } from "@std/path";
import type { Arch } from "../../vm/base/arch.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { run } from "../../vm/base/process.ts";
import { sourcePath } from "../../vm/base/source.ts";
import {
  type Artifact,
  type ArtifactManifest,
  type ArtifactStore,
  type BuildContext,
  canonicalJson,
  digestBytes,
  type HostTool,
  type Recipe,
  recipeKey,
} from "../../vm/store/artifact.ts";
import { foreignTools, runForeign } from "./foreign.ts";
import { sourceDateEpoch, suitePackages, suitePin } from "../pins/lock.ts";

/** GNU tar. */
export const TAR_TOOL: HostTool = { program: "tar", debian: "tar" };

/** Where the packages come from. */
export interface BaseOptions {
  readonly suite: string;
  /** Archive to take packages from; mmdebstrap's own choice for the suite when undefined. */
  readonly mirror?: string;
  readonly arch: Arch;
}

/** Paths that dpkg does not unpack; licences stay. */
const PATH_RULES = [
  "path-exclude=/usr/share/man/*",
  "path-exclude=/usr/share/info/*",
  "path-exclude=/usr/share/locale/*",
  "path-exclude=/usr/share/doc/*",
  "path-include=/usr/share/doc/*/copyright",
  "path-exclude=/usr/share/bash-completion/*",
  "path-exclude=/usr/lib/*/gconv/*",
];

/** How mmdebstrap works, apart from the suite. */
const BUILD_OPTIONS = [
  "--variant=essential",
  '--aptopt=APT::Install-Recommends "false"',
  '--aptopt=Acquire::Languages "none"',
  '--aptopt=Acquire::Retries "3"',
  // The lists are read below.
  '--aptopt=Acquire::GzipIndexes "false"',
  // Otherwise who owns apt's folders depends on whether its own user can reach the place of the build.
  '--aptopt=APT::Sandbox::User "root"',
  // Keys that a package made for this one build.
  '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_*',
];

/** What a base was built of. */
export interface BaseRecord {
  /** ISO 8601. */
  readonly builtAt: string;
  /** Digest of the packages' names, versions and digests. The same packages have the same one, whenever they came. */
  readonly digest: string;
}

/** A base with what it was built of. */
export interface KnownBase {
  readonly recipe: Recipe;
  /** Undefined before it was built. */
  readonly record: BaseRecord | undefined;
  /** Stands for recipe and packages in the keys of what is made from it. */
  readonly key: string;
}

/** Looks up what a base was built of; needs no network and none of the base's files. */
export async function knownBase(store: ArtifactStore, recipe: Recipe): Promise<KnownBase> {
  const manifest = await store.manifest(recipe);
  const record = manifest && recordOf(manifest);
  const key = canonicalJson({ recipe: recipeKey(recipe), packages: record?.digest ?? "not built" });
  return { recipe, record, key: digestBytes(key) };
}

function recordOf({ facts, builtAt }: ArtifactManifest): BaseRecord {
  const { packages = {}, packageSha256 = {} } = facts;
  return { builtAt, digest: digestBytes(canonicalJson({ packages, packageSha256 })) };
}

/**
 * Refuses a base that does not have the packages by which the key of what is being built was made.
 *
 * @throws GatewayError `build-failed`.
 */
export function checkBase(base: KnownBase, { manifest }: Pick<Artifact, "manifest">): void {
  if (recordOf(manifest).digest === base.record?.digest) return;
  throw new GatewayError({
    code: "build-failed",
    what: `Cannot build from ${base.recipe.label}`,
    why: base.record ? "its packages were renewed meanwhile" : "its packages were not known before",
    fix: "run the command again",
  });
}

/** A base older than this lacks a month of security updates. */
export const BASE_MAX_AGE_DAYS = 30;

/** Days since a base was built, whole. */
export function baseAgeDays({ builtAt }: BaseRecord, nowMs: number = Date.now()): number {
  return Math.floor((nowMs - Date.parse(builtAt)) / 86_400_000);
}

/** The base: a tar of the suite's packages; the manifest names every package with its version and digest. */
export function rootBaseRecipe(options: BaseOptions): Recipe {
  const pin = suitePin(options.suite);
  const packages = suitePackages(options.suite);
  return {
    name: "root-base",
    label: `root base (${options.suite})`,
    inputs: {
      suite: options.suite,
      mirror: options.mirror ?? "default",
      packages: packages.join(","),
      components: pin.components,
      options: [...BUILD_OPTIONS, ...PATH_RULES].join("\n"),
      epoch: String(sourceDateEpoch),
      arch: options.arch,
    },
    outputs: ["base.tar"],
    tools: [
      { program: "mmdebstrap", debian: "mmdebstrap" },
      { program: "mmtarfilter", debian: "mmdebstrap" },
      { program: "", debian: pin.keyringPackage, path: pin.keyring },
      TAR_TOOL,
      ...foreignTools(options.arch),
    ],
    build: (ctx) => buildBase(options, packages, ctx),
  };
}

async function buildBase(
  options: BaseOptions,
  packages: readonly string[],
  ctx: BuildContext,
): Promise<Record<string, Record<string, string>>> {
  const { suite, mirror, arch } = options;
  const pin = suitePin(suite);
  const tar = join(ctx.outDir, "base.tar");
  const [temporary, indexes] = [join(ctx.workDir, "tmp"), join(ctx.workDir, "indexes")];
  for (const dir of [temporary, indexes]) {
    await Deno.remove(dir, { recursive: true }).catch(() => {});
    await Deno.mkdir(dir);
  }
  await using _foreign = await runForeign(arch, ctx.signal);
  await run("mmdebstrap", {
    args: [
      `--architectures=${arch}`,
      `--components=${pin.components}`,
      `--keyring=${pin.keyring}`,
      `--include=${packages.join(",")}`,
      ...BUILD_OPTIONS,
      ...PATH_RULES.map((rule) => `--dpkgopt=${rule}`),
      `--customize-hook=copy-out ${APT_LISTS} '${indexes.replaceAll("'", "'\\''")}'`,
      suite,
      tar,
      ...(mirror === undefined ? [] : [mirror]),
    ],
    env: { SOURCE_DATE_EPOCH: String(sourceDateEpoch), TMPDIR: temporary, LC_ALL: "C.UTF-8" },
    logPath: ctx.logPath,
    signal: ctx.signal,
    timeoutMs: 30 * 60_000,
    niceness: 10,
    code: "build-failed",
    what: `Cannot install the packages of "${suite}"`,
  });
  const { stdout } = await run("tar", {
    args: ["-xOf", tar, "./var/lib/dpkg/status"],
    signal: ctx.signal,
    timeoutMs: 60_000,
  });
  const lock = await Deno.readTextFile(sourcePath("rootfs/lock.json"));
  const installed = packageVersions(stdout);
  const packageSha256 = packageDigests(installed, await readIndexes(join(indexes, "lists")));
  await Deno.remove(indexes, { recursive: true });
  return { packages: installed, packageSha256, lockFiles: { "lock.json": digestBytes(lock) } };
}

/** Where apt keeps the indexes of the archives, by which it verified what it downloaded. */
const APT_LISTS = "/var/lib/apt/lists";

async function readIndexes(dir: string): Promise<string[]> {
  const texts: string[] = [];
  for await (const { name } of Deno.readDir(dir)) {
    if (name.endsWith("_Packages")) texts.push(await Deno.readTextFile(join(dir, name)));
  }
  return texts;
}

/**
 * The SHA-256 of each package's archive, by its name.
 *
 * @param indexes Packages files of the archives.
 * @throws GatewayError `build-failed` for a package that no index has.
 */
export function packageDigests(
  packages: Readonly<Record<string, string>>,
  indexes: readonly string[],
): Record<string, string> {
  const digests: Record<string, string> = {};
  for (const paragraph of indexes.flatMap((text) => text.split("\n\n"))) {
    const name = /^Package: (.+)$/m.exec(paragraph)?.[1];
    if (name === undefined || !Object.hasOwn(packages, name)) continue;
    const version = /^Version: (.+)$/m.exec(paragraph)?.[1];
    const sha256 = /^SHA256: ([0-9a-f]{64})$/m.exec(paragraph)?.[1];
    if (version === packages[name] && sha256 !== undefined) digests[name] = sha256;
  }
  const missing = Object.keys(packages).filter((name) => !Object.hasOwn(digests, name));
  if (missing.length === 0) return digests;
  throw new GatewayError({
    code: "build-failed",
    what: "Cannot record the packages of the root image",
    why: `no index of the archive has the installed version of ${missing.join(", ")}`,
    fix: "run the command again",
  });
}

/** Package names and versions of a dpkg status file. */
export function packageVersions(status: string): Record<string, string> {
  const versions: Record<string, string> = {};
  for (const paragraph of status.split("\n\n")) {
    const name = /^Package: (.+)$/m.exec(paragraph)?.[1];
    const version = /^Version: (.+)$/m.exec(paragraph)?.[1];
    if (name && version) versions[name] = version;
  }
  return versions;
}
