/**
 * Typed entry for `@std/path`, served here by npm `deno-std` (plain JavaScript).
 * Only the part for POSIX systems: the whole module is some forty files and cost 9 ms of every start.
 * On a network that reaches JSR, map `@std/path` to `jsr:@std/path@1` in deno.json and drop this file.
 *
 * @module
 */
// deno-lint-ignore-file no-explicit-any
import * as std from "npm:deno-std@1.4.0/path/posix/mod.js";

const untyped = std as any;

/** Joins path parts and normalizes the result. */
export const join: (first: string | URL, ...rest: string[]) => string = untyped.join;
/** The last part of a path, without `suffix` when it is given. */
export const basename: (path: string | URL, suffix?: string) => string = untyped.basename;
/** The folder part of a path. */
export const dirname: (path: string | URL) => string = untyped.dirname;
/** An absolute, normalized path. */
export const resolve: (...parts: string[]) => string = untyped.resolve;
/** The path of `to` as seen from the folder `from`. */
export const relative: (from: string, to: string) => string = untyped.relative;
/** Whether the path starts at the root. */
export const isAbsolute: (path: string | URL) => boolean = untyped.isAbsolute;
/** The file path of a `file:` URL. */
export const fromFileUrl: (url: string | URL) => string = untyped.fromFileUrl;
