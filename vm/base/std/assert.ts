/**
 * Typed entry for `@std/assert`, served here by npm `deno-std` (plain JavaScript).
 * On a network that reaches JSR, map `@std/assert` to `jsr:@std/assert@1` in deno.json and drop this file.
 *
 * @module
 */
// deno-lint-ignore-file no-explicit-any
import * as std from "npm:deno-std@1.4.0/assert/mod.js";

const untyped = std as any;

/** Fails unless `condition` holds. */
export const assert: (condition: unknown, message?: string) => asserts condition = untyped.assert;
/** Fails unless the two values are deeply equal. */
export const assertEquals: <T>(actual: T, expected: T, message?: string) => void =
  untyped.assertEquals;
/** Fails when the two values are deeply equal. */
export const assertNotEquals: <T>(actual: T, expected: T, message?: string) => void =
  untyped.assertNotEquals;
/** Fails unless `actual` contains `expected`. */
export const assertStringIncludes: (actual: string, expected: string, message?: string) => void =
  untyped.assertStringIncludes;
/** Fails unless the pattern matches. */
export const assertMatch: (actual: string, expected: RegExp, message?: string) => void =
  untyped.assertMatch;
/** Fails when the pattern matches. */
export const assertNotMatch: (actual: string, expected: RegExp, message?: string) => void =
  untyped.assertNotMatch;
/** Fails unless `actual > expected`. */
export const assertGreater: <T>(actual: T, expected: T, message?: string) => void =
  untyped.assertGreater;
/** Fails unless `actual < expected`. */
export const assertLess: <T>(actual: T, expected: T, message?: string) => void = untyped.assertLess;
/** Fails unless the value is an instance of the class. */
export const assertInstanceOf: <T>(
  actual: unknown,
  type: new (...args: any[]) => T,
  message?: string,
) => asserts actual is T = untyped.assertInstanceOf;
/** Fails unless `fn` throws (an error of the class, with the text); returns the error. */
export const assertThrows: <E extends Error = Error>(
  fn: () => unknown,
  type?: new (...args: any[]) => E,
  messageIncludes?: string,
  message?: string,
) => E = untyped.assertThrows;
/** Fails unless the promise rejects (with an error of the class, with the text); resolves to the error. */
export const assertRejects: <E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  type?: new (...args: any[]) => E,
  messageIncludes?: string,
  message?: string,
) => Promise<E> = untyped.assertRejects;
/** Always fails. */
export const fail: (message?: string) => never = untyped.fail;
