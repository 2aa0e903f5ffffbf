/**
 * The command line: commands, argument parsing, exit codes. The only module that prints or exits.
 * It must not know a VMM, and imports the rooms below only inside an action. `gateway --help` is a text, and the parser
 * is loaded for everything else: its node built-ins cost as much as the rest of a start.
 *
 * @module
 */
import type { Command, CommanderError } from "commander";
import type { CliKit } from "./bootstrap/cli_commands.ts";
import { HELP_TEXT } from "./bootstrap/help_text.ts";
import { asHostError, errorText, GatewayError, interruptedError } from "./vm/error.ts";

let commander: typeof import("commander");

/** What commander hands to an action. */
interface Flags {
  readonly name: string;
  readonly json?: boolean;
  readonly [flag: string]: unknown;
}

const encoder = new TextEncoder();

/** Data for the user's next program. */
function out(text: string): void {
  writeSync(Deno.stdout, text.endsWith("\n") ? text : `${text}\n`);
}

/** Words for people. */
function err(text: string): void {
  writeSync(Deno.stderr, `${text}\n`);
}

function writeSync(
  stream: { writeSync(data: Uint8Array): number },
  data: string | Uint8Array,
): void {
  const bytes = typeof data === "string" ? encoder.encode(data) : data;
  try {
    for (let at = 0; at < bytes.length;) at += stream.writeSync(bytes.subarray(at));
  } catch {
    // The reader went away (a closed pipe); there is nobody left to tell.
  }
}

const json = (value: unknown) => out(JSON.stringify(value, null, 2));

const whole = (value: string): number => {
  if (!/^-?\d{1,9}$/.test(value)) {
    throw new commander.InvalidArgumentError("It has to be a whole number.");
  }
  return Number(value);
};
const collect = (value: string, before: string[]) => [...before, value];
const nameOption = () => new commander.Option("--name <name>", "which instance").default("default");
const jsonOption = () => new commander.Option("--json", "print JSON for programs");

/** A subcommand with --name and an example. */
function command(root: Command, usage: string, description: string, example: string): Command {
  return root.command(usage).description(description).addOption(nameOption())
    .addHelpText("after", `\nExample:\n  ${example.split("\n").join("\n  ")}\n`);
}

function addUp(root: Command): void {
  const up = root.command("up [args...]", { isDefault: true })
    .description("boot an instance and stay until Ctrl-C or `gateway down` (the default command)")
    .addOption(nameOption())
    .option("--exec <program>", "no cluster: run this program in a fresh VM and exit with its code")
    .option(
      "-p, --port <[addr:]host:guest>",
      "forward a port; repeatable, replaces the defaults",
      collect,
      [],
    )
    .option("--net <mode>", "gvproxy, tsi or none")
    .option("--vmm <name>", "auto, qemu or libkrun")
    .option("--libkrun <file>", "the libkrun to use instead of the one that is found")
    .option("--cpus <n>", "virtual CPUs", whole)
    .option("--memory <MiB>", "guest memory", whole)
    .option("--disk <MiB>", "size of the state disk", whole)
    .option("--payload <name|folder>", "what runs in the cluster")
    .option("--keep", "leave the VM running when its payload does not answer")
    .option("--no-kube-api", "neither forward the cluster's API nor write a kubeconfig")
    .option("--cluster-binary <file>", "a k3s-compatible binary to use instead of ours")
    .option("--cold", "do not go on from a suspended state")
    .option("-d, --detach", "return when it is READY; it goes on in the background")
    .option("-y, --yes", "as root, install missing host tools without asking")
    .addOption(jsonOption())
    .addOption(new commander.Option("--events-to <file>").hideHelp())
    .addOption(new commander.Option("--payload-why <text>").hideHelp())
    .addHelpText(
      "after",
      "\nExample:\n  gateway up --name dev --port 30052:30051 --memory 4096 --detach\n" +
        "  echo hi | gateway --exec /bin/cat\n",
    );
  up.action((args: string[], flags: Flags) =>
    finish(async (signal) => {
      const { runUp } = await import("./bootstrap/command_up.ts");
      return await runUp({
        args,
        flags,
        argv: Deno.args,
        out,
        err,
        json,
        signal,
        terminal: terminal(),
      });
    })
  );
}

/** A subcommand that takes the instance's name as an argument, too. */
function named(
  root: Command,
  verb: string,
  description: string,
  action: (name: string, flags: Flags, signal: AbortSignal) => Promise<void | number>,
): Command {
  return command(root, `${verb} [instance]`, description, `gateway ${verb} dev`)
    .action((instance: string | undefined, flags: Flags) =>
      finish(async (signal) => await action(instance ?? flags.name, flags, signal) ?? 0)
    );
}

