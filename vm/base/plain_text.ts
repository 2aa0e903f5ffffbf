/**
 * Text that may come from a guest, made harmless for the user's terminal.
 *
 * @module
 */

/** Escape sequences: CSI (colours, cursor), OSC (title, clipboard), and the short ones such as a reset. */
const ESCAPES =
  // deno-lint-ignore no-control-regex -- taking them out is the point
  /\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-Z\\^-~]/g;

// deno-lint-ignore no-control-regex -- keeping them is the point
const COLOURS = /(\x1b\[[0-9;]*m)/;

/**
 * The text on one line without escape sequences, control or direction characters: names and messages can come from the
 * guest, which must not write to the user's terminal.
 */
export function cleanText(text: string): string {
  return text
    .replace(ESCAPES, "")
    .replace(/[\p{Cc}\p{Zl}\p{Zp}\s]+/gu, " ")
    .replace(/\p{Cf}/gu, "")
    .trim();
}

/** Like {@linkcode cleanText}, but spaces, tabs and line ends stay as they are. */
export function plainText(text: string): string {
  return text
    .replace(ESCAPES, "")
    // deno-lint-ignore no-control-regex -- taking them out is the point
    .replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f\p{Cf}]/gu, "");
}

/** Like {@linkcode plainText}, but colours stay, too. */
export function terminalText(text: string): string {
  // Every second part is a colour.
  return text.split(COLOURS).map((part, at) => at % 2 === 1 ? part : plainText(part)).join("");
}

/** {@linkcode plainText} of bytes that may begin or end within a character. */
export function plainBytes(bytes: Uint8Array): Uint8Array {
  return new TextEncoder().encode(plainText(new TextDecoder().decode(bytes)));
}
