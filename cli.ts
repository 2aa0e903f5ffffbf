/**
 * The command line: commands, argument parsing, exit codes. The only module that prints or exits.
 * It must not know a VMM, and imports the rooms below only inside an action. `gateway --help` is a text, and the parser
 * is loaded for everything else: its node built-ins cost as much as the rest of a start.
 *
 * @module
 */
import type { Command, CommanderError } from "commander";
import { arrangeWords, commandLineError, ownWords } from "./bootstrap/commands/command_line.ts";
import { HELP_TEXT } from "./bootstrap/commands/help/text.ts";
import type { CliKit } from "./bootstrap/commands/instances.ts";
import { stopSignals } from "./bootstrap/run/user_signals.ts";
import { asHostError, errorText, GatewayError, usageError } from "./vm/base/error.ts";
import { plainBytes, plainText, terminalText } from "./vm/base/plain_text.ts";

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
  const lines = text.endsWith("\n") ? text : `${text}\n`;
  writeSync(Deno.stdout, Deno.stdout.isTerminal() ? terminalText(lines) : lines);
}

/** Words for people. */
function err(text: string): void {
  writeSync(Deno.stderr, `${text}\n`);
}

function writeSync(
  stream: { writeSync(data: Uint8Array): number },
  data: string | Uint8Array,
): boolean {
  const bytes = typeof data === "string" ? encoder.encode(data) : data;
  try {
    for (let at = 0; at < bytes.length;) at += stream.writeSync(bytes.subarray(at));
    return true;
  } catch {
    // The reader closed the pipe.
    return false;
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
    .option(
      "--arch <name>",
      "the guest's processor, amd64 or arm64; another than the host's is emulated",
    )
    .option("--libkrun <file>", "the libkrun to use instead of the one that is found")
    .option("--cpus <n>", "virtual CPUs", whole)
    .option("--memory <MiB>", "guest memory", whole)
    .option("--disk <MiB>", "size of the state disk", whole)
    .option("--payload <name|folder>", "what runs in the cluster")
    .option("--keep", "leave the VM running when its payload does not answer")
    .option("--no-kube-api", "neither forward the cluster's API nor write a kubeconfig")
    .option("--cluster-binary <file>", "a k3s-compatible binary to use instead of ours")
    .option("--cold", "boot from the disk instead of a saved state")
    .option("-d, --detach", "return when it is READY; it goes on in the background")
    .option("-y, --yes", "as root, install missing host tools without asking")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      "\nExample:\n  gateway up --name dev --port 30052:30051 --memory 4096 --detach\n" +
        "  echo hi | gateway --exec /bin/cat\n",
    );
  up.action((args: string[], flags: Flags) =>
    finish(async (signal, force) => {
      const { runUp } = await import("./bootstrap/commands/up.ts");
      return await runUp({
        args,
        flags,
        out,
        err,
        json,
        signal,
        force,
        terminal: terminal(),
      });
    })
  );
}

/** A subcommand that acts on one instance. */
function named(
  root: Command,
  verb: string,
  description: string,
  action: (name: string, flags: Flags, signal: AbortSignal) => Promise<void | number>,
): Command {
  return command(root, `${verb} [instance]`, description, `gateway ${verb} dev`)
    .action((_instance: string | undefined, flags: Flags) =>
      finish(async (signal) => await action(flags.name, flags, signal) ?? 0)
    );
}

/** `[instance]` and --name are one: an action finds the name in its flags. */
function takeInstance(action: Command): void {
  const at = action.registeredArguments.findIndex((argument) => argument.name() === "instance");
  const instance = at < 0 ? undefined : action.processedArgs[at] as string | undefined;
  if (instance === undefined) return;
  const { name } = action.opts<Flags>();
  if (isNameGiven(action) && name !== instance) {
    throw usageError(
      `Cannot use the instances "${instance}" and "${name}" at once`,
      `${action.name()} takes one instance`,
      "name it once",
    );
  }
  action.setOptionValueWithSource("name", instance, "cli");
}

const isNameGiven = (action: Command) => action.getOptionValueSource("name") === "cli";

