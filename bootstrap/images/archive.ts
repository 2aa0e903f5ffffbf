/**
 * What an OCI archive that we made says of itself.
 * It must not read an archive of a stranger: those may have any form, and containerd reads them.
 *
 * @module
 */
import { digestFile } from "../../vm/digest.ts";
import { run } from "../../vm/process.ts";
import type { ImageArchive } from "./ensure.ts";

/** The one image in it, by the index at its top. */
export async function describeArchive(path: string): Promise<ImageArchive> {
  const { stdout } = await run("tar", { args: ["-xOf", path, "index.json"], timeoutMs: 60_000 });
  const { manifests } = JSON.parse(stdout) as {
    manifests: { digest: string; annotations: Record<string, string> }[];
  };
  const names = manifests.map(({ annotations }) => annotations["io.containerd.image.name"]);
  const { size } = await Deno.stat(path);
  return {
    ref: names[0],
    path,
    sizeBytes: size,
    sha256: await digestFile(path),
    names,
    digest: manifests[0].digest,
  };
}
