/**
 * Text from a guest as it may be shown: on one line, cut, and without what looks like a key, a token or a password.
 * It cannot know every secret; it must not be relied on for text that is known to hold one.
 *
 * @module
 */
import { cleanText } from "../../vm/base/plain_text.ts";
import { fit } from "./text.ts";

const REMOVED = "(removed)";

/** What secrets look like in logs and events; the parts outside of the first group stay. */
const SECRETS: readonly RegExp[] = [
  // A token with a head, a body and a signature, whole or cut.
  /\beyJ[\w-]{8,}(?:\.[\w-]*){0,2}/g,
  // PEM on one line or one of its lines; also data of a Secret or a kubeconfig. Not the digest of an image.
  /-----BEGIN [A-Z ]+-----.*/g,
  /(?<!sha256:[0-9a-f]*)[A-Za-z0-9+/]{44,}={0,2}/g,
  // After a word that says so.
  /(?<=\b(?:password|passwd|secret|token|api[_-]?key)\b["']?\s*[:=]\s*["']?)[^\s"',;]{4,}/gi,
  /(?<=\b(?:bearer|authorization:\s*basic)\s+)[\w.~+/-]{8,}=*/gi,
  // In an address.
  /(?<=:\/\/[^\s/:@]*:)[^\s/@]+(?=@)/g,
];

/** One line for people. `columns` is the most it may have. */
export function openText(text: string, columns: number): string {
  const indent = /^ */.exec(text)![0];
  const shown = SECRETS.reduce(
    (line, pattern) => line.replaceAll(pattern, REMOVED),
    cleanText(text),
  );
  return indent + fit(shown, columns - indent.length);
}
