/**
 * The command line: commands, argument parsing, exit codes. The only module that prints or exits.
 * It must not know a VMM, and imports the rooms below only inside an action. `gateway --help` is a text, and the parser
 * is loaded for everything else: its node built-ins cost as much as the rest of a start.
 *
 * @module
 */
import type { CommanderError, CommandUnknownOpts } from "@commander-js/extra-typings";
import { arrangeWords, commandLineError, ownWords } from "./bootstrap/commands/command_line.ts";
import { HELP_TEXT } from "./bootstrap/commands/help/text.ts";
import type { CliKit } from "./bootstrap/commands/kit.ts";
import { stopSignals } from "./bootstrap/run/user_signals.ts";
import { asHostError, errorText, GatewayError, usageError } from "./vm/base/error.ts";
import { plainBytes, plainText, terminalText } from "./vm/base/plain_text.ts";

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

/** `[instance]` and --name are one: an action finds the name in its flags. */
function takeInstance(action: CommandUnknownOpts): void {
  const at = action.registeredArguments.findIndex((argument) => argument.name() === "instance");
  const instance = at < 0 ? undefined : action.processedArgs[at] as string | undefined;
  if (instance === undefined) return;
  const { name } = action.opts();
  if (action.getOptionValueSource("name") === "cli" && name !== instance) {
    throw usageError(
      `Cannot use the instances "${instance}" and "${name}" at once`,
      `${action.name()} takes one instance`,
      "name it once",
    );
  }
  action.setOptionValueWithSource("name", instance, "cli");
}

/** Asks on the terminal; false without one. */
async function confirmed(question: string, signal: AbortSignal): Promise<boolean> {
  writeSync(Deno.stderr, `${question} [y/N] `);
  const { raceAbort } = await import("./vm/base/wait.ts");
  const answer = new Uint8Array(80);
  const length = await raceAbort(Deno.stdin.read(answer), signal) ?? 0;
  return /^y(es)?$/i.test(new TextDecoder().decode(answer.subarray(0, length)).trim());
}

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
  finish,
  wrap,
  write: (bytes) => writeSync(Deno.stdout, Deno.stdout.isTerminal() ? plainBytes(bytes) : bytes),
  stdoutIsTerminal: () => Deno.stdout.isTerminal(),
  stdinIsTerminal: () => Deno.stdin.isTerminal(),
  confirmed,
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
  const root = await commandTree();
  words = arrangeWords(root, Deno.args);
  await root.parseAsync(words, { from: "user" });
}

async function commandTree(): Promise<CommandUnknownOpts> {
  const { Command } = await import("@commander-js/extra-typings");
  const { addLifecycle } = await import("./bootstrap/commands/lifecycle.ts");
  const { addBuild } = await import("./bootstrap/commands/build.ts");
  const { addAccess, addInspection } = await import("./bootstrap/commands/access.ts");
  const { addFork, addPorts, addSnapshots, addUse } = await import(
    "./bootstrap/commands/instances.ts"
  );
  const { addHostServices } = await import("./bootstrap/commands/host_service.ts");
  const { addDeploy } = await import("./bootstrap/commands/deploy.ts");
  const { addImages } = await import("./bootstrap/commands/image.ts");
  const { addChecks } = await import("./bootstrap/commands/checks.ts");
  const { addShellHelp } = await import("./bootstrap/commands/help/command.ts");
  const root = new Command("gateway")
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
  const parts = [
    ...[addLifecycle, addBuild, addAccess, addInspection, addPorts, addSnapshots, addFork],
    ...[addHostServices, addUse, addDeploy, addImages, addChecks, addShellHelp],
  ];
  for (const add of parts) add(root, KIT);
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
