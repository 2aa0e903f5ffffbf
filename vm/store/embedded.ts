/**
 * Artifacts that the program's own file carries, packed with zstd behind everything else in it. The package has their
 * list, with the distance of each from the file's end.
 * It must not decide whether one is trusted: the store keeps what comes out of here as it keeps a build, by its digest.
 *
 * @module
 */
import { join } from "@std/path";
import { exists } from "../base/layout.ts";
import { writeAll } from "../base/lines.ts";
import { BUNDLED, sourcePath } from "../base/source.ts";
import type { ArtifactManifest } from "./recipe.ts";

/** Where a package keeps the list, from the top. */
export const EMBEDDED_PATH = "dist/embedded.json";

/** The environment's name of the file that runs, set by its header. */
const FILE_VARIABLE = "GATEWAY_FILE";

/** Where one packed output is. */
export interface EmbeddedBlob {
  /** Of its first byte to the end of the file. */
  readonly fromEnd: number;
  /** Length of the zstd stream. */
  readonly packedBytes: number;
  /** Permission bits: some outputs are programs. */
  readonly mode: number;
}

/** One artifact of the list. */
export interface EmbeddedArtifact {
  /** As it was written when the artifact was built. */
  readonly manifest: ArtifactManifest;
  /** By output name; empty where only the manifest comes along. */
  readonly blobs: Readonly<Record<string, EmbeddedBlob>>;
}

/** The artifacts of one file. */
export class Embedded {
  static #own: Promise<Embedded> | undefined;

  /** Those that a list says are in a file. */
  constructor(
    private readonly file: string,
    private readonly artifacts: readonly EmbeddedArtifact[],
  ) {}

  /** Those of the file that runs; none from a checkout, or when that file is gone. */
  static ofThisProgram(): Promise<Embedded> {
    return this.#own ??= (async () => {
      const file = BUNDLED ? Deno.env.get(FILE_VARIABLE) : undefined;
      const list = sourcePath(EMBEDDED_PATH);
      if (file === undefined || !await exists(file) || !await exists(list)) {
        return new Embedded("", []);
      }
      return new Embedded(file, JSON.parse(await Deno.readTextFile(list)));
    })();
  }

  /** What was built to that key, if its files are here. */
  manifest(key: string): ArtifactManifest | undefined {
    const found = this.artifacts.find(({ manifest }) => manifest.key === key);
    const whole = found && Object.keys(found.manifest.files).every((name) => name in found.blobs);
    return whole ? found.manifest : undefined;
  }

  /** The manifest of what was built to that key, if it is here; its files may not be. */
  record(key: string): ArtifactManifest | undefined {
    return this.artifacts.find(({ manifest }) => manifest.key === key)?.manifest;
  }

  /** Leaves the outputs in a folder; what the bytes are worth is for their digests to say. */
  async unpack(key: string, outDir: string, signal: AbortSignal): Promise<void> {
    const { blobs } = this.artifacts.find(({ manifest }) => manifest.key === key)!;
    const [{ createZstdDecompress }, { pipeline }, { Readable, Writable }] = await Promise.all([
      ...[import("node:zlib"), import("node:stream/promises"), import("node:stream")] as const,
    ]);
    for (const [name, { fromEnd, packedBytes, mode }] of Object.entries(blobs)) {
      using packed = await Deno.open(this.file);
      await packed.seek(-fromEnd, Deno.SeekMode.End);
      using out = await Deno.open(join(outDir, name), { write: true, createNew: true, mode });
      const sink = new Writable({
        write(piece: Uint8Array, _, done) {
          writeAll(out, piece).then(() => done(), done);
        },
      });
      const source = Readable.from(pieces(packed, packedBytes), { objectMode: false });
      await pipeline(source, createZstdDecompress(), sink, { signal });
    }
  }
}

async function* pieces(file: Deno.FsFile, bytes: number): AsyncGenerator<Uint8Array> {
  for (let left = bytes; left > 0;) {
    const buffer = new Uint8Array(Math.min(left, 1 << 18));
    const read = await file.read(buffer);
    if (read === null) return;
    left -= read;
    yield buffer.subarray(0, read);
  }
}
