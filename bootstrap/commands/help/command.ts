/**
 * The commands that tell a shell and a reader about all others: completions, man.
 * It must not describe a command; the tree does.
 *
 * @module
 */
import { ARCHES } from "../../../vm/base/arch.ts";
import type { CliKit, Parent } from "../kit.ts";
import type { CommandNode } from "./tree.ts";

/** Adds both. They read the tree when they run, so they may be added before the rest of it. */
export function addShellHelp(root: Parent, kit: CliKit): void {
  root.command("completions <shell>")
    .description("print completions for bash, zsh or fish")
    .addHelpText(
      "after",
      "\nExample:\n  gateway completions bash >/etc/bash_completion.d/gateway\n",
    )
    .action((shell: string) =>
      kit.finish(async (signal) => {
        const { completionScript, SHELLS } = await import("./completions.ts");
        const known = SHELLS.find((name) => name === shell);
        if (known === undefined) {
          const { usageError } = await import("../../../vm/base/error.ts");
          const why = `the shells are ${SHELLS.join(", ")}`;
          throw usageError(`Cannot complete for "${shell}"`, why, "run `gateway completions bash`");
        }
        kit.io({}, signal).out(completionScript(known, await tree(root)));
        return 0;
      })
    );
  root.command("man")
    .description("print the manual page")
    .addHelpText("after", "\nExample:\n  gateway man | man -l -\n")
    .action(() =>
      kit.finish(async (signal) => {
        const { manPage } = await import("./man_page.ts");
        const { ownVersion } = await import("../../../vm/store/builder.ts");
        const facts = { version: await ownVersion(), date: MAN_DATE };
        kit.io({}, signal).out(manPage(await tree(root), facts));
        return 0;
      })
    );
}

/** Of the commands' last change: the page is to be the same each time it is made. */
const MAN_DATE = "2026-11-25";

async function tree(root: Parent): Promise<CommandNode> {
  const [{ commandTree }, { BUILD_TARGETS }, { SHELLS }, options, { BUILT_IN }] = await Promise.all(
    [
      ...[
        import("./tree.ts"),
        import("../../artifacts/ensure.ts"),
        import("./completions.ts"),
      ] as const,
      ...[import("../../plan/options.ts"), import("../../payload/choose.ts")] as const,
    ],
  );
  return commandTree(root, {
    "target": BUILD_TARGETS,
    "shell": SHELLS,
    "--vmm": options.VMM_CHOICES,
    "--arch": ARCHES,
    "--egress": options.EGRESS_MODES,
    "--net": options.NET_CHOICES,
    "--payload": BUILT_IN,
    "build payload": BUILT_IN,
  });
}
