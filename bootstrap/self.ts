/**
 * How this program starts itself again: as a detached supervisor, or as the VMM child.
 * It must not start anything.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";

const ROOT = new URL("..", import.meta.url);

/** A command line, program first. */
export interface SelfCommand {
  readonly program: string;
  readonly args: readonly string[];
}

const local = (path: string, root: URL) => fromFileUrl(new URL(path, root));

/** The command that runs this very program with the given arguments, compiled or from its sources. */
export function selfCommand(args: readonly string[]): SelfCommand {
  const program = Deno.execPath();
  if (Deno.build.standalone) return { program, args };
  const [config, cli] = ["deno.json", "cli.ts"].map((path) => local(path, ROOT));
  return { program, args: ["run", "-A", "--quiet", "--config", config, cli, ...args] };
}

/**
 * V8 only interprets, and looks for no code that it compiled before: in a process that runs some thousand lines once,
 * making the compiler ready costs more than it saves (measured: a fifth of the time to krun_start_enter).
 */
const RUN_ONCE = ["--no-check", "--no-code-cache", "--v8-flags=--jitless"];

/** The command whose process becomes the VM of a plan: `gateway __vmm PLAN`, from the sources without the command line. */
export function vmmCommand(plan: string, root: URL = ROOT): SelfCommand {
  const program = Deno.execPath();
  if (Deno.build.standalone) return { program, args: ["__vmm", plan] };
  const [config, entry] = ["deno.json", "vm/vmm_process.ts"].map((path) => local(path, root));
  return { program, args: ["run", "-A", "--quiet", ...RUN_ONCE, "--config", config, entry, plan] };
}
