/**
 * Typed entry for `@std/fmt/colors`, served here by npm `deno-std` (plain JavaScript).
 * On a network that reaches JSR, map it to `jsr:@std/fmt@1/colors` in deno.json and drop this file.
 *
 * @module
 */
// deno-lint-ignore-file no-explicit-any
import * as std from "npm:deno-std@1.4.0/fmt/colors.js";

const untyped = std as any;

/** Bold text. */
export const bold: (text: string) => string = untyped.bold;
/** Dimmed text. */
export const dim: (text: string) => string = untyped.dim;
/** Red text. */
export const red: (text: string) => string = untyped.red;
/** Green text. */
export const green: (text: string) => string = untyped.green;
/** Yellow text. */
export const yellow: (text: string) => string = untyped.yellow;
/** Cyan text. */
export const cyan: (text: string) => string = untyped.cyan;
/** The text without ANSI escape sequences. */
export const stripAnsiCode: (text: string) => string = untyped.stripAnsiCode;
/** Switches colours on or off for the whole process. */
export const setColorEnabled: (enabled: boolean) => void = untyped.setColorEnabled;
