/**
 * The memory that a running instance shares with clones it was saved for: layers in a file system in memory, which the
 * instance has adopted, so that the next clone takes them too and is saved only what has changed since.
 * It must not save or map anything by itself.
 *
 * @module
 */
import { basename, join } from "@std/path";
import { inMemoryDir } from "../../vm/base/memory_dir.ts";
import { describeShortLived, type SavedFile } from "../../vm/instance/saved_state.ts";

/** Each layer makes more mappings in every clone; after so many a clone is saved whole again. */
const LAYERS_AT_MOST = 4;

/** Of one run of a VMM. Disposing removes the files; whoever has them mapped keeps their pages. */
export class SharedMemory implements AsyncDisposable {
  #dir: string | undefined;
  /** Bottom first. */
  #layers: SavedFile[] = [];

  /**
   * Links what is shared into a clone's folder, which must be on the same file system; gives the links, bottom first. None:
   * the next save begins anew.
   */
  async linkInto(ramDir: string): Promise<readonly SavedFile[]> {
    if (this.#layers.length >= LAYERS_AT_MOST) return [];
    try {
      return await Promise.all(this.#layers.map(async (layer) => {
        const name = join(ramDir, basename(layer.name));
        await Deno.link(layer.name, name);
        return { ...layer, name };
      }));
    } catch {
      // Another file system, or nothing is there any more: the save begins anew.
      return [];
    }
  }

  /**
   * Keeps a layer that the VM has adopted above the first `below` ones. Undefined: it has not, and what it has mapped is no
   * longer what was known here.
   */
  async take(ramPath: string | undefined, below: number): Promise<void> {
    const dropped = this.#layers.splice(ramPath === undefined ? 0 : below);
    for (const { name } of dropped) await Deno.remove(name).catch(() => {});
    if (ramPath === undefined) return;
    this.#dir ??= await inMemoryDir(crypto.randomUUID().slice(0, 8), 0);
    const name = this.#dir && join(this.#dir, basename(ramPath));
    const kept = name && await Deno.link(ramPath, name).then(() => true, () => false);
    if (kept) this.#layers.push(await describeShortLived(name));
    else await this.take(undefined, 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#layers = [];
    if (this.#dir) await Deno.remove(this.#dir, { recursive: true }).catch(() => {});
  }
}
