/**
 * Signals as a command gets them: it sends itself those that its arguments name, and prints after each whether it would
 * go on, stop or be forced to end.
 * It must not wait for signals of its user.
 *
 * @module
 */
import { stopSignals } from "../../bootstrap/run/user_signals.ts";

const forced: string[] = [];
using signals = stopSignals(() =>
  forced.push(signals.force.aborted ? "after its listeners" : "first")
);
const settle = () => new Promise((resolve) => setTimeout(resolve, 100));
const state = () => signals.force.aborted ? "force" : signals.stop.aborted ? "stop" : "run";
const words: string[] = [];
for (const name of Deno.args as Deno.Signal[]) {
  Deno.kill(Deno.pid, name);
  await settle();
  words.push(state());
}
await Deno.stdout.write(new TextEncoder().encode([...words, ...forced].join(" ")));
