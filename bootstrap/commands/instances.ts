/**
 * Commands as the command line offers them, beside those in cli.ts: ports and saved states.
 * It must not print or exit by itself; cli.ts lends both.
 *
 * @module
 */
import { forkCommand } from "./definitions.ts";
import { tell } from "./io.ts";
import { type CliKit, group, named, type Parent, subcommand, withJson } from "./kit.ts";

/** `snapshot create`, `list`, `restore`, `rm`. */
export function addSnapshots(root: Parent, kit: CliKit): void {
  const snapshot = group(
    root,
    "snapshot",
    "keep and bring back whole states of an instance: memory, devices, disk",
    "gateway snapshot create before-upgrade",
  );
  withJson(named(
    snapshot,
    "create <snapshot>",
    "keep what it is now; it runs on",
    "gateway snapshot create before-upgrade",
  )).action((name, flags) =>
    kit.finish(async (signal) => {
      const { createSnapshot } = await import("../saved/snapshots.ts");
      const { err, json } = kit.io(flags, signal);
      const instance = flags.name;
      const { pauseMs, ramBytes } = await createSnapshot(instance, name, signal);
      const report = { instance, name, pauseMs: Math.round(pauseMs), ramBytes };
      if (flags.json) json(report);
      else err(`Snapshot "${name}" of "${instance}": it stood still for ${report.pauseMs} ms.`);
      return 0;
    })
  );
  withJson(named(snapshot, "list [instance]", "list the snapshots", "gateway snapshot list"))
    .alias("ls")
    .action((_, flags) =>
      kit.finish(async (signal) => {
        const { snapshotsOf, snapshotText } = await import("../saved/snapshots.ts");
        const all = await snapshotsOf(flags.name);
        tell(kit.io(flags, signal), all, snapshotText(all));
        return 0;
      })
    );
  withJson(named(
    snapshot,
    "restore <snapshot>",
    "go back to it; what came since is lost",
    "gateway snapshot restore before-upgrade",
  )).action((name, flags) =>
    kit.finish(async (signal) => {
      const { restoreSnapshot } = await import("../saved/snapshots.ts");
      const { runResume } = await import("./up.ts");
      await restoreSnapshot(flags.name, name, signal);
      return await runResume(kit.io(flags, signal), flags.name);
    })
  );
  const example = "gateway snapshot rm before-upgrade";
  withJson(named(snapshot, "rm <snapshot>", "remove it", example)).action((name, flags) =>
    kit.finish(async (signal) => {
      const { removeSnapshot } = await import("../saved/snapshots.ts");
      await removeSnapshot(flags.name, name, signal);
      kit.io(flags, signal).err(`Removed the snapshot "${name}" of "${flags.name}".`);
      return 0;
    })
  );
}

/** `fork`. */
export function addFork(root: Parent, kit: CliKit): void {
  forkCommand(root).action((source, names, flags) =>
    kit.finish(async (signal) => {
      const { runFork } = await import("./fork.ts");
      return await runFork({ ...kit.io(flags, signal), source, names });
    })
  );
}

/** `use`. */
export function addUse(root: Parent, kit: CliKit): void {
  const description = "make an instance the active gateway of OpenShell's client";
  withJson(subcommand(root, "use <instance>", description, "gateway use dev"))
    .action((instance, flags) =>
      kit.finish(async (signal) => {
        const { requireInstance } = await import("../../vm/instance/instance.ts");
        const { useClientFiles } = await import("../credentials/client_files.ts");
        const { err, json } = kit.io(flags, signal);
        const { paths } = await requireInstance(instance);
        const used = await useClientFiles({ instance, instanceDir: paths.dir });
        if (flags.json) json({ instance, active: used.name, previous: used.previous });
        else err(`OpenShell's client uses "${used.name}".`);
        return 0;
      })
    );
}

/** `port list`, `add`, `remove`. */
export function addPorts(root: Parent, kit: CliKit): void {
  const port = group(
    root,
    "port",
    "list, add or remove port forwards of an instance",
    "gateway port add --name dev 8080:80",
  );
  type Flags = { readonly name: string; readonly json?: true };
  const act = (verb: "list" | "add" | "remove", spec: string | undefined, flags: Flags) =>
    kit.finish(async (signal) => {
      const { portCommand } = await import("../run/forwards.ts");
      const forwards = await portCommand(flags.name, verb, spec, signal);
      const lines = forwards.map(({ local, remote }) => `${local} -> ${remote}`);
      tell(kit.io(flags, signal), forwards, lines.join("\n"));
      return 0;
    });
  withJson(named(port, "list [instance]", "list forwards, until it stops", "gateway port list"))
    .alias("ls").action((_, flags) => act("list", undefined, flags));
  for (const verb of ["add", "remove"] as const) {
    const usage = `${verb} <[addr:]host:guest>` as const;
    const example = `gateway port ${verb} 8080:80`;
    const command = withJson(named(port, usage, `${verb} forwards, until it stops`, example))
      .action((spec, flags) => act(verb, spec, flags));
    if (verb === "remove") command.alias("rm");
  }
}
