/**
 * The commands that start an instance, end it, let it rest or remove it: up, down, rm, suspend, resume.
 * It must not do a command's work, and imports what does only inside an action.
 *
 * @module
 */
import { usageError } from "../../vm/base/error.ts";
import { upCommand } from "./definitions.ts";
import { type CliKit, named, type Parent, warningSpan, withJson } from "./kit.ts";

/** Adds them all. */
export function addLifecycle(root: Parent, kit: CliKit): void {
  upCommand(root).action((args, flags) =>
    kit.finish(async (signal, force) => {
      const { runUp } = await import("./up.ts");
      return await runUp({ ...kit.io(flags, signal), args, force });
    })
  );
  addDown(root, kit);
  addRemove(root, kit);
  addSuspend(root, kit);
}

function addDown(root: Parent, kit: CliKit): void {
  withJson(named(root, "down [instance]", "power the guest off cleanly", "gateway down dev"))
    .action((_, flags) =>
      kit.finish(async (signal) => {
        const { down, downText } = await import("../run/down.ts");
        const { err, json } = kit.io(flags, signal);
        const { name } = flags;
        const outcome = await down(name, { span: await warningSpan({ err }), signal });
        flags.json ? json({ name, outcome }) : err(downText(name, outcome));
        return 0;
      })
    );
}

function addRemove(root: Parent, kit: CliKit): void {
  const description = "remove an instance with its disk and keys";
  const command = named(root, "rm [instance]", description, "gateway rm dev")
    .option("-f, --force", "stop it first");
  command.action((_, flags) =>
    kit.finish(async (signal) => {
      const { name } = flags;
      const { err } = kit.io(flags, signal);
      if (command.getOptionValueSource("name") !== "cli") {
        if (!kit.stdinIsTerminal()) {
          const fix = "run `gateway rm NAME`; `gateway list` shows the names";
          throw usageError("Cannot remove an instance", "no name was given", fix);
        }
        const question = `Remove the instance "${name}" with its disk and keys?`;
        if (!await kit.confirmed(question, signal)) {
          err("Nothing was removed.");
          return 1;
        }
      }
      const { rm } = await import("../run/down.ts");
      await rm(name, { span: await warningSpan({ err }), signal, force: flags.force === true });
      err(`Removed "${name}".`);
      return 0;
    })
  );
}

function addSuspend(root: Parent, kit: CliKit): void {
  const words = "memory to disk; nothing runs until resume";
  named(root, "suspend [instance]", words, "gateway suspend dev").action((_, flags) =>
    kit.finish(async (signal) => {
      const { suspend } = await import("../saved/snapshots.ts");
      await suspend(flags.name, signal);
      kit.io(flags, signal).err(`Suspended "${flags.name}".`);
      return 0;
    })
  );
  const description = "start a suspended instance from its saved memory";
  withJson(named(root, "resume [instance]", description, "gateway resume dev")).action((_, flags) =>
    kit.finish(async (signal) => {
      const { runResume } = await import("./up.ts");
      return await runResume(kit.io(flags, signal), flags.name);
    })
  );
}
