/**
 * Typed entry for `@std/async`, served here by npm `deno-std` (plain JavaScript).
 * On a network that reaches JSR, map `@std/async` to `jsr:@std/async@1` in deno.json and drop this file.
 *
 * @module
 */
// deno-lint-ignore-file no-explicit-any
import * as std from "npm:deno-std@1.4.0/async/delay.js";

/** Resolves after `ms` milliseconds; rejects with the signal's reason when it aborts first. */
export const delay: (
  ms: number,
  options?: { signal?: AbortSignal; persistent?: boolean },
) => Promise<void> = (std as any).delay;
