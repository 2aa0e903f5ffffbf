/**
 * How this program starts itself again: as a detached supervisor, or as the VMM child.
 * It must not start anything.
 *
 * @module
 */
import { BUNDLED, ENTRY, sourcePath } from "../vm/source.ts";

/** A command line, program first. */
export interface SelfCommand {
  readonly program: string;
  readonly args: readonly string[];
}

/** How the runtime runs a bundle: nothing beside it is looked for, and nothing is fetched. */
export const BUNDLE_FLAGS = ["run", "-A", "--quiet", "--no-config", "--no-lock", "--no-remote"];

/** The command that runs this very program with the given arguments: compiled, unpacked, or from its sources. */
export function selfCommand(args: readonly string[]): SelfCommand {
  const program = Deno.execPath();
  if (Deno.build.standalone) return { program, args };
  const flags = BUNDLED
    ? BUNDLE_FLAGS
    : ["run", "-A", "--quiet", "--config", sourcePath("deno.json")];
  return { program, args: [...flags, sourcePath(ENTRY), ...args] };
}
