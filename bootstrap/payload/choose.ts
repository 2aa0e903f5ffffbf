/**
 * Finds a payload by what the user says: the name of one that comes with the program, or a folder. And chooses one where
 * nothing is said.
 * It must not judge what is in it.
 *
 * @module
 */
import { resolve } from "@std/path";
import { GatewayError, usageError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { sourcePath } from "../../vm/base/source.ts";
import type { Payload } from "./payload.ts";
import type { PinOptions } from "./pins.ts";

/** The payloads that come with the program. */
export const BUILT_IN = ["demo", "openshell"] as const;

/** The one that needs nothing from elsewhere. */
export const DEMO = BUILT_IN[0];
const OPENSHELL = BUILT_IN[1];

/** Names what a new instance runs, as --payload does. */
const PAYLOAD_VARIABLE = "GATEWAY_PAYLOAD";

/** Pinning takes a moment to load, and most commands do without. */
const pins = () => import("./pins.ts");

/** What a new instance runs, and why it is not OpenShell where it is not. */
export interface PayloadChoice {
  readonly source: string;
  readonly why: string | undefined;
}

/**
 * What a new instance runs when nothing is said: what GATEWAY_PAYLOAD names; else OpenShell where this program's lock file
 * has every digest; else the demo. Contacts nothing, so it is the same on every network.
 *
 * @throws GatewayError `usage` for what GATEWAY_PAYLOAD names.
 */
export async function defaultPayload(builtIn?: string): Promise<PayloadChoice> {
  const named = Deno.env.get(PAYLOAD_VARIABLE);
  if (named) return { source: payloadSource(named), why: undefined };
  const missing = await (await pins()).missingPins(builtIn);
  if (missing.length === 0) return { source: OPENSHELL, why: undefined };
  return {
    source: DEMO,
    why: `the payload is ${DEMO}: this version does not have the digests of ${OPENSHELL}; ` +
      `--payload ${OPENSHELL} pulls and pins it`,
  };
}

/** What was requested, else {@linkcode defaultPayload}, whose reason is logged. @throws GatewayError `usage`. */
export async function chosenSource(asked: string | undefined, span: Span): Promise<string> {
  if (asked !== undefined) return payloadSource(asked);
  const { source, why } = await defaultPayload();
  if (why !== undefined) span.log(why);
  return source;
}

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
  const dir = await payloadFolder(payloadSource(source));
  // Reading YAML takes a moment to load, and most commands read none.
  const { readPayload } = await import("./read.ts");
  return await readPayload(dir);
}

/** As {@linkcode loadPayload}, after openshell was pinned where it is not. @throws GatewayError also as a pull. */
export async function ensurePayload(source: string, options: PinOptions): Promise<Payload> {
  if (source === OPENSHELL) {
    const { pinOpenshell } = await pins();
    await offeringDemo(source, pinOpenshell(options));
  }
  return await loadPayload(source);
}

/** Whether {@linkcode ensurePayload} would ask registries. */
export async function needsPinning(source: string): Promise<boolean> {
  return source === OPENSHELL && await (await pins()).pinnedFolder() === undefined;
}

async function payloadFolder(source: string): Promise<string> {
  if (source !== OPENSHELL) {
    return source.includes("/") ? source : sourcePath(`rootfs/payloads/${source}`);
  }
  const { missingPins, pinnedFolder } = await pins();
  const dir = await pinnedFolder();
  if (dir !== undefined) return dir;
  throw new GatewayError({
    code: "not-supported",
    what: `Cannot run the payload "${OPENSHELL}"`,
    why: `it has no digest for its ${(await missingPins()).join(", ")}`,
    fix:
      `run \`gateway build payload ${OPENSHELL}\` on a network that reaches its registries; or ` +
      `pass --payload ${DEMO}, which needs no registry`,
  });
}

/** Work that pulls; where it fails for OpenShell's own payload, the error offers the one that needs no registry. */
export async function offeringDemo<T>(source: string, work: Promise<T>): Promise<T> {
  return await work.catch((error) => {
    throw offerDemo(source, error);
  });
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
