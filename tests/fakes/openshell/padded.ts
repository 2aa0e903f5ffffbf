/**
 * Stand-ins of the real ones' sizes: layers of files that do not compress are added to an image, the same bytes each time.
 *
 * @module
 */
import { join } from "@std/path";
import { digestBytes } from "../../../vm/base/digest.ts";
import { run } from "../../../vm/base/process.ts";
import { layerTar } from "../large_image.ts";
import type { StandIns } from "../openshell.ts";

const LAYER = "application/vnd.oci.image.layer.v1.tar";

/** What is added. */
interface Padding {
  readonly layers: number;
  readonly filesPerLayer: number;
  readonly fileBytes: number;
}

/** The gateway's program has about 80 MB; the stand-in's own is a part of that. */
const GATEWAY: Padding = { layers: 1, filesPerLayer: 1, fileBytes: 50_000_000 };
/** 1 GB in 60,000 files. */
const BASE: Padding = { layers: 20, filesPerLayer: 3000, fileBytes: 17_000 };

/** Writes padded archives of gateway and base below `dir`; the others stay as they are. */
export async function paddedStandIns(dir: string, images: StandIns): Promise<StandIns> {
  return {
    ...images,
    gateway: await padImage(images.gateway, join(dir, "gateway"), GATEWAY),
    base: await padImage(images.base, join(dir, "base"), BASE),
  };
}

async function padImage(archive: string, dir: string, padding: Padding): Promise<string> {
  await Deno.mkdir(dir, { recursive: true });
  await run("tar", { args: ["-xf", archive, "-C", dir] });
  const blob = (digest: string) => join(dir, "blobs/sha256", digest.replace("sha256:", ""));
  const json = async (path: string) => JSON.parse(await Deno.readTextFile(path));
  const put = async (bytes: Uint8Array) => {
    const digest = `sha256:${digestBytes(bytes)}`;
    await Deno.writeFile(blob(digest), bytes);
    return { digest, size: bytes.length };
  };
  const putJson = (value: unknown) => put(new TextEncoder().encode(JSON.stringify(value)));
  const index = await json(join(dir, "index.json"));
  const manifest = await json(blob(index.manifests[0].digest));
  const config = await json(blob(manifest.config.digest));
  delete config.history;
  for (let at = 0; at < padding.layers; at++) {
    const layer = await put(layerTar(at, { ...padding, seed: at + 1 }));
    manifest.layers.push({ mediaType: LAYER, ...layer });
    config.rootfs.diff_ids.push(layer.digest);
  }
  Object.assign(manifest.config, await putJson(config));
  Object.assign(index.manifests[0], await putJson(manifest));
  await Deno.writeTextFile(join(dir, "index.json"), JSON.stringify(index));
  const padded = `${dir}.tar`;
  await run("tar", { args: ["-cf", padded, "-C", dir, "."] });
  await Deno.remove(dir, { recursive: true });
  return padded;
}
