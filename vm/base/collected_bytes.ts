/**
 * The bytes of a stream in one array, with a limit.
 *
 * @module
 */

const FIRST_CAPACITY = 4096;

/** Copies chunks together: one that holds a single byte can keep a buffer of 64 KiB in memory. */
export class CollectedBytes {
  #buffer = new Uint8Array(0);
  #length = 0;

  constructor(private readonly maxBytes: number) {}

  /** False when it would be more than the limit; nothing of the chunk is kept then. */
  add(chunk: Uint8Array): boolean {
    const length = this.#length + chunk.length;
    if (length > this.maxBytes) return false;
    if (length > this.#buffer.length) {
      const capacity = Math.max(length, 2 * this.#buffer.length, FIRST_CAPACITY);
      const grown = new Uint8Array(Math.min(capacity, this.maxBytes));
      grown.set(this.#buffer.subarray(0, this.#length));
      this.#buffer = grown;
    }
    this.#buffer.set(chunk, this.#length);
    this.#length = length;
    return true;
  }

  /** What was added so far. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#buffer.subarray(0, this.#length);
  }

  /** The same as text. */
  text(): string {
    return new TextDecoder().decode(this.bytes);
  }
}
