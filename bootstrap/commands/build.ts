/**
 * The command `build`.
 * It must not do its work, which is loaded only inside the action.
 *
 * @module
 */
import { buildCommand } from "./definitions.ts";
import type { CliKit, Parent } from "./kit.ts";

/** `build`. */
export function addBuild(root: Parent, kit: CliKit): void {
  buildCommand(root).action((target = "all", payload, flags) =>
    kit.finish(async (signal) => {
      const { runBuild } = await import("./build_run.ts");
      return await runBuild({ ...kit.io(flags, signal), target, payload });
    })
  );
}
