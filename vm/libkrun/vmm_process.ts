/**
 * The program of a VM's process: what `gateway __vmm DIR/vm.json` does, without the command line around it. Started by
 * itself, since every module that is loaded is time until the guest runs.
 * It must not hold logic (child.ts does).
 *
 * @module
 */
import { describeError, errorText, GatewayError } from "../base/error.ts";
import { vmmChild } from "./child.ts";

const encoder = new TextEncoder();

/** Words for the VMM's log, which is this process's stderr. */
function say(text: string): void {
  Deno.stderr.writeSync(encoder.encode(`${text}\n`));
}

try {
  vmmChild(Deno.args, say);
} catch (error) {
  if (error instanceof GatewayError) {
    say(errorText(error));
    Deno.exit(error.exitCode);
  }
  say(`bug: ${describeError(error)}\n${error instanceof Error ? error.stack : ""}`);
  Deno.exit(70);
}
