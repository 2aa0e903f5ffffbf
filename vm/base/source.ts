/**
 * Where the program's own files are: the sources that recipes digest and build from, deno.json, what a package says of
 * itself. The same from a checkout and from the one file, which carries them beside its bundle.
 * It must not read anything but the package's record; a file's path must not be made from another module's URL, since a
 * bundle has only its own.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";

/** Whether this runs from a bundle. */
export const BUNDLED = import.meta.url.endsWith(".js");

// The chunks of a bundle lie in one folder below the top.
const TOP = new URL(BUNDLED ? "../" : "../../", import.meta.url);

/** The path of a file or folder of the program, named from the top: "vm/qemu/ramshim". */
export function sourcePath(name: string): string {
  return fromFileUrl(new URL(name, TOP));
}

/** The command line's module, as what runs this program takes it. */
export const ENTRY = BUNDLED ? "bundle/cli.js" : "cli.ts";

/** The VMM's process as one file (vmm_bundle.ts). `.mjs`, since the runtime would have to find out what a `.js` is. */
export const VMM_BUNDLE_FILE = "vmm_process.mjs";

/** Where a package keeps its {@linkcode PackageRecord}, from the top. */
export const RECORD_PATH = "dist/package.json";

/** What a package says of itself. */
export interface PackageRecord {
  /** Of the sources it was made from, `-dirty` when they were changed since; null outside of a checkout. */
  readonly gitCommit: string | null;
  /** How it was made, for people. */
  readonly built: string;
}

/** The record of the package that runs; undefined from a checkout. */
export async function packageRecord(): Promise<PackageRecord | undefined> {
  // A checkout's dist holds what was made last, which is not what runs.
  if (!BUNDLED && !Deno.build.standalone) return undefined;
  return JSON.parse(await Deno.readTextFile(sourcePath(RECORD_PATH)));
}
