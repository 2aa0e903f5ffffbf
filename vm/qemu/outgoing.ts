/**
 * Folders for files that a confined VMM makes while it runs. Which folders it may write to is settled when it starts, so
 * it gets one for each file system that a save may go to, and what it wrote is moved from there.
 * It must not give a VMM access to a folder that holds anything else.
 *
 * @module
 */
import { basename, dirname, join } from "@std/path";
import { ensurePrivateDir } from "../base/layout.ts";
import { inMemoryDir, sweepMemory } from "../base/memory_dir.ts";
import { shareFile } from "../instance/disk_chain.ts";

/** Of one run. Disposing removes the folders. */
export class OutgoingFolders implements AsyncDisposable {
  private constructor(readonly paths: readonly [string, ...string[]]) {}

  /** One in the instance's folder, without what an earlier run left there, and one in memory where there is room. */
  static async make(instanceDir: string): Promise<OutgoingFolders> {
    const dir = join(instanceDir, "outgoing");
    await Deno.remove(dir, { recursive: true }).catch(() => {});
    await ensurePrivateDir(dir);
    await sweepMemory();
    const memory = await inMemoryDir(crypto.randomUUID().slice(0, 8), 0);
    return new OutgoingFolders([dir, ...memory === undefined ? [] : [memory]]);
  }

  /** Where the VMM writes what {@linkcode deliver} moves to the path. */
  async stage(path: string): Promise<string> {
    const { dev } = await Deno.stat(dirname(path));
    for (const dir of this.paths) {
      if ((await Deno.stat(dir)).dev === dev) return join(dir, basename(path));
    }
    return join(this.paths[0], basename(path));
  }

  /** Moves a file that is whole. @throws GatewayError `disk-full`, `process-failed`. */
  async deliver(staged: string, path: string): Promise<void> {
    await shareFile(staged, path);
    await Deno.remove(staged);
  }

  /** A name by which the VMM can open a file of the instance that was made after its start. */
  async offer(path: string): Promise<string> {
    const name = join(this.paths[0], basename(path));
    await Deno.link(path, name);
    return name;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const dir of this.paths) await Deno.remove(dir, { recursive: true }).catch(() => {});
  }
}
