/**
 * The state disk of the stand-in for QEMU: its guest keeps a note there and how often it has written, both read and written
 * through qemu-io, so that overlays are real.
 *
 * @module
 */
import { run } from "../../vm/base/process.ts";

/** What a guest keeps on its disk, each a number below 256; 0 where it never wrote. */
export interface DiskContent {
  readonly note: number;
  /** Counts every write: memory that was saved with another count belongs to another disk. */
  readonly count: number;
}

/** One block each, far behind what a file system keeps at the start of a disk. */
const NOTE_AT = "32M";
const COUNT_AT = "33M";

/** The file that a guest writes to. While it is open no second guest can have it. */
export class GuestDisk implements Disposable {
  private constructor(
    private readonly path: string,
    private readonly format: string,
    private readonly lock: Deno.FsFile,
  ) {}

  /** Opens it. @throws Error when another guest has it open. */
  static async open(path: string, format: string): Promise<GuestDisk> {
    const lock = await Deno.open(path);
    if (await lock.tryLock(true)) return new GuestDisk(path, format, lock);
    lock.close();
    throw new Error(`two guests have the disk ${path}`);
  }

  /** What is on it now. */
  async read(): Promise<DiskContent> {
    const text = await this.#io(`read -v ${NOTE_AT} 512`, `read -v ${COUNT_AT} 512`);
    const first = (address: string) =>
      parseInt(new RegExp(`^${address}:\\s+([0-9a-f]{2})`, "m").exec(text)![1]!, 16);
    return { note: first("0*2000000"), count: first("0*2100000") };
  }

  /** Writes and flushes. */
  async write({ note, count }: DiskContent): Promise<void> {
    await this.#io(
      `write -P ${note} ${NOTE_AT} 512`,
      `write -P ${count} ${COUNT_AT} 512`,
      "flush",
    );
  }

  async #io(...commands: readonly string[]): Promise<string> {
    const args = ["-f", this.format, ...commands.flatMap((one) => ["-c", one]), this.path];
    const { stdout } = await run("qemu-io", { args, env: { LD_PRELOAD: "" } });
    if (/fail/i.test(stdout)) throw new Error(stdout);
    return stdout;
  }

  [Symbol.dispose](): void {
    this.lock.close();
  }
}
