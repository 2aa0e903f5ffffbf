/**
 * Which libkrun this host has, and whether it lies where only its owner can change it: it is code that runs with the
 * user's rights.
 * It must not open one; only the VMM's process does.
 *
 * @module
 */
import { firmwareCandidates, type LibraryCandidate, libraryCandidates } from "../../ffi/library.ts";
import { GatewayError } from "../base/error.ts";
import { LIBKRUN_BREW } from "./build.ts";

/** What the search depends on. */
export interface FindOptions {
  /** `--libkrun`. */
  readonly flag?: string;
  /** The value of {@linkcode LIBRARY_VARIABLE}. */
  readonly variable?: string;
  /** Our own build, if there is one. */
  readonly artifact?: string;
  /** Ours; null where the system has none. */
  readonly uid: number | null;
}

/** The libraries that are there, first choice first. A library that was named by the user is there or an error. */
export function findLibraries(options: FindOptions): LibraryCandidate[] {
  const { os, arch } = Deno.build;
  const candidates = libraryCandidates({ ...options, os, arch });
  if (options.flag || options.variable) {
    for (const { path } of candidates) checkLibraryPlace(path, options.uid);
    return candidates;
  }
  return candidates.filter(({ path }) => isThere(path));
}

/** The libkrunfw that belongs to a library, if there is one. */
export function findFirmware(libraryPath: string): string | undefined {
  const { os, arch } = Deno.build;
  return firmwareCandidates(libraryPath, os, arch).find(isThere);
}

/**
 * The libkrunfw whose kernel can do TSI. Ours cannot: TSI is a patch that only the stock libkrunfw carries.
 *
 * @throws GatewayError `not-supported`.
 */
export async function tsiFirmware(firmware: string | undefined): Promise<string> {
  const refuse = (why: string) =>
    new GatewayError({
      code: "not-supported",
      what: `Cannot use --net "tsi"`,
      why,
      fix:
        "install the stock libkrunfw beside libkrun (Debian's libkrunfw5, Fedora's libkrunfw), or pass --net gvproxy",
    });
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") {
    throw refuse("libkrunfw's kernel is taken on x86-64 Linux only");
  }
  if (firmware === undefined) {
    throw refuse("TSI is a patch of libkrunfw's kernel, and there is no libkrunfw here");
  }
  const text = new TextDecoder("latin1").decode(await Deno.readFile(firmware));
  // The word on the command line that turns it on.
  if (text.includes("tsi_hijack")) return firmware;
  throw refuse(`the kernel in "${firmware}" has no TSI`);
}

function isThere(path: string): boolean {
  const limit = Error.stackTraceLimit;
  // Most places are empty, and nobody reads where that was found out: gathering it is most of what an error costs.
  Error.stackTraceLimit = 0;
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  } finally {
    Error.stackTraceLimit = limit;
  }
}

/**
 * Refuses a library that somebody else could have put there.
 *
 * @throws GatewayError `vmm-missing`.
 */
export function checkLibraryPlace(path: string, uid: number | null): void {
  const why = defectOf(path, uid);
  if (why === undefined) return;
  throw new GatewayError({
    code: "vmm-missing",
    what: `Cannot use "${path}" as libkrun`,
    why,
    fix:
      "run `gateway build libkrun`, or name a library in a folder that only you or root can write",
  });
}

function defectOf(path: string, uid: number | null): string | undefined {
  if (!path.startsWith("/")) return "it is not an absolute path";
  let real: string;
  try {
    real = Deno.realPathSync(path);
  } catch {
    return "it is not there";
  }
  const file = Deno.statSync(real);
  if (!file.isFile) return "it is not a file";
  const folder = real.slice(0, real.lastIndexOf("/")) || "/";
  const parts = [[real, file], [folder, Deno.statSync(folder)]] as const;
  for (const [name, { uid: owner, mode }] of parts) {
    if (owner !== null && owner !== 0 && uid !== null && owner !== uid) {
      return `"${name}" belongs to user ${owner}`;
    }
    if (((mode ?? 0) & 0o002) !== 0) return `everybody may write "${name}"`;
  }
  return undefined;
}

/** The error for a host without any library. */
export function noLibrary(): GatewayError {
  return new GatewayError({
    code: "vmm-missing",
    what: "Cannot find libkrun",
    why: "it is in none of the places where systems keep it, and was not built here",
    fix: Deno.build.os === "darwin" ? `run: ${LIBKRUN_BREW}` : "run `gateway build libkrun`",
  });
}
