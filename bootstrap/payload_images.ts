/**
 * What a payload needs from elsewhere before a boot: packed charts and images. A boot itself asks no registry.
 * It must not know a registry or how a guest imports an image.
 *
 * @module
 */
import { join } from "@std/path";
import type { Artifact } from "../vm/artifact.ts";
import { digestBytes } from "../vm/digest.ts";
import { GatewayError } from "../vm/error.ts";
import type { Span } from "../vm/event.ts";
import type { InstanceConfig } from "../vm/instance.ts";
import type { InstancePaths } from "../vm/layout.ts";
import { type ChartArchives, payloadDigest } from "./manifests.ts";
import { packedChart } from "./payload_files.ts";
import type { Payload } from "./payload_spec.ts";

/** A payload with everything that a boot of it takes. */
export interface PreparedPayload {
  readonly payload: Payload;
  readonly charts: ChartArchives;
  /** The same for two instances that run the same content; secrets do not count. */
  readonly digest: string;
}

/** How {@linkcode preparePayload} may act. */
export interface PrepareOptions {
  readonly span: Span;
  readonly signal: AbortSignal;
  readonly assumeYes: boolean;
}

/**
 * Packs charts and gets what comes from registries.
 *
 * @throws GatewayError `not-supported` for what this version cannot get.
 */
export async function preparePayload(
  payload: Payload,
  _options: PrepareOptions,
): Promise<PreparedPayload> {
  const missing = payload.images.length > 0
    ? "it names images of a registry"
    : payload.charts.length > 0
    ? "it has charts"
    : undefined;
  if (missing !== undefined) {
    throw new GatewayError({
      code: "not-supported",
      what: `Cannot prepare the payload "${payload.name}"`,
      why: `${missing}, and this version of gateway cannot bring those into a cluster yet`,
      fix: "use manifests with images of gateway.local, or a later version",
    });
  }
  const charts = await Promise.all(payload.charts.map(packedChart));
  return { payload, charts, digest: payloadDigest(payload, charts) };
}

/** What a payload brings, as rows of `gateway build`: each file with its digest and size. */
export function preparedFiles(
  { payload, charts }: PreparedPayload,
): Pick<Artifact, "name" | "files">[] {
  const describe = (name: string, bytes: Uint8Array, path: string) =>
    [name, { path, sha256: digestBytes(bytes), sizeBytes: bytes.length }] as const;
  const manifests = payload.manifests.map(({ name, text }) =>
    describe(name, new TextEncoder().encode(text), join(payload.dir, name))
  );
  const packed = payload.charts.map(({ name, from }, at) =>
    describe(`${name}.tgz`, charts[at], from.kind === "oci" ? from.ref : from.path)
  );
  return [{ name: payload.name, files: Object.fromEntries([...manifests, ...packed]) }];
}

/** Puts the payload's images into a running guest that may not have them. */
export async function giveImages(
  _prepared: PreparedPayload,
  _guest: {
    readonly paths: InstancePaths;
    readonly config: InstanceConfig;
    readonly span: Span;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  // preparePayload() refuses a payload that has any.
}
