/**
 * An image of the size of a real sandbox's base, made without a network: the same bytes each time. What it holds does
 * not compress, and its layers are plain tars.
 *
 * @module
 */
import { digestBytes } from "../../vm/base/digest.ts";

/** How large it is; by default 1 GB in 60,000 files and 20 layers. */
export interface LargeImage {
  readonly name: string;
  readonly layers?: number;
  readonly filesPerLayer?: number;
  readonly fileBytes?: number;
  /** Another number is another content, but for the lowest layers. */
  readonly edition?: number;
  /** How many of the lowest layers all editions share. */
  readonly shared?: number;
}

const BLOCK = 512;

/** Writes the archive (OCI) to `path`. */
export async function writeLargeImage(path: string, image: LargeImage): Promise<void> {
  const { name, layers = 20, filesPerLayer = 3000, fileBytes = 17_000 } = image;
  const { edition = 0, shared = layers } = image;
  using file = await Deno.open(path, { create: true, write: true, truncate: true });
  const sink = file.writable.getWriter();
  const put = async (name: string, data: Uint8Array) => {
    await sink.write(header(name, data.length, "0"));
    await sink.write(data);
    await sink.write(new Uint8Array((BLOCK - data.length % BLOCK) % BLOCK));
  };
  const blobs: { digest: string; size: number }[] = [];
  const putBlob = async (data: Uint8Array) => {
    const hex = digestBytes(data);
    await put(`blobs/sha256/${hex}`, data);
    return { digest: `sha256:${hex}`, size: data.length };
  };
  const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  await put("oci-layout", text({ imageLayoutVersion: "1.0.0" }));
  for (let at = 0; at < layers; at++) {
    const seed = at + 1 + (at < shared ? 0 : edition * 1000);
    blobs.push(await putBlob(layerTar(at, { filesPerLayer, fileBytes, seed })));
  }
  const config = await putBlob(text({
    architecture: "amd64",
    os: "linux",
    config: {},
    rootfs: { type: "layers", diff_ids: blobs.map(({ digest }) => digest) },
  }));
  const type = "application/vnd.oci.image";
  const manifest = await putBlob(text({
    schemaVersion: 2,
    mediaType: `${type}.manifest.v1+json`,
    config: { mediaType: `${type}.config.v1+json`, ...config },
    layers: blobs.map((blob) => ({ mediaType: `${type}.layer.v1.tar`, ...blob })),
  }));
  const annotations = { "io.containerd.image.name": name };
  await put(
    "index.json",
    text({
      schemaVersion: 2,
      manifests: [{ mediaType: `${type}.manifest.v1+json`, ...manifest, annotations }],
    }),
  );
  await sink.write(new Uint8Array(2 * BLOCK));
  await sink.close();
}

/** One layer: folders of a hundred files each. */
export function layerTar(
  layer: number,
  how: { readonly filesPerLayer: number; readonly fileBytes: number; readonly seed: number },
): Uint8Array {
  const { filesPerLayer, fileBytes, seed } = how;
  const perFile = BLOCK + Math.ceil(fileBytes / BLOCK) * BLOCK;
  const folders = Math.ceil(filesPerLayer / 100);
  const out = new Uint8Array(filesPerLayer * perFile + (folders + 1) * BLOCK + 2 * BLOCK);
  let [at, state] = [0, seed];
  const add = (bytes: Uint8Array) => {
    out.set(bytes, at);
    at += bytes.length;
  };
  add(header(`layer${layer}/`, 0, "5"));
  for (let file = 0; file < filesPerLayer; file++) {
    const folder = `layer${layer}/${Math.floor(file / 100)}/`;
    if (file % 100 === 0) add(header(folder, 0, "5"));
    add(header(`${folder}${file}`, fileBytes, "0"));
    const words = new Uint32Array(Math.ceil(fileBytes / 4));
    for (let word = 0; word < words.length; word++) {
      // xorshift32
      state ^= state << 13;
      state ^= state >>> 17;
      words[word] = state ^= state << 5;
    }
    out.set(new Uint8Array(words.buffer, 0, fileBytes), at);
    at += perFile - BLOCK;
  }
  return out;
}

/** A member's ustar header. */
function header(name: string, size: number, type: "0" | "5"): Uint8Array {
  const block = new Uint8Array(BLOCK);
  const put = (at: number, text: string) => block.set(new TextEncoder().encode(text), at);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0") + "\0";
  put(0, name);
  put(100, octal(type === "5" ? 0o755 : 0o644, 7));
  put(108, octal(0, 7));
  put(116, octal(0, 7));
  put(124, octal(size, 11));
  put(136, octal(0, 11));
  put(148, "        ");
  put(156, type);
  put(257, "ustar\x0000");
  put(148, octal(block.reduce((sum, byte) => sum + byte, 0), 6) + " ");
  return block;
}
