/**
 * Commands as the command line offers them, beside those in cli.ts: ports and saved states.
 * It must not print or exit by itself; cli.ts lends both.
 *
 * @module
 */
import type { Command } from "commander";
import type { CommandIo } from "./io.ts";

/** What cli.ts lends to a file of commands. */
export interface CliKit {
  /** A subcommand with --name and an example. */
  readonly command: (root: Command, usage: string, description: string, example: string) => Command;
  /** Adds --json. */
  readonly withJson: (command: Command) => Command;
  /** Runs an action with the user's signals. */
  readonly finish: (action: (signal: AbortSignal) => Promise<number>) => Promise<void>;
  /** Runs an action that wraps a program, which gets the user's signals. */
  readonly wrap: (action: () => Promise<number>) => Promise<void>;
  /** Writes a guest's words to stdout, to a terminal without escape sequences; false when the reader has gone. */
  readonly write: (bytes: Uint8Array) => boolean;
  readonly stdoutIsTerminal: () => boolean;
  readonly stdinIsTerminal: () => boolean;
  /** Width of the terminal; 80 without one. */
  readonly columns: () => number;
  readonly io: (flags: CommandIo["flags"], signal: AbortSignal) => CommandIo;
}

type Flags = CommandIo["flags"] & { readonly name: string };

/** `snapshot create`, `list`, `restore`, `rm`. */
export function addSnapshots(root: Command, kit: CliKit): void {
  const snapshot = root.command("snapshot")
    .description("keep and bring back whole states of an instance: memory, devices, disk")
    .addHelpText("after", "\nExample:\n  gateway snapshot create before-upgrade\n");
  addSnapshot(
    snapshot,
    kit,
    "create <snapshot>",
    "keep what it is now; it runs on",
    async (name, io) => {
      const { createSnapshot } = await import("../saved/snapshots.ts");
      const instance = io.flags.name as string;
      const { pauseMs, ramBytes } = await createSnapshot(instance, name, io.signal);
      const report = { instance, name, pauseMs: Math.round(pauseMs), ramBytes };
      if (io.flags.json) io.json(report);
      else io.err(`Snapshot "${name}" of "${instance}": it stood still for ${report.pauseMs} ms.`);
      return 0;
    },
  );
  kit.withJson(
    kit.command(snapshot, "list [instance]", "list the snapshots", "gateway snapshot list"),
  )
    .alias("ls")
    .action((_instance: string | undefined, flags: Flags) =>
      kit.finish(async (signal) => {
        const io = kit.io(flags, signal);
        const { snapshotsOf } = await import("../saved/snapshots.ts");
        const { snapshotText } = await import("../saved/snapshots.ts");
        const all = await snapshotsOf(flags.name);
        if (flags.json) io.json(all);
        else io.out(snapshotText(all));
        return 0;
      })
    );
  addSnapshot(
    snapshot,
    kit,
    "restore <snapshot>",
    "go back to it; what came since is lost",
    async (name, io) => {
      const { restoreSnapshot } = await import("../saved/snapshots.ts");
      const { runResume } = await import("./up.ts");
      const instance = io.flags.name as string;
      await restoreSnapshot(instance, name, io.signal);
      return await runResume({ ...io, name: instance });
    },
  );
  addSnapshot(snapshot, kit, "rm <snapshot>", "remove it", async (name, io) => {
    const { removeSnapshot } = await import("../saved/snapshots.ts");
    const instance = io.flags.name as string;
    await removeSnapshot(instance, name, io.signal);
    io.err(`Removed the snapshot "${name}" of "${instance}".`);
    return 0;
  });
}

/** `fork`. */
export function addFork(root: Command, kit: CliKit): void {
  kit.withJson(
    root.command("fork <source> <names...>")
      .description("running clones of a running instance, with ports and certificates of their own")
      .option(
        "-p, --port <[addr:]host:guest>",
        "of a single clone; repeatable",
        (value, all: string[]) => [
          ...all,
          value,
        ],
        [],
      )
      .addHelpText("after", "\nExample:\n  gateway fork default try-1 try-2\n"),
  ).action((source: string, names: string[], flags: CommandIo["flags"]) =>
    kit.finish(async (signal) => {
      const { runFork } = await import("./fork.ts");
      return await runFork({ ...kit.io(flags, signal), source, names });
    })
  );
}

/** `use`. */
export function addUse(root: Command, kit: CliKit): void {
  kit.withJson(
    root.command("use <instance>")
      .description("make an instance the active gateway of OpenShell's client")
      .addHelpText("after", "\nExample:\n  gateway use dev\n"),
  ).action((instance: string, flags: CommandIo["flags"]) =>
    kit.finish(async (signal) => {
      const { requireInstance } = await import("../../vm/instance/instance.ts");
      const { useClientFiles } = await import("../credentials/client_files.ts");
      const io = kit.io(flags, signal);
      const { paths } = await requireInstance(instance);
      const used = await useClientFiles({ instance, instanceDir: paths.dir });
      if (flags.json) io.json({ instance, active: used.name, previous: used.previous });
      else io.err(`OpenShell's client uses "${used.name}".`);
      return 0;
    })
  );
}

function addSnapshot(
  parent: Command,
  kit: CliKit,
  usage: string,
  description: string,
  action: (name: string, io: CommandIo) => Promise<number>,
): void {
  const example = `gateway snapshot ${usage.replace("<snapshot>", "before-upgrade")}`;
  kit.withJson(kit.command(parent, usage, description, example))
    .action((name: string, flags: Flags) =>
      kit.finish((signal) => action(name, kit.io(flags, signal)))
    );
}

/** `port list`, `add`, `remove`. */
export function addPorts(root: Command, kit: CliKit): void {
  const port = root.command("port").description("list, add or remove port forwards of an instance")
    .addHelpText("after", "\nExample:\n  gateway port add --name dev 8080:80\n");
  for (const [verb, alias] of [["list", "ls"], ["add"], ["remove", "rm"]] as const) {
    const usage = verb === "list" ? `${verb} [instance]` : `${verb} <[addr:]host:guest>`;
    const example = verb === "list" ? "gateway port list" : `gateway port ${verb} 8080:80`;
    const description = `${verb} forwards, until it stops`;
    const one = kit.withJson(kit.command(port, usage, description, example))
      .action((word: string | undefined, { name, json: asJson }: Flags) =>
        kit.finish(async (signal) => {
          const { portCommand } = await import("../run/forwards.ts");
          const spec = verb === "list" ? undefined : word;
          const forwards = await portCommand(name, verb, spec, signal);
          const { json, out } = kit.io({}, signal);
          asJson
            ? json(forwards)
            : out(forwards.map((f) => `${f.local} -> ${f.remote}`).join("\n"));
          return 0;
        })
      );
    if (alias) one.alias(alias);
  }
}
