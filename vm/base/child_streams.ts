/**
 * What goes into a program and what comes out of it, for a run that is awaited.
 *
 * @module
 */
import { CollectedBytes } from "./collected_bytes.ts";

/** What {@linkcode collect} does with a stream. */
export interface CollectOptions {
  /** Everything is written to it instead of being kept. */
  readonly log?: Deno.FsFile;
  readonly onOutput?: (text: string) => void;
  readonly maxBytes: number;
  /** Called once when there is more than that; the rest is not read. */
  readonly onFlood: () => void;
}

/** Reads a stream to its end and returns what is kept of it. */
export async function collect(
  stream: ReadableStream<Uint8Array>,
  { log, onOutput, maxBytes, onFlood }: CollectOptions,
): Promise<Uint8Array> {
  const kept = new CollectedBytes(maxBytes);
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    if (log) await log.write(chunk);
    else if (!kept.add(chunk)) {
      onFlood();
      // Leaving the loop closes the pipe, so that nothing more can be written into it.
      break;
    }
    onOutput?.(decoder.decode(chunk, { stream: true }));
  }
  return kept.bytes;
}

/** Writes all of the source and closes the sink. Never rejects. */
export async function feed(
  sink: WritableStream<Uint8Array>,
  source: Uint8Array | string | ReadableStream<Uint8Array>,
): Promise<void> {
  try {
    if (source instanceof ReadableStream) {
      await source.pipeTo(sink);
      return;
    }
    const writer = sink.getWriter();
    await writer.write(typeof source === "string" ? new TextEncoder().encode(source) : source);
    await writer.close();
  } catch {
    // The program closed its stdin first; its exit code tells the rest.
  }
}
