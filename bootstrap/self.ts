/**
 * How this program starts itself again: as a detached supervisor, or as the VMM child.
 * It must not start anything.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";

/** A command line, program first. */
export interface SelfCommand {
  readonly program: string;
  readonly args: readonly string[];
}

/** The command that runs this very program with the given arguments, compiled or from its sources. */
export function selfCommand(args: readonly string[]): SelfCommand {
  const program = Deno.execPath();
  if (Deno.build.standalone) return { program, args };
  const cli = fromFileUrl(new URL("../cli.ts", import.meta.url));
  const config = fromFileUrl(new URL("../deno.json", import.meta.url));
  return { program, args: ["run", "-A", "--quiet", "--config", config, cli, ...args] };
}
