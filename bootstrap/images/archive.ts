/**
 * What archives of images say of themselves: one that we made, whole, and a user's while it is sent to the guest, so that
 * an error names the cause. containerd does the import; nothing here decides what it takes.
 *
 * @module
 */
import { GatewayError, usageError } from "../../vm/base/error.ts";
import { exists } from "../../vm/base/layout.ts";
import { run } from "../../vm/base/process.ts";
import type { ImageArchive } from "./ensure.ts";

/** An image in an index that ocipack writes. */
interface IndexEntry {
  readonly digest: string;
  readonly annotations: { readonly "io.containerd.image.name": string };
}

/** The one image in a file of the store, by the index at its top. The file's own digest is the store's, and not taken again. */
export async function describeArchive(
  file: Pick<ImageArchive, "path" | "sizeBytes" | "sha256">,
): Promise<ImageArchive> {
  const { path, sizeBytes, sha256 } = file;
  const { stdout } = await run("tar", { args: ["-xOf", path, "index.json"], timeoutMs: 60_000 });
  const { manifests } = JSON.parse(stdout) as {
    manifests: readonly [IndexEntry, ...IndexEntry[]];
  };
  const nameOf = ({ annotations }: IndexEntry) => annotations["io.containerd.image.name"];
  const [first] = manifests;
  const names = manifests.map(nameOf);
  return { ref: nameOf(first), path, sizeBytes, sha256, names, digest: first.digest };
}

/** First bytes of what archives are packed with; gzip is unpacked by us. */
const PACKERS = [
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a]],
  ["bzip2", [0x42, 0x5a, 0x68]],
  ["lz4", [0x04, 0x22, 0x4d, 0x18]],
  ["zip", [0x50, 0x4b, 0x03, 0x04]],
] as const;
const GZIP = [0x1f, 0x8b];
const LONGEST_MAGIC = 6;

const begins = (bytes: Uint8Array, magic: readonly number[]) =>
  magic.every((byte, at) => bytes[at] === byte);

