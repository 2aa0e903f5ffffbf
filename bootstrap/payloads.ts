/**
 * Finds a payload by what the user says: the name of one that comes with the program, or a folder.
 * It must not judge what is in it.
 *
 * @module
 */
import { resolve } from "@std/path";
import { GatewayError, usageError } from "../vm/error.ts";
import { sourcePath } from "../vm/source.ts";
import type { Payload } from "./payload_spec.ts";

/** The payloads that come with the program; the first one is run when nothing is said. */
export const BUILT_IN = ["demo", "openshell"] as const;

/**
 * What an instance remembers of its payload: a name as it is, a folder by its absolute path. Looks at no file.
 *
 * @throws GatewayError `usage` for a word that is neither.
 */
export function payloadSource(text: string): string {
  if ((BUILT_IN as readonly string[]).includes(text)) return text;
  if (text.includes("/") || text === "." || text === "..") return resolve(text);
  throw usageError(
    `Cannot use --payload "${text}"`,
    `the names are ${BUILT_IN.join(", ")}, and a folder's has a slash in it`,
    `pass --payload ${BUILT_IN[0]}, or --payload ./${text || "folder"} for a folder`,
  );
}

/** How a payload is called to people: the name of a built-in one, else its folder. */
export function payloadWords(source: string): string {
  return source.includes("/") ? `the folder "${source}"` : `"${source}"`;
}

/**
 * Reads and checks a payload. `source` is what {@linkcode payloadSource} gave.
 *
 * @throws GatewayError `usage`, `payload-invalid`.
 */
export async function loadPayload(source: string): Promise<Payload> {
  const known = payloadSource(source);
  // Reading YAML takes a moment to load, and most commands read none.
  const { readPayload } = await import("./payload_spec.ts");
  if (known.includes("/")) return await readPayload(known);
  return await readPayload(sourcePath(`rootfs/payloads/${known}`)).catch((error) => {
    throw error instanceof GatewayError ? notComplete(known, error) : error;
  });
}

/** A payload that comes with the program and names what was never pulled where the program was made. */
function notComplete(name: string, { code, why }: GatewayError): GatewayError {
  return new GatewayError({
    code,
    what: `Cannot use the payload "${name}"`,
    why,
    fix: `pin what it lacks as docs/${name}.md says, or pass --payload ${BUILT_IN[0]}`,
  });
}
