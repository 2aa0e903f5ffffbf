/**
 * The commands that reach into an instance or look at it: exec, shell, cp, kubectl, status, list, logs.
 *
 * @module
 */
import { Option } from "@commander-js/extra-typings";
import { tell } from "./io.ts";
import { type CliKit, named, type Parent, subcommand, withJson } from "./kit.ts";

/** `exec`, `shell`, `cp`, `kubectl`: each behaves like the program that it runs. */
export function addAccess(root: Parent, kit: CliKit): void {
  named(root, "exec <command...>", "run a command in the guest", "gateway exec -- uname -a")
    .option("-t, --tty", "with a terminal of its own")
    .passThroughOptions()
    .action((words, flags) =>
      kit.wrap(async () => {
        const { execInGuest } = await import("../inspect/guest_commands.ts");
        return await execInGuest(flags.name, words, { tty: flags.tty === true });
      })
    );
  named(root, "shell [instance]", "a login shell in the guest", "gateway shell dev")
    .action((_, flags) =>
      kit.wrap(async () => {
        const { execInGuest } = await import("../inspect/guest_commands.ts");
        return await execInGuest(flags.name, [], { tty: kit.stdinIsTerminal() });
      })
    );
  const copying = "copy files; one side is NAME:PATH";
  subcommand(root, "cp <source> <destination>", copying, "gateway cp notes.txt default:/root/")
    .option("-r, --recursive", "folders too")
    .action((source, destination, flags) =>
      kit.wrap(async () => {
        const { copy } = await import("../inspect/guest_commands.ts");
        return await copy(source, destination, { recursive: flags.recursive === true });
      })
    );
  const description = "kubectl against the instance's cluster";
  named(root, "kubectl <args...>", description, "gateway kubectl get pods -A")
    .passThroughOptions()
    .action((args, flags) =>
      kit.wrap(async () => {
        const { kubectl } = await import("../inspect/kubectl.ts");
        return await kubectl(flags.name, args, { terminal: kit.stdinIsTerminal() });
      })
    );
}

/** `status`, `list`, `logs`. */
export function addInspection(root: Parent, kit: CliKit): void {
  addStatus(root, kit);
  addList(root, kit);
  addLogs(root, kit);
}

function addStatus(root: Parent, kit: CliKit): void {
  const description = "show the state of an instance";
  withJson(named(root, "status [instance]", description, "gateway status --timeline"))
    .option("--timeline", "host spans and guest marks of the last start on one line of time")
    .option("--argv", "print a script that starts the VM by hand, as the last start did")
    .action((_, flags) =>
      kit.finish(async (signal) => {
        const io = kit.io(flags, signal);
        const { instanceReplay, instanceStatus, instanceTimeline } = await import(
          "../inspect/status.ts"
        );
        if (flags.argv) {
          io.out(await instanceReplay(flags.name));
          return 0;
        }
        if (flags.timeline) {
          const timeline = await instanceTimeline(flags.name, kit.columns());
          tell(io, timeline.rows, timeline.text);
          return 0;
        }
        const { statusText } = await import("../inspect/status_text.ts");
        const report = await instanceStatus(flags.name);
        tell(io, report, statusText(report));
        return report.state === "running" ? 0 : 1;
      })
    );
}

function addList(root: Parent, kit: CliKit): void {
  withJson(subcommand(root, "list", "all instances", "gateway list --json")).alias("ls")
    .action((flags) =>
      kit.finish(async (signal) => {
        const { listStatus } = await import("../inspect/status.ts");
        const { listText } = await import("../inspect/status_text.ts");
        const reports = await listStatus();
        tell(kit.io(flags, signal), reports, listText(reports));
        return 0;
      })
    );
}

function addLogs(root: Parent, kit: CliKit): void {
  const source = new Option("--source <log>", "which log")
    .choices(["console", "cluster", "gvproxy", "vmm", "events"]).default("console");
  const description = "the guest's console and the other logs";
  named(root, "logs [instance]", description, "gateway logs -f --source cluster")
    .option("-f, --follow", "go on as lines come")
    .addOption(source)
    .action(async (_, { name, source, follow = false }) => {
      const { clusterLog, logs } = await import("../inspect/guest_commands.ts");
      // That of the cluster is in the guest: a program there prints it.
      if (source === "cluster") {
        const output = kit.stdoutIsTerminal() ? kit.write : undefined;
        return await kit.wrap(() => clusterLog(name, follow, output));
      }
      const { write } = kit;
      await kit.finish((signal) => logs(name, { source, follow, write, signal }));
    });
}
