/**
 * Strings for C: bytes of UTF-8 with a NUL at the end, and arrays of pointers to them.
 * It must not let a string through that C would read as another one.
 *
 * @module
 */
import { KrunError } from "./error.ts";

const encoder = new TextEncoder();

/**
 * A NUL-terminated string. The caller keeps the buffer alive for as long as C may read it.
 *
 * @throws KrunError for a NUL inside, where C would see the end, and for a lone surrogate, which has no bytes.
 */
export function cString(value: string, functionName = "cString"): Uint8Array<ArrayBuffer> {
  if (value.includes("\0")) {
    throw new KrunError(
      "argument",
      functionName,
      `${functionName}: the string ${JSON.stringify(value.slice(0, 80))} has a NUL byte inside`,
    );
  }
  if (!value.isWellFormed()) {
    throw new KrunError(
      "argument",
      functionName,
      `${functionName}: the string ${JSON.stringify(value.slice(0, 80))} is not valid Unicode`,
    );
  }
  const bytes = encoder.encode(value);
  const buffer = new Uint8Array(bytes.length + 1);
  buffer.set(bytes);
  return buffer;
}

/** An array of C strings as C wants it, with what it points to. */
export interface CStringArray {
  /** Addresses, ended by a null pointer. */
  readonly pointers: BigUint64Array<ArrayBuffer>;
  /** The strings; they have to live as long as the pointers are used. */
  readonly strings: readonly Uint8Array<ArrayBuffer>[];
}

/**
 * libkrun reads at most this many strings of an array and drops the rest without a word.
 * (MAX_ARGS in its source.)
 */
const STRINGS_MAX = 4095;

/** A null-terminated array of C strings. @throws KrunError as {@linkcode cString}, and for too many strings. */
export function cStringArray(values: readonly string[], functionName: string): CStringArray {
  if (values.length > STRINGS_MAX) {
    throw new KrunError(
      "argument",
      functionName,
      `${functionName}: ${values.length} strings are more than the ${STRINGS_MAX} that are read`,
    );
  }
  const strings = values.map((value) => cString(value, functionName));
  const pointers = new BigUint64Array(strings.length + 1);
  strings.forEach((buffer, at) => {
    pointers[at] = Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer));
  });
  return { pointers, strings };
}
