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

/** The payloads that come with the program. */
export const BUILT_IN = ["demo", "openshell"] as const;

/** The one that needs nothing from elsewhere. */
export const DEMO = BUILT_IN[0];
const OPENSHELL = BUILT_IN[1];

/** What was never pulled where this version was made, by name; empty when all of it is pinned. */
async function unpinned(): Promise<string[]> {
  const lock = JSON.parse(
    await Deno.readTextFile(sourcePath(`rootfs/payloads/${OPENSHELL}/lock.json`)),
  ) as {
    readonly chart: Pin;
    readonly images: readonly Pin[];
    readonly manifests: readonly Pin[];
  };
  return [{ ...lock.chart, name: "chart" }, ...lock.images, ...lock.manifests]
    .filter(({ digest, sha256 }) => (digest ?? sha256 ?? null) === null)
    .map(({ name }) => name);
}

interface Pin {
  readonly name: string;
  readonly digest?: string | null;
  readonly sha256?: string | null;
}

/** What a new instance runs when nothing is said, and why it is not OpenShell where it is not. */
export async function defaultPayload(): Promise<
  { readonly source: string; readonly why: string | undefined }
> {
  const missing = await unpinned();
  if (missing.length === 0) return { source: OPENSHELL, why: undefined };
  return { source: DEMO, why: `the payload is ${DEMO}: ${unpinnedWords(missing)}` };
}

const unpinnedWords = (missing: readonly string[]) =>
  `openshell has no digest for its ${missing.join(", ")} (docs/openshell.md)`;

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
    `pass --payload ${DEMO}, or --payload ./${text || "folder"} for a folder`,
  );
}

/** How a payload is called to people: the name of a built-in one, else its folder. */
export function payloadWords(source: string): string {
  return source.includes("/") ? `the folder "${source}"` : `"${source}"`;
}

/**
 * Reads and checks a payload. `source` is what {@linkcode payloadSource} gave.
 *
 * @throws GatewayError `usage`, `payload-invalid`, `not-supported` for openshell where it is not pinned.
 */
export async function loadPayload(source: string): Promise<Payload> {
  const known = payloadSource(source);
  const missing = known === OPENSHELL ? await unpinned() : [];
  if (missing.length > 0) {
    throw new GatewayError({
      code: "not-supported",
      what: `Cannot run the payload "${OPENSHELL}"`,
      why: unpinnedWords(missing),
      fix: `pass --payload ${DEMO}, or pin them as docs/openshell.md says`,
    });
  }
  // Reading YAML takes a moment to load, and most commands read none.
  const { readPayload } = await import("./payload_spec.ts");
  return await readPayload(known.includes("/") ? known : sourcePath(`rootfs/payloads/${known}`));
}

/** A pull that failed; where it was for OpenShell's own payload, the error offers the one that needs none. */
export function offerDemo(source: string, error: unknown): unknown {
  const pull = error instanceof GatewayError && /^(registry|image)-/.test(error.code);
  if (!pull || source !== OPENSHELL) return error;
  const { code, what, why, fix } = error;
  return new GatewayError({
    ...{ code, what, why, cause: error },
    fix: `${fix}; or pass --payload ${DEMO}, which needs no registry`,
  });
}
