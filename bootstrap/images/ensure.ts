/**
 * This room brings container images and charts to the host and into a guest, and reads the user's registries.yaml. The
 * image tars that we build ourselves are made in rootfs/images. Read registries.ts next, then load.ts.
 *
 * The images and charts of registries that a payload names, found in the artifact store or pulled into it. With the
 * store filled no network is needed, and nobody is asked for one.
 * It must not load anything into a guest.
 *
 * @module
 */
import {
  CHART_FILE,
  IMAGE_FILE,
  type Pinned,
  type PullAccess,
  pulledChartRecipe,
  pulledImageRecipe,
  type PulledOptions,
  pullerRecipe,
} from "../../rootfs/images/pulled.ts";
import type { Arch } from "../../vm/base/arch.ts";
import type { JsonValue, Span } from "../../vm/base/event.ts";
import { together } from "../../vm/base/together.ts";
import type { Artifact, ArtifactStore, Recipe } from "../../vm/store/artifact.ts";
import { readRegistries, registriesPath } from "./registries.ts";

export type { Pinned } from "../../rootfs/images/pulled.ts";

/** How {@linkcode ensureImages} may act. */
export interface EnsureImagesOptions {
  /** The guest's. */
  readonly arch: Arch;
  readonly store: ArtifactStore;
  /** Each pull becomes its child, with its progress in bytes. */
  readonly span: Span;
  /** Ends running pulls; what came is kept and the next pull goes on there. */
  readonly signal: AbortSignal;
  /** Install missing host tools without asking, when the puller itself has to be built. */
  readonly assumeYes?: boolean;
  /** `--host-ca`: trusted beside the host's own authorities. */
  readonly hostCa?: string | null;
}

/** An OCI archive in the artifact store, ready for `loadImages`. */
export interface ImageArchive {
  /** As it was asked for. */
  readonly ref: string;
  /** The file. */
  readonly path: string;
  /** Of the file. */
  readonly sizeBytes: number;
  /** Of the file, hexadecimal. */
  readonly sha256: string;
  /** What the image is called once it is loaded: by tag, and by digest. */
  readonly names: readonly string[];
  /** Of the manifest in it. */
  readonly digest: string;
}

/** At a time: a registry serves a few well, and each pull has a few blobs under way by itself. */
const PARALLEL = 2;

/**
 * Finds or pulls images; the result is in the order of the list. Two starts that want the same image wait for each
 * other.
 *
 * @throws GatewayError `image-platform`, `image-digest`, `image-unknown`, `registry-denied`, `registry-unreachable`,
 * `registry-untrusted`, `disk-full`, `usage`, or that of building the puller.
 */
export async function ensureImages(
  images: readonly Pinned[],
  options: EnsureImagesOptions,
): Promise<ImageArchive[]> {
  const artifacts = await ensurePulled(images, options, "image");
  return artifacts.map(({ files, manifest }, at) => {
    const { path, sizeBytes, sha256 } = files[IMAGE_FILE]!;
    return {
      ref: images[at]!.ref,
      path,
      sizeBytes,
      sha256,
      names: namesOf(manifest.facts.names),
      digest: String(manifest.facts.manifest),
    };
  });
}

function namesOf(names: JsonValue | undefined): string[] {
  return Array.isArray(names) ? names.map(String) : [];
}

/**
 * Finds or pulls charts by their oci reference; gives the paths of the .tgz files in the order of the list.
 *
 * @throws GatewayError as {@linkcode ensureImages}.
 */
export async function ensureCharts(
  charts: readonly Pinned[],
  options: Omit<EnsureImagesOptions, "arch">,
): Promise<string[]> {
  const plain = charts.map(({ ref, digest }) => ({ ref: chartReference(ref), digest }));
  const artifacts = await ensurePulled(plain, { ...options, arch: "amd64" }, "chart");
  return artifacts.map(({ files }) => files[CHART_FILE]!.path);
}

/** A chart's reference as registries know it, without the scheme that Helm writes. Pure. */
export function chartReference(ref: string): string {
  return ref.replace(/^oci:\/\//, "");
}

/** Something of a registry. */
export type Wanted = Pinned & { readonly kind: "image" | "chart" };

/** What brings it into the store; an image is of the guest's architecture, a chart of none. */
export function wantedRecipe(
  { kind, ...one }: Wanted,
  { arch, ...how }: Omit<PulledOptions, keyof Pinned> & { readonly arch: Arch },
): Recipe {
  const asked = { ...one, ...how };
  return kind === "image" ? pulledImageRecipe({ ...asked, arch }) : pulledChartRecipe(asked);
}

async function ensurePulled(
  wanted: readonly Pinned[],
  options: EnsureImagesOptions,
  kind: "image" | "chart",
): Promise<Artifact[]> {
  if (wanted.length === 0) return [];
  const { arch, store, span, assumeYes = false } = options;
  const puller = await pullerRecipe();
  let access: Promise<PullAccess> | undefined;
  const recipe = (one: Pinned, how: PullAccess) =>
    wantedRecipe({ ...one, kind }, { access: how, puller, assumeYes, arch });
  const pull = (one: Pinned) => async (signal: AbortSignal) =>
    await store.find(recipe(one, NO_ACCESS), { span, signal }) ??
      await store.ensure(recipe(one, await (access ??= pullAccess(options))), {
        span,
        signal,
        assumeYes,
      });
  return await together(wanted.map(pull), { signal: options.signal, atOnce: PARALLEL });
}

/** What is there already is found without it. */
export const NO_ACCESS: PullAccess = { registries: null, caFiles: [], settings: "" };

/**
 * How this user's registries are reached: registries.yaml and the authority of `--host-ca`. Secret.
 *
 * @throws GatewayError `usage`, `permission` for a registries.yaml that cannot be used.
 */
export async function pullAccess(
  options: Pick<EnsureImagesOptions, "span" | "hostCa">,
): Promise<PullAccess> {
  const path = registriesPath();
  const registries = await readRegistries(options.span, path);
  const { hostCa } = options;
  return {
    registries: (registries ?? null) as JsonValue,
    caFiles: hostCa ? [hostCa] : [],
    settings: path,
  };
}
