/**
 * What an OCI archive that we made says of itself.
 * It must not read an archive of a stranger: those may have any form, and containerd reads them.
 *
 * @module
 */
import { run } from "../../vm/process.ts";
import type { ImageArchive } from "./ensure.ts";

/** The one image in a file of the store, by the index at its top. The file's own digest is the store's, and not taken again. */
export async function describeArchive(
  file: Pick<ImageArchive, "path" | "sizeBytes" | "sha256">,
): Promise<ImageArchive> {
  const { path, sizeBytes, sha256 } = file;
  const { stdout } = await run("tar", { args: ["-xOf", path, "index.json"], timeoutMs: 60_000 });
  const { manifests } = JSON.parse(stdout) as {
    manifests: { digest: string; annotations: Record<string, string> }[];
  };
  const names = manifests.map(({ annotations }) => annotations["io.containerd.image.name"]);
  return { ref: names[0], path, sizeBytes, sha256, names, digest: manifests[0].digest };
}
