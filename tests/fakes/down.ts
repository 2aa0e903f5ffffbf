/**
 * Calls down() with a bound of its own, which the command line does not offer, and tells the outcome on stdout.
 * It must not do anything else.
 *
 * @module
 */
import { down } from "../../bootstrap/run/down.ts";
import { silentSpan } from "../../vm/base/event.ts";

const [name, timeoutMs] = Deno.args;
const span = silentSpan();
const signal = new AbortController().signal;
const outcome = await down(name!, { span, signal, timeoutMs: Number(timeoutMs) });
const warnings = span.events.filter((event) => event.kind === "warn");
await Deno.stdout.write(
  new TextEncoder().encode([outcome, ...warnings.map((event) => event.message)].join(": ")),
);
