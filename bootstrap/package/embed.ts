/**
 * What the one file embeds: the artifacts that a start needs, and the golden disk if there is one, packed with zstd. What
 * was packed is kept in the build cache by its digest.
 * It must not build the golden disk: that is a cluster's whole start.
 *
 * @module
 */
import { join } from "@std/path";
import { createReadStream, createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { constants, createZstdCompress } from "node:zlib";
import { pullerRecipe } from "../../rootfs/images/pulled.ts";
import type { HostPlatform } from "../../vm/base/arch.ts";
import { exists } from "../../vm/base/layout.ts";
import { type Artifact, ArtifactStore } from "../../vm/store/artifact.ts";
import type { ArtifactManifest } from "../../vm/store/recipe.ts";
import { allRecipes, ensureArtifacts, type EnsureArtifactsOptions } from "../artifacts/ensure.ts";
import { hostFacts, resolveOptions } from "../plan/options.ts";
import { goldenDiskRecipe } from "../saved/golden_disk.ts";

/** An artifact with its outputs packed. */
export interface PackedArtifact {
  readonly manifest: ArtifactManifest;
  readonly files: readonly PackedFile[];
}

/** One packed output. */
export interface PackedFile {
  readonly name: string;
  /** Of the packed bytes. */
  readonly path: string;
  readonly packedBytes: number;
  /** Of the output itself. */
  readonly mode: number;
}

/** The root image at 12: 8 s and 40 %; at 19: minutes and 36 %. */
const LEVEL = 12;

/** Finds or builds what is to be embedded in the file for a host, with a guest of its processor, and packs it. */
export async function packForEmbedding(
  host: HostPlatform,
  settings: Omit<EnsureArtifactsOptions, "host" | "config">,
): Promise<PackedArtifact[]> {
  const { store = new ArtifactStore() } = settings;
  const { arch } = host;
  const options = { ...settings, store, host, config: { vmm: "auto", arch } } as const;
  const { kernel, root, gvproxy, tsc, ramshim } = await ensureArtifacts(options);
  const { config } = resolveOptions({ name: "golden", assumeYes: false, arch }, hostFacts());
  const golden = await store.find(goldenDiskRecipe({ kernel, root }, config), options);
  const packed: PackedArtifact[] = [];
  // A start needs it only where a payload names images; whoever has the one file has no Go to build it.
  const puller = await store.ensure(await pullerRecipe(host), options);
  for (const artifact of [kernel, root, gvproxy, tsc, ramshim, puller, golden]) {
    if (artifact) packed.push(await packArtifact(artifact, store, options.signal));
  }
  // Its packages are in the key of the root image; its files are not needed.
  const { base } = (await allRecipes(options, store)).rootfs;
  const record = await store.manifest(base.recipe);
  if (record) packed.push({ manifest: record, files: [] });
  return packed;
}

/** Packs every output of an artifact. */
export async function packArtifact(
  artifact: Artifact,
  store: ArtifactStore,
  signal: AbortSignal,
): Promise<PackedArtifact> {
  const dir = join(store.buildCacheDir, "packed");
  await Deno.mkdir(dir, { recursive: true });
  const files: PackedFile[] = [];
  for (const [name, { path, sha256 }] of Object.entries(artifact.files)) {
    const packed = join(dir, `${sha256}-${LEVEL}.zst`);
    if (!await exists(packed)) await pack(path, packed, signal);
    const mode = ((await Deno.stat(path)).mode ?? 0o644) & 0o777;
    files.push({ name, path: packed, packedBytes: (await Deno.stat(packed)).size, mode });
  }
  return { manifest: artifact.manifest, files };
}

async function pack(from: string, to: string, signal: AbortSignal): Promise<void> {
  const temporary = `${to}.tmp-${crypto.randomUUID().slice(0, 8)}`;
  const zstd = createZstdCompress({
    params: {
      [constants.ZSTD_c_compressionLevel]: LEVEL,
      // The same Go packages are in several programs, tens of MiB apart. 2^27 is what every unpacker allows.
      [constants.ZSTD_c_enableLongDistanceMatching]: 1,
      [constants.ZSTD_c_windowLog]: 27,
    },
  });
  try {
    await pipeline(createReadStream(from), zstd, createWriteStream(temporary), { signal });
    await Deno.rename(temporary, to);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}
