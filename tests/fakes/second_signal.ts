/**
 * Two signals as a supervisor gets them: it owns a child, and tells on stdout whether the child outlived the first one.
 * It must not wait for signals of its user; it sends them to itself.
 *
 * @module
 */
import { killOnSecondSignal } from "../../bootstrap/command_up.ts";
import { identifyProcess, spawnChild } from "../../vm/process.ts";

const child = spawnChild("sleep", { args: ["60"], ownGroup: true });
const stop = new AbortController();
stop.signal.addEventListener("abort", () => killOnSecondSignal(new Set([child.pid])));
Deno.addSignalListener("SIGINT", () => stop.abort());

const settle = () => new Promise((resolve) => setTimeout(resolve, 300));
const state = () => identifyProcess(child.pid) === undefined ? "gone" : "alive";
const words: string[] = [];
for (let count = 0; count < 2; count++) {
  Deno.kill(Deno.pid, "SIGINT");
  await settle();
  words.push(state());
}
await child.stop(1000);
await Deno.stdout.write(new TextEncoder().encode(words.join(" ")));
Deno.exit(0);
