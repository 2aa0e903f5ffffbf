/**
 * Bounds the records that an untrusted sender can cause, such as a guest: events.jsonl and its followers get a number of
 * them in a run, and then a warning that the rest is omitted.
 *
 * @module
 */
import type { Attrs, Span } from "./event.ts";

/** What is left of a span for records that are bounded. */
export type LimitedSpan = Pick<Span, "log" | "warn" | "mark">;

/** How many records a sender may cause. */
export interface RecordLimit {
  /** What they are, as it reads after "too many". */
  readonly what: string;
  readonly records: number;
  /** Of names, messages and attributes. */
  readonly characters: number;
}

/** The span for as many records as the limit allows. The one after them is a warning instead, and the rest is omitted. */
export function limitRecords(span: LimitedSpan, limit: RecordLimit): LimitedSpan {
  let { records, characters } = limit;
  const take = (text: string, attrs: Attrs | undefined) => {
    if (records < 0) return false;
    records--;
    characters -= text.length + (attrs === undefined ? 0 : JSON.stringify(attrs).length);
    if (records >= 0 && characters >= 0) return true;
    records = -1;
    span.warn(`too many ${limit.what} in this run: the rest is not recorded`);
    return false;
  };
  return {
    log: (message, attrs) => void (take(message, attrs) && span.log(message, attrs)),
    warn: (message, attrs) => void (take(message, attrs) && span.warn(message, attrs)),
    mark: (name, uptime, attrs) => void (take(name, attrs) && span.mark(name, uptime, attrs)),
  };
}
