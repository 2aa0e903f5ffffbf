/**
 * The one file: header, runtime, program, embedded artifacts. Equal sources and an equal runtime give equal bytes.
 * It must not hold what the header does when it runs.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { digestBytes, digestFile } from "../../vm/base/digest.ts";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { ownVersion } from "../../vm/store/builder.ts";
import { EMBEDDED_PATH, type EmbeddedArtifact } from "../../vm/store/embedded.ts";
import { packTar } from "../payload/tar.ts";
import { filesBelow, makeApp } from "./app.ts";
import type { PackedArtifact } from "./embed.ts";
import { headerText } from "./header.ts";
import { ownRuntime, type Runtime } from "./runtime.ts";

/** Makes the file at a path, with what is to be embedded, for the system of its runtime: this one by default. */
export async function makeOneFile(
  path: string,
  signal: AbortSignal,
  embedded: readonly PackedArtifact[] = [],
  runtime: Runtime = ownRuntime(),
): Promise<void> {
  await Deno.mkdir(dirname(path), { recursive: true });
  const work = await Deno.makeTempDir({ dir: dirname(path), prefix: ".one-" });
  try {
    const app = join(work, "app");
    const names = embedded.map(({ manifest }) => manifest.name).join(", ");
    const built = `one file, of the runtime's own program and deno bundle ${Deno.version.deno}`;
    await makeApp(app, { built: names ? `${built}, with ${names}` : built, signal });
    const blobs = embedded.flatMap(({ files }) => files);
    if (names) await writeFileAtomic(join(app, EMBEDDED_PATH), embeddedList(embedded), 0o644);
    const tar = await packApp(app);
    const { size } = await Deno.stat(runtime.path);
    const parts = {
      runtime: { sha256: await digestFile(runtime.path), sizeBytes: size },
      app: { sha256: digestBytes(tar), sizeBytes: tar.length },
    };
    const key = digestBytes(parts.runtime.sha256 + parts.app.sha256).slice(0, 16);
    const made = join(work, "gateway");
    const header = headerText({
      version: await ownVersion(),
      key,
      system: runtime.system,
      ...parts,
    });
    await Deno.writeTextFile(made, header, { createNew: true });
    for (const part of [runtime.path, tar, ...blobs.map(({ path }) => path)]) {
      const data = typeof part === "string" ? (await Deno.open(part)).readable : part;
      await Deno.writeFile(made, data, { append: true, signal });
    }
    await Deno.chmod(made, 0o755);
    await Deno.rename(made, path);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** The list that {@linkcode Embedded} reads: where each output will be. */
export function embeddedList(embedded: readonly PackedArtifact[]): string {
  let left = embedded.flatMap(({ files }) => files).reduce(
    (sum, file) => sum + file.packedBytes,
    0,
  );
  const list = embedded.map(({ manifest, files }): EmbeddedArtifact => ({
    manifest,
    blobs: Object.fromEntries(files.map(({ name, packedBytes, mode }) => {
      const fromEnd = left;
      left -= packedBytes;
      return [name, { fromEnd, packedBytes, mode }];
    })),
  }));
  return JSON.stringify(list);
}

async function packApp(app: string): Promise<Uint8Array> {
  return await packTar(
    await Promise.all((await filesBelow(app)).map(async (name) => {
      const { mode } = await Deno.stat(join(app, name));
      // Recipes count whether a file is executable, and nothing else of its mode.
      const executable = ((mode ?? 0) & 0o111) !== 0;
      const data = await Deno.readFile(join(app, name));
      return { name, data, mode: executable ? 0o755 : 0o644 };
    })),
  );
}
