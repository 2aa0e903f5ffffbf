import { assertEquals, assertRejects } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { packTar } from "../payload/tar.ts";
import { archiveFault, ArchiveWatch, folderError, unzipped } from "./archive.ts";

const AMD64 = "linux/amd64";

/** A stream of these bytes in pieces of a size. */
function pieces(bytes: Uint8Array, size: number): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(sink) {
      if (at >= bytes.length) return sink.close();
      sink.enqueue(bytes.slice(at, at + size));
      at += size;
    },
  });
}

const textOf = async (stream: ReadableStream<Uint8Array>) =>
  await new Response(stream as BodyInit).text();

Deno.test("unzipped() unpacks gzip in pieces of any size and leaves anything else as it is", async () => {
  const text = "one tar\n".repeat(5000);
  const plain = new TextEncoder().encode(text);
  const zipped = new Blob([plain]).stream().pipeThrough(new CompressionStream("gzip"));
  const packed = new Uint8Array(await new Response(zipped).arrayBuffer());
  for (const bytes of [plain, packed]) {
    for (const size of [1, 3, 1 << 20]) {
      assertEquals(await textOf(await unzipped(pieces(bytes, size), "x")), text);
    }
  }
  for (const short of ["", "a"]) {
    const bytes = new TextEncoder().encode(short);
    assertEquals(await textOf(await unzipped(pieces(bytes, 1), "x")), short);
  }
});

for (
  const [packer, magic] of [
    ["zstd", "28b52ffd0458"],
    ["xz", "fd377a585a00"],
    ["bzip2", "425a68393141"],
    ["lz4", "04224d186440"],
    ["zip", "504b03041400"],
  ] as const
) {
  Deno.test(`unzipped() names ${packer}`, async () => {
    const error = await assertRejects(
      () => unzipped(pieces(Uint8Array.fromHex(magic), 1), "app.tar"),
      GatewayError,
    );
    assertEquals(error.why, `it is packed with ${packer}, and only gzip is unpacked here`);
    assertEquals(error.fix.endsWith("app.tar | gateway image load -`"), true);
  });
}

const index = (entry: Record<string, unknown>) =>
  JSON.stringify({ manifests: [{ digest: "sha256:aa", ...entry }] });
const NAMED = { annotations: { "org.opencontainers.image.ref.name": "my/app:1" } };
const manifest = JSON.stringify({ config: { digest: "sha256:bb" } });
const config = (architecture: string) => JSON.stringify({ os: "linux", architecture });
const saved = (tags: string[] | null) => JSON.stringify([{ Config: "c.json", RepoTags: tags }]);
const NAMELESS = "no image in it has a name, so no pod could use it";
const ARM = "it is made for linux/arm64, and the guest is linux/amd64";

for (
  const [what, files, why] of [
    ["a named OCI archive", { "index.json": index(NAMED) }, undefined],
    ["an OCI archive without a name", { "index.json": index({}) }, NAMELESS],
    ["a docker archive", { "manifest.json": saved(["a:1"]) }, undefined],
    ["a docker archive by id", { "manifest.json": saved(null) }, NAMELESS],
    [
      "a docker archive of arm64",
      { "manifest.json": saved(["a:1"]), "c.json": config("arm64") },
      ARM,
    ],
    ["an index entry of arm64", {
      "index.json": index({ ...NAMED, platform: { os: "linux", architecture: "arm64" } }),
    }, ARM],
    ["a configuration of arm64", {
      "index.json": index(NAMED),
      "blobs/sha256/aa": manifest,
      "blobs/sha256/bb": config("arm64"),
    }, ARM],
    ["a configuration of amd64", {
      "index.json": index(NAMED),
      "blobs/sha256/aa": manifest,
      "blobs/sha256/bb": config("amd64"),
    }, undefined],
    ["an index of both with an attestation", {
      "index.json": index(NAMED),
      "blobs/sha256/aa": JSON.stringify({
        manifests: ["arm64", "amd64", "unknown"].map((architecture) => ({
          platform: { os: architecture === "unknown" ? "unknown" : "linux", architecture },
        })),
      }),
    }, undefined],
    [
      "a tar of skopeo's dir:",
      { "version": "Directory Transport Version: 1.1\n", "manifest.json": "{}" },
      "it holds a folder that skopeo wrote as dir:, which has no name",
    ],
    ["something else", { "notes.txt": "hello" }, undefined],
    ["a broken index", { "index.json": "{" }, undefined],
  ] as const
) {
  Deno.test(`ArchiveWatch sees ${what} pass by and finds ${why ?? "nothing wrong"}`, async () => {
    const data = (text: string) => new TextEncoder().encode(text);
    const tar = await packTar([
      { name: "./layer", data: new Uint8Array(3000), mode: 0o600 },
      ...Object.entries(files).map(([name, text]) => ({ name, data: data(text), mode: 0o600 })),
    ]);
    for (const size of [1, 700, 1 << 20]) {
      const watch = new ArchiveWatch();
      const passed = await new Response(pieces(tar, size).pipeThrough(watch) as BodyInit).bytes();
      assertEquals(passed, new Uint8Array(tar));
      assertEquals(watch.fault("app.tar", AMD64)?.why, why);
    }
    assertEquals(archiveFault(new Map(Object.entries(files)), "app.tar", AMD64)?.why, why);
  });
}

Deno.test("folderError() tells an OCI layout and skopeo's dir: from other folders", async () => {
  const dir = await Deno.makeTempDir();
  try {
    assertEquals((await folderError(dir)).why, "it is a folder");
    await Deno.writeTextFile(`${dir}/version`, "Directory Transport Version: 1.1\n");
    await Deno.writeTextFile(`${dir}/manifest.json`, "{}");
    const skopeo = "it is a folder that skopeo wrote as dir:, which has no name";
    assertEquals((await folderError(dir)).why, skopeo);
    await Deno.writeTextFile(`${dir}/oci-layout`, "{}");
    const layout = "it is a folder with an OCI layout, not an archive";
    assertEquals((await folderError(dir)).why, layout);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
