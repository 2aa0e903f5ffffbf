/**
 * A file of records that is read while it is written.
 *
 * @module
 */
import { type EventRecord, parseEventLine } from "./event.ts";
import { LogReader } from "./log_file.ts";

/** Reads the records of a JSON-lines file as they are appended. */
export class EventReader {
  readonly #log: LogReader;
  readonly #decoder = new TextDecoder();
  /** The begin of a line whose end is not written yet. */
  #rest = "";

  /** The file may not be there yet. */
  constructor(path: string) {
    this.#log = new LogReader(path);
  }

  /** The records that were completed since the last call. Rejects with what reading rejects with. */
  async read(): Promise<EventRecord[]> {
    this.#rest += this.#decoder.decode(await this.#log.read(), { stream: true });
    const lines = this.#rest.split("\n");
    this.#rest = lines.pop()!;
    return lines.map(parseEventLine).filter((record) => record !== undefined);
  }
}