/** Asks on the terminal; false without one. */
async function confirmed(question: string, signal: AbortSignal): Promise<boolean> {
  writeSync(Deno.stderr, `${question} [y/N] `);
  const { raceAbort } = await import("./vm/base/wait.ts");
  const answer = new Uint8Array(80);
  const length = await raceAbort(Deno.stdin.read(answer), signal) ?? 0;
  return /^y(es)?$/i.test(new TextDecoder().decode(answer.subarray(0, length)).trim());
}

function addLifecycle(root: Command): void {
  named(root, "down", "power the guest off cleanly", async (name, flags, signal) => {
    const { down } = await import("./bootstrap/run/down.ts");
    const { downText } = await import("./bootstrap/run/down.ts");
    const outcome = await down(name, { span: await warningSpan(), signal });
    flags.json ? json({ name, outcome }) : err(downText(name, outcome));
  }).addOption(jsonOption());
  const remove = named(
    root,
    "rm",
    "remove an instance with its disk and keys",
    async (name, flags, signal) => {
      if (!isNameGiven(remove)) {
        if (!Deno.stdin.isTerminal()) {
          const fix = "run `gateway rm NAME`; `gateway list` shows the names";
          throw usageError("Cannot remove an instance", "no name was given", fix);
        }
        if (!await confirmed(`Remove the instance "${name}" with its disk and keys?`, signal)) {
          err("Nothing was removed.");
          return 1;
        }
      }
      const { rm } = await import("./bootstrap/run/down.ts");
      await rm(name, { span: await warningSpan(), signal, force: flags.force === true });
      err(`Removed "${name}".`);
    },
  ).option("-f, --force", "stop it first");
  named(root, "suspend", "memory to disk; nothing runs until resume", async (name, _, signal) => {
    const { suspend } = await import("./bootstrap/saved/snapshots.ts");
    await suspend(name, signal);
    err(`Suspended "${name}".`);
  });
  named(
    root,
    "resume",
    "start a suspended instance from its saved memory",
    async (name, flags, signal) => {
      const { runResume } = await import("./bootstrap/commands/up.ts");
      return await runResume({ name, flags, out, err, json, signal, terminal: terminal() });
    },
  ).addOption(jsonOption());
}

