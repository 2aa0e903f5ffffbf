/**
 * Brings the kernel's source onto this machine: Debian's source package by apt, its digest verified, unpacked once.
 * It must not configure or compile, and trusts nothing that neither the lock's digest nor apt's signatures cover.
 *
 * @module
 */
import { join } from "@std/path";
import { GatewayError } from "../vm/base/error.ts";
import type { Span } from "../vm/base/event.ts";
import { exists } from "../vm/base/layout.ts";
import { run } from "../vm/base/process.ts";
import { type BuildContext, digestFile } from "../vm/store/artifact.ts";
import { wrongDownload } from "../vm/store/errors.ts";
import { type KernelLock, packageFileName } from "./lock.ts";

/** The source package that a build really uses. */
export interface SourcePackage {
  /** Debian's version, such as `6.12.117-1~deb12u1`. */
  readonly version: string;
  /** Of the .deb, hexadecimal. */
  readonly sha256: string;
  /** Absolute path of the verified .deb. */
  readonly path: string;
  /** False when the locked version is no longer served and the newest one took its place. */
  readonly pinned: boolean;
}

/** The versions in the output of `apt-cache madison`, as apt orders them: newest first. */
export function parseMadison(text: string): string[] {
  const versions = text.split("\n").map((line) => line.split("|")[1]?.trim() ?? "");
  return [...new Set(versions.filter((version) => version !== ""))];
}

/** The sha256 that `apt-cache show` gives for a package, or undefined. */
export function parseShownDigest(text: string): string | undefined {
  return /^SHA256: ([0-9a-f]{64})$/m.exec(text)?.[1];
}

/**
 * The locked source package, downloaded into ctx.cacheDir unless it is there; the newest served one, with a warning,
 * when apt no longer serves the locked version.
 *
 * @throws GatewayError `build-failed` when apt serves none, `artifact-corrupt` when the bytes are not the locked ones.
 */
export async function ensureSourcePackage(
  lock: KernelLock["source"],
  ctx: BuildContext,
): Promise<SourcePackage> {
  const dir = join(ctx.cacheDir, "kernel");
  await Deno.mkdir(dir, { recursive: true });
  const path = join(dir, packageFileName(lock.package, lock.version));
  if (await exists(path)) {
    if (await digestFile(path) === lock.sha256) {
      return { version: lock.version, sha256: lock.sha256, path, pinned: true };
    }
    ctx.span.warn(`"${path}" is damaged; downloading it again`);
    await Deno.remove(path);
  }
  const apt = await chooseLists(lock, ctx, dir);
  if (apt.versions.includes(lock.version)) {
    await download(lock.package, lock.version, lock.sha256, path, apt.options, ctx);
    return { version: lock.version, sha256: lock.sha256, path, pinned: true };
  }
  return await newestServed(lock, ctx, dir, apt);
}

interface AptView {
  /** Options that choose the package lists. */
  readonly options: readonly string[];
  readonly versions: readonly string[];
}

/** The machine's own package lists, or fresh ones of ours when those do not know the locked version. */
async function chooseLists(
  lock: KernelLock["source"],
  ctx: BuildContext,
  dir: string,
): Promise<AptView> {
  const versions = await servedVersions(lock.package, [], ctx.signal);
  if (versions.includes(lock.version)) return { options: [], versions };
  const lists = join(dir, "apt-lists");
  const cache = join(dir, "apt-cache");
  await Deno.mkdir(join(lists, "partial"), { recursive: true });
  await Deno.mkdir(join(cache, "archives", "partial"), { recursive: true });
  // A private copy: refreshing the machine's own lists would need root and change the machine.
  const options = [
    `Dir::State::Lists=${lists}`,
    `Dir::Cache=${cache}`,
    "APT::Sandbox::User=",
    "Acquire::Retries=3",
  ].flatMap((option) => ["-o", option]);
  await run("apt-get", {
    args: [...options, "update"],
    logPath: ctx.logPath,
    signal: ctx.signal,
    timeoutMs: 300_000,
    code: "build-failed",
    what: "Cannot refresh apt's package lists",
  });
  return { options, versions: await servedVersions(lock.package, options, ctx.signal) };
}