function addLifecycle(root: Command): void {
  named(root, "down", "power the guest off cleanly", async (name, flags, signal) => {
    const { down } = await import("./bootstrap/down.ts");
    const { downText } = await import("./bootstrap/views.ts");
    const outcome = await down(name, { span: await warningSpan(), signal });
    flags.json ? json({ name, outcome }) : err(downText(name, outcome));
  }).addOption(jsonOption());
  named(root, "rm", "remove an instance with its disk and keys", async (name, flags, signal) => {
    const { rm } = await import("./bootstrap/down.ts");
    await rm(name, { span: await warningSpan(), signal, force: flags.force === true });
    err(`Removed "${name}".`);
  }).option("-f, --force", "stop it first");
  named(root, "suspend", "memory to disk; nothing runs until resume", async (name, _, signal) => {
    const { suspend } = await import("./bootstrap/snapshots.ts");
    await suspend(name, signal);
    err(`Suspended "${name}".`);
  });
  named(root, "resume", "go on from where suspend left it", async (name, flags, signal) => {
    const { runResume } = await import("./bootstrap/command_up.ts");
    return await runResume({ name, flags, out, err, json, signal, terminal: terminal() });
  }).addOption(jsonOption());
  root.command("build [target] [payload]")
    .description(
      "build what is missing: kernel, root, cluster, images, golden, payload, libkrun or all",
    )
    .option("--payload <name|folder>", "golden: of a cluster that runs this")
    .option("--cpus <n>", "golden: of this many virtual CPUs", whole)
    .option("--memory <MiB>", "golden: of this guest memory", whole)
    .option("--disk <MiB>", "golden: of this state disk", whole)
    .option("-y, --yes", "as root, install missing host tools without asking")
    .option("--cluster-binary <file>", "a k3s-compatible binary to use instead of ours")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      "\nExample:\n  gateway build all --yes\n  gateway build payload ./hello\n",
    )
    .action((target: string | undefined, payload: string | undefined, flags: Flags) =>
      finish(async (signal) => {
        const { runBuild } = await import("./bootstrap/command_up.ts");
        return await runBuild({
          target: target ?? "all",
          payload,
          flags,
          out,
          err,
          json,
          signal,
          terminal: terminal(),
        });
      })
    );
}

function addAccess(root: Command): void {
  command(root, "exec <command...>", "run a command in the guest", "gateway exec -- uname -a")
    .option("-t, --tty", "with a terminal of its own")
    .passThroughOptions()
    .action((words: string[], flags: Flags) =>
      finish(async () => {
        const { execInGuest } = await import("./bootstrap/access.ts");
        return await execInGuest(flags.name, words, { tty: flags.tty === true });
      })
    );
  command(root, "shell", "a login shell in the guest", "gateway shell --name dev")
    .action((flags: Flags) =>
      finish(async () => {
        const { execInGuest } = await import("./bootstrap/access.ts");
        return await execInGuest(flags.name, [], { tty: Deno.stdin.isTerminal() });
      })
    );
  root.command("cp <source> <destination>")
    .description("copy files; one side is NAME:PATH")
    .option("-r, --recursive", "folders too")
    .addHelpText("after", "\nExample:\n  gateway cp notes.txt default:/root/\n")
    .action((source: string, destination: string, flags: Flags) =>
      finish(async () => {
        const { copy } = await import("./bootstrap/access.ts");
        return await copy(source, destination, { recursive: flags.recursive === true });
      })
    );
  command(
    root,
    "kubectl <args...>",
    "kubectl against the instance's cluster",
    "gateway kubectl -- get pods -A",
  ).passThroughOptions()
    .action((args: string[], flags: Flags) =>
      finish(async () => {
        const { kubectl } = await import("./bootstrap/access.ts");
        return await kubectl(flags.name, args);
      })
    );
}

function addInspection(root: Command): void {
  command(root, "status", "how an instance is", "gateway status --timeline").addOption(jsonOption())
    .option("--timeline", "host spans and guest marks of the last start on one line of time")
    .action((flags: Flags) =>
      finish(async () => {
        const { instanceStatus, instanceTimeline } = await import("./bootstrap/status.ts");
        if (flags.timeline) {
          const timeline = await instanceTimeline(flags.name, columns());
          flags.json ? json(timeline.rows) : out(timeline.text);
          return 0;
        }
        const { statusText } = await import("./bootstrap/views.ts");
        const report = await instanceStatus(flags.name);
        flags.json ? json(report) : out(statusText(report));
        return report.state === "running" ? 0 : 1;
      })
    );
  root.command("list").alias("ls").description("all instances").addOption(jsonOption())
    .addHelpText("after", "\nExample:\n  gateway list --json\n")
    .action((flags: Flags) =>
      finish(async () => {
        const { listStatus } = await import("./bootstrap/status.ts");
        const { listText } = await import("./bootstrap/views.ts");
        const reports = await listStatus();
        flags.json ? json(reports) : out(listText(reports));
        return 0;
      })
    );
  command(
    root,
    "logs",
    "the guest's console and the other logs",
    "gateway logs -f --source cluster",
  )
    .option("-f, --follow", "go on as lines come")
    .addOption(
      new commander.Option("--source <log>", "which log").choices([
        "console",
        "cluster",
        "gvproxy",
        "vmm",
        "events",
      ])
        .default("console"),
    )
    .action((flags: Flags) =>
      finish(async (signal) => {
        const { logs } = await import("./bootstrap/access.ts");
        return await logs(flags.name, {
          source: flags.source as "console",
          follow: flags.follow === true,
          write: (bytes) => writeSync(Deno.stdout, bytes),
          signal,
        });
      })
    );
}

