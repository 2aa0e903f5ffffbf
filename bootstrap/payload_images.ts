/**
 * What a payload needs from elsewhere: charts packed or pulled and images found in the artifact store, pulled or built,
 * before a boot, so that the boot itself asks no registry; and the images' way into the guest.
 * It must not know how a registry is spoken to.
 *
 * @module
 */
import { join } from "@std/path";
import { imageNames } from "../rootfs/lock.ts";
import { helmImageRecipe } from "../rootfs/images.ts";
import { type Artifact, ArtifactStore } from "../vm/artifact.ts";
import { digestBytes } from "../vm/digest.ts";
import type { Span } from "../vm/event.ts";
import { ensureTools } from "../vm/host_tools.ts";
import type { InstancePaths } from "../vm/layout.ts";
import { ensureCharts, ensureImages, type ImageArchive } from "./images/ensure.ts";
import { loadImages } from "./images/load.ts";
import { packedDigest, type PackedPayload } from "./manifests.ts";
import { packedChart } from "./payload_files.ts";
import type { Payload } from "./payload_spec.ts";

/** A payload with everything that a boot of it takes. */
export interface PreparedPayload extends PackedPayload {
  /** All that the guest is given: those the payload names, and the one that installs charts. */
  readonly images: readonly ImageArchive[];
}

/** How {@linkcode preparePayload} may act. */
export interface PrepareOptions {
  readonly span: Span;
  readonly signal: AbortSignal;
  /** As root, install missing host tools. */
  readonly assumeYes: boolean;
  /** The user's own by default. */
  readonly store?: ArtifactStore;
  /** Certificates that pulls trust beside the host's own. */
  readonly hostCa?: string | null;
}

/** The guest's; only one is built so far. */
const ARCH = "amd64";

/**
 * Packs charts and gets what comes from registries. With the store filled it needs no network.
 *
 * @throws GatewayError of pulls and builds.
 */
export async function preparePayload(
  payload: Payload,
  options: PrepareOptions,
): Promise<PreparedPayload> {
  const { store = new ArtifactStore() } = options;
  const how = { ...options, store, arch: ARCH } as const;
  const [charts, named, helm] = await Promise.all([
    chartArchives(payload, how),
    ensureImages(payload.images, how),
    payload.charts.length > 0 ? helmImage(store, options) : undefined,
  ]);
  const images = [...named, ...(helm ? [helm] : [])];
  const digest = packedDigest({ payload, charts }, helm ? [helm.digest] : []);
  return { payload, charts, digest, images };
}

async function chartArchives(
  { charts }: Payload,
  how: Parameters<typeof ensureCharts>[1],
): Promise<Uint8Array[]> {
  const pinned = charts.flatMap(({ from }) => from.kind === "oci" ? [from] : []);
  const paths = await ensureCharts(pinned, how);
  return await Promise.all(charts.map((chart) => {
    const { from } = chart;
    return from.kind === "oci" ? Deno.readFile(paths[pinned.indexOf(from)]) : packedChart(chart);
  }));
}

/** The image of the jobs that install charts, an artifact of our own. */
async function helmImage(store: ArtifactStore, options: PrepareOptions): Promise<ImageArchive> {
  const recipe = await helmImageRecipe({ arch: ARCH, assumeYes: options.assumeYes });
  if (!await store.holds(recipe)) await ensureTools(recipe.tools, options);
  const { files } = await store.ensure(recipe, options);
  const { path, sizeBytes, sha256 } = Object.values(files)[0];
  // The digest of its manifest is not known here; without names it is loaded whenever the content is new.
  return { ref: imageNames.helm, path, sizeBytes, names: [], digest: sha256 };
}

/** What a payload brings, as rows of `gateway build`: each file with its digest and size. */
export function preparedFiles(
  { payload, charts, images }: PreparedPayload,
): Pick<Artifact, "name" | "files">[] {
  const describe = (name: string, bytes: Uint8Array, path: string) =>
    [name, { path, sha256: digestBytes(bytes), sizeBytes: bytes.length }] as const;
  const manifests = payload.manifests.map(({ name, text }) =>
    describe(name, new TextEncoder().encode(text), join(payload.dir, name))
  );
  const packed = payload.charts.map(({ name, from }, at) =>
    describe(`${name}.tgz`, charts[at], from.kind === "oci" ? from.ref : from.path)
  );
  const archives = images.map(({ ref, path, sizeBytes, digest }) =>
    [ref, { path, sizeBytes, sha256: digest.replace("sha256:", "") }] as const
  );
  return [{
    name: payload.name,
    files: Object.fromEntries([...manifests, ...packed, ...archives]),
  }];
}

/** Puts the payload's images into a running guest that may not have them. @throws GatewayError as `loadImages`. */
export async function giveImages(
  { images }: PreparedPayload,
  guest: {
    readonly paths: InstancePaths;
    readonly span: Span;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  if (images.length === 0) return;
  const { name, sshDir } = guest.paths;
  await guest.span.run(
    "images",
    (span) => loadImages({ name, sshDir }, images, { ...guest, span }),
  );
}
