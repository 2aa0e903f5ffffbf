/**
 * What a payload needs from elsewhere before a boot: packed charts and images. A boot itself asks no registry.
 * It must not know a registry or how a guest imports an image.
 *
 * @module
 */
import { join } from "@std/path";
import { helmImageRecipe } from "../../rootfs/images/images.ts";
import { type Arch, guestArch } from "../../vm/base/arch.ts";
import { digestBytes } from "../../vm/base/digest.ts";
import { GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { together } from "../../vm/base/together.ts";
import type { InstanceConfig } from "../../vm/instance/instance.ts";
import { type Artifact, ArtifactStore, type EnsureOptions } from "../../vm/store/artifact.ts";
import { describeArchive } from "../images/archive.ts";
import { tellDownloads } from "../images/downloads.ts";
import {
  chartReference,
  ensureCharts,
  ensureImages,
  type ImageArchive,
  type Wanted,
} from "../images/ensure.ts";
import { bringImages } from "../images/load.ts";
import { bytesText } from "../view/text.ts";
import { unknownValues } from "./chart_values.ts";
import { packedChart } from "./files.ts";
import { HELM_IMAGE, packedDigest, type PackedPayload } from "./manifests.ts";
import type { Payload } from "./payload.ts";

/** A payload with everything that a boot of it takes. */
export interface PreparedPayload extends PackedPayload {
  /** What {@linkcode giveImages} brings into the guest, in this order. */
  readonly images: readonly ImageArchive[];
  /** Those that no start waits for. */
  readonly later: readonly ImageArchive[];
}

/** How {@linkcode preparePayload} may act. */
export interface PrepareOptions {
  readonly span: Span;
  readonly signal: AbortSignal;
  readonly assumeYes: boolean;
  /** The user's own by default. */
  readonly store?: ArtifactStore;
  /** The guest's processor; that of the config by default. */
  readonly arch?: Arch;
  /** Its authorities are trusted for pulls, and its disk has to hold the images. */
  readonly config?: Pick<InstanceConfig, "name" | "network" | "stateMiB" | "arch">;
}

/**
 * Packs charts and gets what comes from registries; with the store filled no network is needed.
 *
 * @throws GatewayError as ensureImages(), or `disk-full` when the instance's disk is too small for the images.
 */
export async function preparePayload(
  payload: Payload,
  options: PrepareOptions,
): Promise<PreparedPayload> {
  const { span, signal, assumeYes, store = new ArtifactStore(), config } = options;
  const { arch = guestArch(config) } = options;
  const pull = { arch, store, span, signal, assumeYes, hostCa: config?.network?.hostCa };
  await tellDownloads(wantedOf(payload), pull);
  const charts = await chartArchives(payload, { ...options, store });
  const images = await ensureImages(payload.images, pull);
  if (config) checkFits(images, config);
  // The jobs that install charts run in it.
  if (charts.length > 0) images.push(await helmArchive(arch, store, { span, signal, assumeYes }));
  const digest = packedDigest({ payload, charts }, images.map((image) => image.digest));
  const late = new Set(payload.images.filter(({ when }) => when === "later").map(({ ref }) => ref));
  const ready = images.filter(({ ref }) => !late.has(ref));
  const later = images.filter(({ ref }) => late.has(ref));
  return { payload, charts, images: inOrderOfNeed(ready, payload), later, digest };
}

/**
 * Refuses images that an instance's disk cannot hold even as they are packed. Pure.
 *
 * @throws GatewayError `disk-full`.
 */
export function checkFits(
  images: readonly Pick<ImageArchive, "ref" | "sizeBytes">[],
  { name, stateMiB }: Pick<InstanceConfig, "name" | "stateMiB">,
): void {
  const bytes = images.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  if (bytes <= stateMiB * 1024 * 1024) return;
  const largest = images.reduce((a, b) => (b.sizeBytes > a.sizeBytes ? b : a));
  throw new GatewayError({
    code: "disk-full",
    what: `Cannot load the payload's images into "${name}"`,
    why: `they take ${bytesText(bytes)}, ${bytesText(largest.sizeBytes)} of it ${largest.ref}, ` +
      `and its disk has ${bytesText(stateMiB * 1024 * 1024)}`,
    // Unpacked they take about twice as much more.
    fix: `make a new instance with --disk ${Math.ceil(bytes * 3 / 1024 / 1024)} or more`,
  });
}

/**
 * The images in the order in which a start needs them: the one that installs charts, those that manifests name, whose pods
 * wait from the first moment, then those of charts, as the payload lists them. Pure.
 */
export function inOrderOfNeed<T extends Pick<ImageArchive, "ref">>(
  images: readonly T[],
  { manifests }: Pick<Payload, "manifests">,
): T[] {
  const rank = ({ ref }: T) => {
    if (ref === HELM_IMAGE) return 0;
    return manifests.some(({ text }) => names(text, ref)) ? 1 : 2;
  };
  // The sort is stable.
  return [...images].sort((a, b) => rank(a) - rank(b));
}

/** Whether a text has the reference as a whole, and not as the beginning of a longer tag. */
function names(text: string, ref: string): boolean {
  for (let at = text.indexOf(ref); at !== -1; at = text.indexOf(ref, at + 1)) {
    if (!/[\w.-]/.test(text[at + ref.length] ?? "")) return true;
  }
  return false;
}

/** All that a payload has from registries. */
function wantedOf({ charts, images }: Payload): Wanted[] {
  const fromRegistries = charts.flatMap(({ from }): Wanted[] =>
    from.kind === "oci"
      ? [{ kind: "chart", ref: chartReference(from.ref), digest: from.digest }]
      : []
  );
  return [
    ...fromRegistries,
    ...images.map(({ ref, digest }): Wanted => ({ kind: "image", ref, digest })),
  ];
}

/** The .tgz of each chart: packed, or found in the store or pulled. @throws GatewayError as ensureCharts(). */
export async function chartArchives(
  { charts }: Payload,
  options: PrepareOptions,
): Promise<Uint8Array[]> {
  const { store = new ArtifactStore(), config, ...how } = options;
  const pull = { ...how, store, hostCa: config?.network?.hostCa };
  const archive = (chart: Payload["charts"][number]) => async (signal: AbortSignal) => {
    const { from } = chart;
    const bytes = from.kind === "oci"
      ? await Deno.readFile((await ensureCharts([from], { ...pull, signal }))[0]!)
      : await packedChart(chart);
    const unknown = await unknownValues(bytes, chart.values);
    if (unknown.length > 0) {
      const names = unknown.join(", ");
      options.span.warn(`the chart "${chart.name}" has no value ${names}: Helm ignores it`);
    }
    return bytes;
  };
  return await together(charts.map(archive), options);
}

/** The image of our own that charts take. */
async function helmArchive(
  arch: Arch,
  store: ArtifactStore,
  options: EnsureOptions,
): Promise<ImageArchive> {
  const recipe = await helmImageRecipe({ arch, assumeYes: options.assumeYes });
  const { files } = await store.ensure(recipe, options);
  return await describeArchive(Object.values(files)[0]!);
}

/** What a payload brings, as rows of `gateway build`: each file with its digest and size. */
export function preparedFiles(
  { payload, charts, images, later }: PreparedPayload,
): Pick<Artifact, "name" | "files">[] {
  const describe = (name: string, bytes: Uint8Array, path: string) =>
    [name, { path, sha256: digestBytes(bytes), sizeBytes: bytes.length }] as const;
  const manifests = payload.manifests.map(({ name, text }) =>
    describe(name, new TextEncoder().encode(text), join(payload.dir, name))
  );
  const packed = payload.charts.map(({ name, from }, at) =>
    describe(`${name}.tgz`, charts[at]!, from.kind === "oci" ? from.ref : from.path)
  );
  const pulled = [...images, ...later].map(({ ref, path, sha256, sizeBytes }) =>
    [ref, { path, sha256, sizeBytes }] as const
  );
  const files = Object.fromEntries([...manifests, ...packed, ...pulled]);
  return [{ name: payload.name, files }];
}

/** Puts the payload's images into a running guest that may not have them. */
export async function giveImages(
  { images }: PreparedPayload,
  guest: {
    readonly paths: InstancePaths;
    readonly span: Span;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { paths: { name, sshDir }, span, signal } = guest;
  if (images.length === 0) return;
  await span.run(
    "images",
    (inner) => bringImages({ name, sshDir }, images, { span: inner, signal }),
  );
}
