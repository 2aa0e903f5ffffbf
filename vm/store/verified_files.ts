/**
 * Files of artifacts, compared with their digests.
 * It must not know what is done with a file that differs.
 *
 * @module
 */
import { digestFile } from "../base/digest.ts";
import { keepStamp, readStamp, stampText } from "../base/stamp.ts";
import { corrupt } from "./errors.ts";
import type { Recipe } from "./recipe.ts";

/** What this process has compared. */
export class VerifiedFiles {
  /** Files this process has hashed itself, with their stamps. */
  readonly #hashed = new Map<string, string>();

  /**
   * Compares a file with its digest. Hashing hundreds of MiB at every start would cost more than the boot's own
   * first step, so the result is remembered for exactly this inode, size, mtime and ctime: any write to the file
   * changes its ctime, which no unprivileged program can set back. The note lies beside the file and whoever can
   * write one can write both; so with `strict` it does not count, and each process hashes for itself.
   *
   * @throws GatewayError `artifact-corrupt`.
   */
  async check(
    recipe: Pick<Recipe, "name" | "label">,
    file: { readonly path: string; readonly sha256: string; readonly sizeBytes: number },
    strict: boolean,
  ): Promise<void> {
    const { path, sha256, sizeBytes } = file;
    let info: Deno.FileInfo;
    try {
      info = await Deno.stat(path);
    } catch {
      throw corrupt(recipe, `"${path}" is gone, with sha256 ${sha256}`);
    }
    if (info.size !== sizeBytes) {
      throw corrupt(recipe, `"${path}" has ${info.size} bytes instead of ${sizeBytes}`);
    }
    const stamp = stampText(sha256, info);
    const known = strict ? this.#hashed.get(path) : await readStamp(path);
    if (known === stamp) return;
    const found = await digestFile(path);
    if (found !== sha256) {
      throw corrupt(recipe, `"${path}" has sha256 ${found} instead of ${sha256}`);
    }
    await keepStamp(path, sha256, info);
    this.#hashed.set(path, stamp);
  }
}
