/**
 * Typed entry for `@std/fmt/bytes`, served here by npm `deno-std` (plain JavaScript).
 * On a network that reaches JSR, map it to `jsr:@std/fmt@1/bytes` in deno.json and drop this file.
 *
 * @module
 */
// deno-lint-ignore-file no-explicit-any
import * as std from "npm:deno-std@1.4.0/fmt/bytes.js";

/** Formats a size in bytes for people, such as `12.3 MiB` with `{ binary: true }`. */
export const format: (
  sizeBytes: number,
  options?: { binary?: boolean; maximumFractionDigits?: number; minimumFractionDigits?: number },
) => string = (std as any).format;