/** A span whose warnings reach the user. */
const warningSpan = async () => (await import("./bootstrap/progress_view.ts")).warningSpan(err);

/** The terminal that progress may be drawn on, undefined where stderr is none. */
function terminal(): { readonly columns: () => number; readonly color: boolean } | undefined {
  if (!Deno.stderr.isTerminal() || Deno.env.get("TERM") === "dumb") return undefined;
  return { columns, color: !Deno.noColor };
}

function columns(): number {
  return Deno.stderr.isTerminal() ? Deno.consoleSize().columns : 80;
}

let exitCode = 0;

/** Runs an action with the user's signals: the first aborts, the second ends this process. */
async function finish(action: (signal: AbortSignal) => Promise<number>): Promise<void> {
  const controller = new AbortController();
  const onSignal = () => {
    // Listeners that end our processes (command_up.ts) are called after this one: they go first.
    if (controller.signal.aborted) return queueMicrotask(() => Deno.exit(130));
    controller.abort(interruptedError());
  };
  const signals: Deno.Signal[] = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const name of signals) Deno.addSignalListener(name, onSignal);
  try {
    exitCode = await action(controller.signal);
  } catch (error) {
    exitCode = report(error);
  } finally {
    for (const name of signals) Deno.removeSignalListener(name, onSignal);
  }
}

/** Tells an error in three lines and gives the exit code. */
function report(thrown: unknown): number {
  // A disposer that throws hides the first error behind a SuppressedError.
  const error = asHostError(thrown instanceof SuppressedError ? thrown.suppressed : thrown);
  const asJson = Deno.args.includes("--json");
  if (error instanceof GatewayError) {
    if (asJson) json({ error: error.toJSON() });
    else err(errorText(error));
    return error.exitCode;
  }
  const seen = error instanceof Error ? error.stack ?? error.message : String(error);
  err(`bug: ${seen}\n  fix: report this with \`gateway --version\``);
  return 70;
}

/** What the files of further commands are lent. */
const KIT: CliKit = {
  command,
  withJson: (one) => one.addOption(jsonOption()),
  finish,
  io: (flags, signal) => ({ flags, out, err, json, signal, terminal: terminal() }),
};

async function main(): Promise<void> {
  if (Deno.args.length === 1 && ["--help", "-h", "help"].includes(Deno.args[0])) {
    return out(HELP_TEXT);
  }
  if (["--version", "-V"].includes(Deno.args[0])) {
    const { versionFacts, versionText } = await import("./bootstrap/version.ts");
    const facts = await versionFacts();
    return Deno.args.includes("--json") ? json(facts) : out(versionText(facts));
  }
  // Without the parser, and without signal handlers: this process becomes the VM.
  if (Deno.args[0] === "__vmm") {
    return (await import("./vm/libkrun_child.ts")).vmmChild(Deno.args.slice(1), err);
  }
  commander = await import("commander");
  await (await commandTree()).parseAsync(Deno.args, { from: "user" });
}

async function commandTree(): Promise<Command> {
  const { addFork, addPorts, addSnapshots } = await import("./bootstrap/cli_commands.ts");
  const { addChecks } = await import("./bootstrap/check_commands.ts");
  const { addHostServices } = await import("./bootstrap/host_service_commands.ts");
  const { addImages } = await import("./bootstrap/image_commands.ts");
  const { addDeploy } = await import("./bootstrap/deploy_command.ts");
  const { addShellHelp } = await import("./bootstrap/shell_commands.ts");
  const root = new commander.Command("gateway")
    .description(
      "A whole Kubernetes cluster in one microVM, with a mutual-TLS endpoint on 127.0.0.1.",
    )
    .option("-V, --version", "output the version number")
    .enablePositionalOptions()
    .addHelpText(
      "after",
      "\nExample:\n  gateway                  boot the instance `default`\n  gateway COMMAND --help   options and an example of each command\n",
    )
    // Its errors are told by report(), in the form of all others.
    .configureOutput({ writeOut: (text) => out(text), writeErr: () => {} })
    .exitOverride();
  addUp(root);
  addLifecycle(root);
  addAccess(root);
  addInspection(root);
  addPorts(root, KIT);
  addSnapshots(root, KIT);
  addFork(root, KIT);
  addHostServices(root, KIT);
  addDeploy(root, KIT);
  addImages(root, KIT);
  addChecks(root, KIT);
  addShellHelp(root, KIT);
  return root;
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    // Whatever the parser throws has its own name and is told in our form.
    const { commandLineError } = await import("./bootstrap/command_line.ts");
    const parser = error instanceof Error && error.name === "CommanderError";
    const code = parser ? (error as CommanderError).exitCode : 1;
    exitCode = code === 0 ? 0 : report(parser ? commandLineError(error, Deno.args) : error);
  }
  Deno.exit(exitCode);
}
