/**
 * Gives up its permissions as the VMM's process does, then tries what it must not do; prints what still works.
 *
 * @module
 */
import { revokeAllButReadAndFfi } from "../../vm/libkrun/child.ts";

revokeAllButReadAndFfi();
const tries: Readonly<Record<string, () => unknown>> = {
  read: () => Deno.readTextFileSync("/etc/hostname"),
  ffi: () => Deno.dlopen("libc.so.6", { getpid: { parameters: [], result: "i32" } }).close(),
  write: () => Deno.writeTextFileSync(Deno.args[0]!, "x"),
  run: () => new Deno.Command("/bin/true").outputSync(),
  net: () => Deno.listen({ hostname: "127.0.0.1", port: 0 }),
  env: () => Deno.env.get("HOME"),
  sys: () => Deno.hostname(),
};
const works = Object.entries(tries).filter(([, attempt]) => {
  try {
    attempt();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return false;
    throw error;
  }
});
// deno-lint-ignore no-console
console.log(works.map(([name]) => name).join(" "));
