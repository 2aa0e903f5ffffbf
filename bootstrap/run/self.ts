/**
 * How this program starts itself again: as a detached supervisor, or as the VMM child.
 * It must not start anything.
 *
 * @module
 */
import { BUNDLED, ENTRY, sourcePath, VMM_BUNDLE_FILE } from "../../vm/base/source.ts";

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

/**
 * V8 only interprets, and looks for no code that it compiled before: in a process that runs some thousand lines once,
 * making the compiler ready costs more than it saves (measured: a fifth of the time to krun_start_enter).
 */
const RUN_ONCE = ["--no-check", "--no-code-cache", "--v8-flags=--jitless"];

/**
 * The command whose process becomes the VM of a plan: `gateway __vmm PLAN`, without the command line around it. `bundle` is
 * the file of vm/libkrun/vmm_bundle.ts, which a package brings along; without one the sources are run.
 */
export function vmmCommand(plan: string, bundle?: string): SelfCommand {
  const program = Deno.execPath();
  if (Deno.build.standalone) return { program, args: ["__vmm", plan] };
  const file = bundle ?? (BUNDLED ? sourcePath(`bundle/${VMM_BUNDLE_FILE}`) : undefined);
  if (file) {
    return { program, args: [...BUNDLE_FLAGS, "--no-npm", ...RUN_ONCE, file, plan] };
  }
  const own = ["deno.json", "vm/libkrun/vmm_process.ts"].map(sourcePath);
  return { program, args: ["run", "-A", "--quiet", ...RUN_ONCE, "--config", ...own, plan] };
}
