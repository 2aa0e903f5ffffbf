/**
 * This room defines the words and flags of each command, beside the call that the command makes. What a command does
 * is in the rooms below, and a module that does it is imported inside the action only. Read lifecycle.ts next, which
 * has `up` and `down`; help/ has help, completions and the manual page.
 *
 * How commands are defined. What an action gets has the types of the options and arguments that its definition names, and
 * help, completions and the manual page are read off the same definitions.
 * It must not print or exit; cli.ts lends both.
 *
 * @module
 */
import {
  type Command,
  type CommandUnknownOpts,
  InvalidArgumentError,
  type OptionValues,
} from "@commander-js/extra-typings";
import type { CommandIo } from "./io.ts";

/** A command that gets others below it. */
export type Parent = CommandUnknownOpts;

/** What cli.ts lends to the files of commands. */
export interface CliKit {
  /** Runs an action with the user's signals: the first ends it cleanly, a second Ctrl-C aborts `force`. */
  readonly finish: (
    action: (signal: AbortSignal, force: AbortSignal) => Promise<number>,
  ) => Promise<void>;
  /** Runs an action that wraps a program, which gets the user's signals. */
  readonly wrap: (action: () => Promise<number>) => Promise<void>;
  /** Writes a guest's words to stdout, to a terminal without escape sequences; false when the reader has gone. */
  readonly write: (bytes: Uint8Array) => boolean;
  readonly stdoutIsTerminal: () => boolean;
  readonly stdinIsTerminal: () => boolean;
  /** Asks on the terminal; false for anything but yes. */
  readonly confirmed: (question: string, signal: AbortSignal) => Promise<boolean>;
  /** Width of the terminal; 80 without one. */
  readonly columns: () => number;
  readonly io: <Flags>(flags: Flags, signal: AbortSignal) => CommandIo<Flags>;
}

/** A command with an example in its help. */
export function subcommand<Usage extends string>(
  parent: Parent,
  usage: Usage,
  description: string,
  example: string,
) {
  const lines = example.split("\n").join("\n  ");
  return parent.command(usage).description(description)
    .addHelpText("after", `\nExample:\n  ${lines}\n`);
}

/** One that acts on an instance: with --name. */
export function named<Usage extends string>(
  parent: Parent,
  usage: Usage,
  description: string,
  example: string,
) {
  return subcommand(parent, usage, description, example)
    .option("--name <name>", "which instance", "default");
}

/** Adds --json. */
export function withJson<Args extends unknown[], Opts extends OptionValues>(
  command: Command<Args, Opts>,
) {
  return command.option("--json", "print JSON for programs");
}

/** A command that only holds others. */
export function group(parent: Parent, name: string, description: string, example: string): Parent {
  return subcommand(parent, name, description, example) as Parent;
}

/** The value of an option that is a whole number. */
export function whole(value: string): number {
  if (!/^-?\d{1,9}$/.test(value)) throw new InvalidArgumentError("It has to be a whole number.");
  return Number(value);
}

/** The value of an option that may be repeated; `before` is false after its --no- form, and undefined at first. */
export function collect(value: string, before: string[] | boolean | undefined): string[] {
  return [...(Array.isArray(before) ? before : []), value];
}

/** A span whose warnings reach the user. */
export async function warningSpan({ err }: Pick<CommandIo, "err">) {
  return (await import("../view/progress_view.ts")).warningSpan(err);
}
