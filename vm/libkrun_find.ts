/**
 * Which libkrun this host has, and whether it lies where only its owner can change it: it is code that runs with the
 * user's rights.
 * It must not open one; only the VMM's process does.
 *
 * @module
 */
import { firmwareCandidates, type LibraryCandidate, libraryCandidates } from "../ffi/library.ts";
import { GatewayError } from "./error.ts";

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
    checkLibraryPlace(candidates[0].path, options.uid);
    return candidates;
  }
  return candidates.filter(({ path }) => isThere(path));
}

/** The libkrunfw that belongs to a library, if there is one. */
export function findFirmware(libraryPath: string): string | undefined {
  const { os, arch } = Deno.build;
  return firmwareCandidates(libraryPath, os, arch).find(isThere);
}

function isThere(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
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
    fix: Deno.build.os === "darwin"
      ? "run: brew tap slp/krun && brew install libkrun"
      : "run `gateway build libkrun`",
  });
}
