/**
 * How what runs inside the outer machine speaks: one line of JSON on stdout for each record.
 *
 * @module
 */

/** Writes one record. */
export function tell(record: unknown): void {
  const bytes = new TextEncoder().encode(`${JSON.stringify(record)}\n`);
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

/** Runs one thing; an error is a part of how it went. */
export async function attempt<T>(
  run: () => Promise<T>,
): Promise<{ readonly value?: T; readonly error?: string; readonly ms: number }> {
  const began = performance.now();
  const ms = () => Math.round(performance.now() - began);
  try {
    return { value: await run(), ms: ms() };
  } catch (thrown) {
    const error = thrown instanceof Error ? thrown.stack ?? thrown.message : String(thrown);
    return { error, ms: ms() };
  }
}