/** The archive itself where it is packed with gzip. @throws GatewayError `usage` for what is packed differently. */
export async function unzipped(
  stream: ReadableStream<Uint8Array>,
  what: string,
): Promise<ReadableStream<Uint8Array>> {
  const reader = stream.getReader();
  // A pipe may give one byte at a time.
  let first = new Uint8Array(0);
  while (first.length < LONGEST_MAGIC) {
    const { value } = await reader.read();
    if (value === undefined) break;
    const joined = new Uint8Array(first.length + value.length);
    joined.set(first);
    joined.set(value, first.length);
    first = joined;
  }
  const [packer] = PACKERS.find(([, magic]) => begins(first, magic)) ?? [];
  if (packer !== undefined) {
    await reader.cancel();
    const unpack = packer === "zip" ? "unzip -p" : `${packer} -dc`;
    throw cannotLoad(
      what,
      `it is packed with ${packer}, and only gzip is unpacked here`,
      `run \`${unpack} ${what === "stdin" ? "FILE" : what} | gateway image load -\``,
    );
  }
  const whole = new ReadableStream<Uint8Array<ArrayBuffer>>({
    start(sink) {
      if (first.length > 0) sink.enqueue(first);
    },
    async pull(sink) {
      const { done, value } = await reader.read();
      if (done) sink.close();
      else sink.enqueue(value as Uint8Array<ArrayBuffer>);
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return begins(first, GZIP) ? whole.pipeThrough(new DecompressionStream("gzip")) : whole;
}

const cannotLoad = (what: string, why: string, fix: string) =>
  usageError(`Cannot load the image "${what}"`, why, fix);

/** Why a folder is not an archive, by what is in it. */
export async function folderError(path: string): Promise<GatewayError> {
  if (await exists(`${path}/oci-layout`)) {
    const fix = `run \`tar -C ${path} -cf - . | gateway image load -\``;
    return cannotLoad(path, "it is a folder with an OCI layout, not an archive", fix);
  }
  if (await exists(`${path}/version`) && await exists(`${path}/manifest.json`)) {
    const fix = `run \`skopeo copy dir:${path} docker-archive:app.tar:NAME:TAG\` and load app.tar`;
    return cannotLoad(path, "it is a folder that skopeo wrote as dir:, which has no name", fix);
  }
  return cannotLoad(
    path,
    "it is a folder",
    "name an archive that `docker save` or an OCI tool wrote",
  );
}

const BLOCK = 512;
/** Manifests and configurations are smaller; all of them together are bounded. */
const MAX_JSON_BYTES = 1024 * 1024;
const MAX_KEPT_BYTES = 16 * 1024 * 1024;

/** Sees an archive pass by and keeps its small files, which say what it holds. */
export class ArchiveWatch extends TransformStream<Uint8Array, Uint8Array> {
  /** Texts by name, without a leading "./". */
  readonly #texts = new Map<string, string>();
  #kept = 0;
  #head = new Uint8Array(0);
  /** What is left of the file that passes by, its padding included. */
  #left = 0;
  #file:
    | { readonly name: string; readonly size: number; readonly pieces: Uint8Array[] }
    | undefined;

  constructor() {
    super({
      transform: (piece, sink) => {
        this.#look(piece);
        sink.enqueue(piece);
      },
    });
  }

  #look(piece: Uint8Array): void {
    for (let at = 0; at < piece.length;) {
      if (this.#left > 0) {
        const part = piece.subarray(at, at + this.#left);
        this.#file?.pieces.push(part.slice());
        this.#left -= part.length;
        at += part.length;
        if (this.#left === 0) this.#keep();
        continue;
      }
      const part = piece.subarray(at, at + BLOCK - this.#head.length);
      const head = new Uint8Array(this.#head.length + part.length);
      head.set(this.#head);
      head.set(part, this.#head.length);
      this.#head = head;
      at += part.length;
      if (head.length === BLOCK) this.#begin(head);
    }
  }

  #begin(head: Uint8Array): void {
    this.#head = new Uint8Array(0);
    const field = (from: number, to: number) =>
      new TextDecoder().decode(head.subarray(from, to)).replace(/\0[\s\S]*$/, "").trim();
    const size = head[124]! >= 0x80
      ? Number(head.subarray(128, 136).reduce((sum, byte) => sum * 256n + BigInt(byte), 0n))
      : parseInt(field(124, 136) || "0", 8);
    // The end, or no tar at all.
    if (!Number.isSafeInteger(size) || size <= 0) return;
    this.#left = Math.ceil(size / BLOCK) * BLOCK;
    const prefix = field(257, 262) === "ustar" ? field(345, 500) : "";
    const name = [prefix, field(0, 100)].filter((part) => part !== "").join("/");
    const small = size <= MAX_JSON_BYTES && this.#kept + size <= MAX_KEPT_BYTES;
    const regular = head[156] === 0 || head[156] === 0x30;
    this.#file = small && regular
      ? { name: name.replace(/^\.\//, ""), size, pieces: [] }
      : undefined;
  }

  #keep(): void {
    if (this.#file === undefined) return;
    const { name, size, pieces } = this.#file;
    this.#file = undefined;
    const decoder = new TextDecoder();
    const text = pieces.map((piece) => decoder.decode(piece, { stream: true })).join("");
    const start = text.trimStart()[0];
    if (start !== "{" && start !== "[" && name !== "version") return;
    this.#kept += size;
    this.#texts.set(name, text.replace(/\0+$/, ""));
  }

  /** Why the guest cannot use what has passed by; undefined when nothing speaks against it. */
  fault(what: string, platform: string): GatewayError | undefined {
    return archiveFault(this.#texts, what, platform);
  }
}

// deno-lint-ignore no-explicit-any
type Json = any;

/** What an archive's small files say against it. Pure. */
export function archiveFault(
  texts: ReadonlyMap<string, string>,
  what: string,
  platform: string,
): GatewayError | undefined {
  const read = (name: string): Json => {
    try {
      return JSON.parse(texts.get(name) ?? "");
    } catch {
      return undefined;
    }
  };
  const [index, docker] = [read("index.json"), read("manifest.json")];
  const entries: Json[] = Array.isArray(index?.manifests) ? index.manifests : [];
  const saved: Json[] = Array.isArray(docker) ? docker : [];
  if (entries.length + saved.length === 0) {
    if (!texts.get("version")?.startsWith("Directory Transport")) return undefined;
    const fix = "run `skopeo copy dir:FOLDER docker-archive:app.tar:NAME:TAG` and load app.tar";
    return cannotLoad(what, "it holds a folder that skopeo wrote as dir:, which has no name", fix);
  }
  const named = entries.some(({ annotations }) =>
    annotations?.["io.containerd.image.name"] ||
    annotations?.["org.opencontainers.image.ref.name"]
  ) || saved.some(({ RepoTags }) => RepoTags?.length > 0);
  if (!named) {
    const fix =
      "save it by its name: `docker save my/app:1`, or `skopeo copy … oci-archive:app.tar:my/app:1`";
    return cannotLoad(what, "no image in it has a name, so no pod could use it", fix);
  }
  const blob = (digest: unknown) => read(`blobs/${String(digest).replace(":", "/")}`);
  const platformsOf = (entry: Json): string[] => {
    if (entry?.platform?.os) return [`${entry.platform.os}/${entry.platform.architecture}`];
    const found = blob(entry?.digest);
    if (Array.isArray(found?.manifests)) return found.manifests.flatMap(platformsOf);
    return configured(blob(found?.config?.digest));
  };
  const configured = (config: Json) => config?.os ? [`${config.os}/${config.architecture}`] : [];
  const all = [
    ...entries.flatMap(platformsOf),
    ...saved.flatMap(({ Config }) => configured(read(String(Config)))),
  ].filter((one) => !one.startsWith("unknown"));
  if (all.length === 0 || all.includes(platform)) return undefined;
  return new GatewayError({
    code: "image-platform",
    what: `Cannot load the image "${what}"`,
    why: `it is made for ${[...new Set(all)].join(", ")}, and the guest is ${platform}`,
    fix: `build or pull it for ${platform}`,
  });
}
