/**
 * The commands that reach into an instance or look at it: exec, shell, cp, kubectl, status, list, logs.
 *
 * @module
 */
import { type Command, Option } from "commander";
import type { LogSource } from "../inspect/guest_commands.ts";
import type { CliKit } from "./instances.ts";
import type { CommandIo } from "./io.ts";

type Flags = CommandIo["flags"] & { readonly name: string };

/** `exec`, `shell`, `cp`, `kubectl`: each behaves like the program that it runs. */
export function addAccess(root: Command, kit: CliKit): void {
  kit.command(root, "exec <command...>", "run a command in the guest", "gateway exec -- uname -a")
    .option("-t, --tty", "with a terminal of its own")
    .passThroughOptions()
    .action((words: string[], flags: Flags) =>
      kit.wrap(async () => {
        const { execInGuest } = await import("../inspect/guest_commands.ts");
        return await execInGuest(flags.name, words, { tty: flags.tty === true });
      })
    );
  kit.command(root, "shell [instance]", "a login shell in the guest", "gateway shell dev")
    .action((_instance: string | undefined, flags: Flags) =>
      kit.wrap(async () => {
        const { execInGuest } = await import("../inspect/guest_commands.ts");
        return await execInGuest(flags.name, [], { tty: kit.stdinIsTerminal() });
      })
    );
  root.command("cp <source> <destination>")
    .description("copy files; one side is NAME:PATH")
    .option("-r, --recursive", "folders too")
    .addHelpText("after", "\nExample:\n  gateway cp notes.txt default:/root/\n")
    .action((source: string, destination: string, flags: CommandIo["flags"]) =>
      kit.wrap(async () => {
        const { copy } = await import("../inspect/guest_commands.ts");
        return await copy(source, destination, { recursive: flags.recursive === true });
      })
    );
  kit.command(
    root,
    "kubectl <args...>",
    "kubectl against the instance's cluster",
    "gateway kubectl get pods -A",
  ).passThroughOptions()
    .action((args: string[], flags: Flags) =>
      kit.wrap(async () => {
        const { kubectl } = await import("../inspect/kubectl.ts");
        return await kubectl(flags.name, args, { terminal: kit.stdinIsTerminal() });
      })
    );
}

/** `status`, `list`, `logs`. */
export function addInspection(root: Command, kit: CliKit): void {
  addStatus(root, kit);
  addLogs(root, kit);
}

function addStatus(root: Command, kit: CliKit): void {
  kit.withJson(
    kit.command(
      root,
      "status [instance]",
      "show the state of an instance",
      "gateway status --timeline",
    ),
  )
    .option("--timeline", "host spans and guest marks of the last start on one line of time")
    .option("--argv", "print a script that starts the VM by hand, as the last start did")
    .action((_instance: string | undefined, flags: Flags) =>
      kit.finish(async (signal) => {
        const { json, out } = kit.io(flags, signal);
        const { instanceReplay, instanceStatus, instanceTimeline } = await import(
          "../inspect/status.ts"
        );
        if (flags.argv) {
          out(await instanceReplay(flags.name));
          return 0;
        }
        if (flags.timeline) {
          const timeline = await instanceTimeline(flags.name, kit.columns());
          flags.json ? json(timeline.rows) : out(timeline.text);
          return 0;
        }
        const { statusText } = await import("../inspect/status_text.ts");
        const report = await instanceStatus(flags.name);
        flags.json ? json(report) : out(statusText(report));
        return report.state === "running" ? 0 : 1;
      })
    );
  kit.withJson(root.command("list").alias("ls").description("all instances"))
    .addHelpText("after", "\nExample:\n  gateway list --json\n")
    .action((flags: CommandIo["flags"]) =>
      kit.finish(async (signal) => {
        const { json, out } = kit.io(flags, signal);
        const { listStatus } = await import("../inspect/status.ts");
        const { listText } = await import("../inspect/status_text.ts");
        const reports = await listStatus();
        flags.json ? json(reports) : out(listText(reports));
        return 0;
      })
    );
}

function addLogs(root: Command, kit: CliKit): void {
  const sources: readonly LogSource[] = ["console", "cluster", "gvproxy", "vmm", "events"];
  const source = new Option("--source <log>", "which log").choices(sources).default("console");
  kit.command(
    root,
    "logs [instance]",
    "the guest's console and the other logs",
    "gateway logs -f --source cluster",
  )
    .option("-f, --follow", "go on as lines come")
    .addOption(source)
    .action(async (_instance: string | undefined, flags: Flags) => {
      const { clusterLog, logs } = await import("../inspect/guest_commands.ts");
      const follow = flags.follow === true;
      // That of the cluster is in the guest: a program there prints it.
      if (flags.source === "cluster") {
        const output = kit.stdoutIsTerminal() ? kit.write : undefined;
        return await kit.wrap(() => clusterLog(flags.name, follow, output));
      }
      const from = flags.source as Exclude<LogSource, "cluster">;
      const { write } = kit;
      await kit.finish((signal) => logs(flags.name, { source: from, follow, write, signal }));
    });
}