async function servedVersions(
  name: string,
  options: readonly string[],
  signal: AbortSignal,
): Promise<string[]> {
  const { stdout } = await run("apt-cache", {
    args: [...options, "madison", name],
    signal,
    timeoutMs: 60_000,
    check: false,
  });
  return parseMadison(stdout);
}

async function newestServed(
  lock: KernelLock["source"],
  ctx: BuildContext,
  dir: string,
  apt: AptView,
): Promise<SourcePackage> {
  const version = apt.versions[0];
  const show = version === undefined ? undefined : await run("apt-cache", {
    args: [...apt.options, "show", `${lock.package}=${version}`],
    signal: ctx.signal,
    timeoutMs: 60_000,
  });
  const sha256 = show && parseShownDigest(show.stdout);
  if (version === undefined || sha256 === undefined) {
    throw new GatewayError({
      code: "build-failed",
      what: `Cannot find the kernel's source package "${lock.package}"`,
      why: "apt serves no version of it",
      fix: "add Debian's security archive to apt's sources, then try again",
    });
  }
  ctx.span.warn(
    `${lock.package} ${lock.version} is no longer served; building the newest, ${version}, which apt's signatures cover`,
  );
  const path = join(dir, packageFileName(lock.package, version));
  if (!await exists(path) || await digestFile(path) !== sha256) {
    await download(lock.package, version, sha256, path, apt.options, ctx);
  }
  return { version, sha256, path, pinned: false };
}

async function download(
  name: string,
  version: string,
  sha256: string,
  path: string,
  options: readonly string[],
  ctx: BuildContext,
): Promise<void> {
  // A folder of its own, and a rename at the end: a cut download never has the final name.
  const dir = await Deno.makeTempDir({ dir: join(ctx.cacheDir, "kernel"), prefix: "download-" });
  try {
    await run("apt-get", {
      args: [...options, "-o", "APT::Sandbox::User=", "download", `${name}=${version}`],
      cwd: dir,
      logPath: ctx.logPath,
      signal: ctx.signal,
      timeoutMs: 1_800_000,
      code: "build-failed",
      what: `Cannot download ${name} ${version}`,
    });
    const fetched = join(dir, packageFileName(name, version));
    const found = await digestFile(fetched);
    if (found !== sha256) throw wrongDownload(`${name} ${version}`, found, sha256);
    await Deno.rename(fetched, path);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/**
 * The unpacked source below ctx.workDir. The folder gets its name by a rename once everything is in it, so a folder
 * with that name is whole, and one left by a kill is thrown away.
 */
export async function ensureSourceTree(
  source: SourcePackage,
  archive: string,
  patches: readonly string[],
  ctx: BuildContext,
  span: Span,
): Promise<string> {
  const tree = join(ctx.workDir, `linux-${source.version}`);
  if (await exists(tree)) {
    span.log("the source is unpacked already");
    return tree;
  }
  const partial = join(ctx.workDir, "unpacking");
  await Deno.remove(partial, { recursive: true }).catch(() => {});
  await Deno.mkdir(join(partial, "linux"), { recursive: true });
  const common = {
    logPath: ctx.logPath,
    signal: ctx.signal,
    timeoutMs: 900_000,
    niceness: 10,
    code: "build-failed" as const,
    what: `Cannot unpack "${source.path}"`,
  };
  await run("dpkg-deb", { ...common, args: ["-x", source.path, join(partial, "package")] });
  await run("tar", {
    ...common,
    args: [
      "-xJf",
      join(partial, "package", archive),
      "-C",
      join(partial, "linux"),
      "--strip-components=1",
      "--no-same-owner",
    ],
  });
  for (const text of patches) {
    const file = join(partial, "change.patch");
    await Deno.writeTextFile(file, text);
    const args = ["-p1", "--fuzz=0", "-d", join(partial, "linux"), "-i", file];
    await run("patch", { ...common, args, what: "Cannot apply a patch of ours to the source" });
  }
  await Deno.rename(join(partial, "linux"), tree);
  await Deno.remove(partial, { recursive: true });
  return tree;
}