function addBuild(root: Command): void {
  root.command("build [target] [payload]")
    .description(
      "build what is missing: kernel, root, cluster, images, golden, payload, libkrun or all",
    )
    .option("--payload <name|folder>", "golden: of a cluster that runs this")
    .option("--cpus <n>", "golden: of this many virtual CPUs", whole)
    .option("--memory <MiB>", "golden: of this guest memory", whole)
    .option("--disk <MiB>", "golden: of this state disk", whole)
    .option("--arch <name>", "for guests of this processor, amd64 or arm64")
    .option("--refresh", "root: with the Debian packages of today")
    .option("-y, --yes", "as root, install missing host tools without asking")
    .option("--cluster-binary <file>", "a k3s-compatible binary to use instead of ours")
    .addOption(jsonOption())
    .addHelpText(
      "after",
      "\nExample:\n  gateway build all --yes\n  gateway build payload ./hello\n",
    )
    .action((target: string | undefined, payload: string | undefined, flags: Flags) =>
      finish(async (signal) => {
        const { runBuild } = await import("./bootstrap/commands/build.ts");
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

/** A span whose warnings reach the user. */
const warningSpan = async () =>
  (await import("./bootstrap/view/progress_view.ts")).warningSpan(err);

/** The terminal that progress may be drawn on, undefined where stderr is none. */
function terminal(): { readonly columns: () => number; readonly color: boolean } | undefined {
  if (!Deno.stderr.isTerminal() || Deno.env.get("TERM") === "dumb") return undefined;
  return { columns, color: !Deno.noColor };
}

function columns(): number {
  return Deno.stderr.isTerminal() ? Deno.consoleSize().columns : 80;
}

let exitCode = 0;

/** The command line as the parser gets it. */
let words: readonly string[] = Deno.args;

/** What the parser printed for people. */
let parserText = "";

/** Runs an action with the user's signals: the first ends it cleanly, a second Ctrl-C ends this process. */
async function finish(
  action: (stop: AbortSignal, force: AbortSignal) => Promise<number>,
): Promise<void> {
  using signals = stopSignals(() => Deno.exit(130));
  await wrap(() => action(signals.stop, signals.force));
}

/** Runs an action that wraps a program, which gets the user's signals. */
async function wrap(action: () => Promise<number>): Promise<void> {
  try {
    exitCode = await action();
  } catch (error) {
    exitCode = report(error);
  }
}

/** Tells an error in three lines and gives the exit code. */
function report(thrown: unknown): number {
  // A disposer that throws hides the first error behind a SuppressedError.
  const error = asHostError(thrown instanceof SuppressedError ? thrown.suppressed : thrown);
  const asJson = ownWords(words).includes("--json");
  if (error instanceof GatewayError) {
    if (asJson) json({ error: error.toJSON() });
    else err(errorText(error));
    return error.exitCode;
  }
  const seen = error instanceof Error ? error.stack ?? error.message : String(error);
  err(plainText(`bug: ${seen}\n  fix: report this with \`gateway --version\``));
  return 70;
}

/** What the files of further commands are lent. */
const KIT: CliKit = {
  command,
  withJson: (one) => one.addOption(jsonOption()),
  finish,
  wrap,
  write: (bytes) => writeSync(Deno.stdout, Deno.stdout.isTerminal() ? plainBytes(bytes) : bytes),
  stdoutIsTerminal: () => Deno.stdout.isTerminal(),
  stdinIsTerminal: () => Deno.stdin.isTerminal(),
  columns,
  io: (flags, signal) => ({ flags, out, err, json, signal, terminal: terminal() }),
};

async function main(): Promise<void> {
  const [first = ""] = Deno.args;
  if (Deno.args.length === 1 && ["--help", "-h", "help"].includes(first)) return out(HELP_TEXT);
  if (["--version", "-V"].includes(first)) {
    const { versionFacts, versionText } = await import("./bootstrap/commands/version.ts");
    const facts = await versionFacts();
    return Deno.args.includes("--json") ? json(facts) : out(versionText(facts));
  }
  // Without the parser, and without signal handlers: this process becomes the VM.
  if (first === "__vmm") {
    return (await import("./vm/libkrun/child.ts")).vmmChild(Deno.args.slice(1), err);
  }
  // A child of ours, whose words are a file.
  if (Deno.args[0] === "__up") {
    return await finish(async (signal, force) => {
      const { runSupervisor } = await import("./bootstrap/commands/up.ts");
      return await runSupervisor(Deno.args.slice(1), { ...KIT.io({}, signal), force });
    });
  }
  commander = await import("commander");
  const root = await commandTree();
  words = arrangeWords(root, Deno.args);
  await root.parseAsync(words, { from: "user" });
}

async function commandTree(): Promise<Command> {
  const { addFork, addPorts, addSnapshots, addUse } = await import(
    "./bootstrap/commands/instances.ts"
  );
  const { addChecks } = await import("./bootstrap/commands/checks.ts");
  const { addEgress } = await import("./bootstrap/commands/egress.ts");
  const { addHostServices } = await import("./bootstrap/commands/host_service.ts");
  const { addAccess, addInspection } = await import("./bootstrap/commands/access.ts");
  const { addImages } = await import("./bootstrap/commands/image.ts");
  const { addDeploy } = await import("./bootstrap/commands/deploy.ts");
  const { addShellHelp } = await import("./bootstrap/commands/help/command.ts");
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
    .hook("preAction", (_, action) => takeInstance(action))
    // Its errors are reported by report(), in the form of all others.
    .configureOutput({
      writeOut: (text) => out(text),
      writeErr: (text) => void (parserText += text),
    })
    .exitOverride();
  addUp(root);
  addLifecycle(root);
  addBuild(root);
  addAccess(root, KIT);
  addInspection(root, KIT);
  addPorts(root, KIT);
  addSnapshots(root, KIT);
  addFork(root, KIT);
  addHostServices(root, KIT);
  addEgress(root);
  addUse(root, KIT);
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
    const code = error instanceof Error && error.name === "CommanderError"
      ? (error as CommanderError).code
      : undefined;
    // A command with others below it was called without one of them.
    if (code === "commander.help") out(parserText);
    else if (code === undefined) exitCode = report(error);
    else if ((error as CommanderError).exitCode !== 0) {
      exitCode = report(commandLineError(error as CommanderError, ownWords(words)));
    }
  }
  Deno.exit(exitCode);
}
