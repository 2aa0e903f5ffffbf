/**
 * The command line as plain data, read off the parser's own tree: what completions and the man page are written from.
 * It must not know a command by name, except where the tree does not say what a word means.
 *
 * @module
 */
import type { CommandUnknownOpts } from "@commander-js/extra-typings";

/** What a value can be completed to: fixed words, files, names of instances, or nothing known. */
export type Values = readonly string[] | "files" | "instances" | "unknown";

/** One option. */
export interface OptionNode {
  /** "-f" and "--follow", whichever there are. */
  readonly names: readonly string[];
  /** As the help has it: "--source <log>". */
  readonly flags: string;
  readonly description: string;
  /** Undefined for one that takes no value. */
  readonly values?: Values;
}

/** One command with what is below it. */
export interface CommandNode {
  /** From the program on, without its name: [] or ["snapshot", "create"]. */
  readonly path: readonly string[];
  readonly aliases: readonly string[];
  readonly description: string;
  /** As the help has it: "[options] <snapshot>". */
  readonly usage: string;
  readonly options: readonly OptionNode[];
  /** What its arguments can be, in order; the last one goes on if it is variadic. */
  readonly args: readonly Values[];
  readonly variadic: boolean;
  readonly commands: readonly CommandNode[];
  /** Lines of its help. */
  readonly examples: readonly string[];
}

/**
 * Arguments, options and values that are known by what they are called: "up --vmm" of one command, "--vmm" of all, or
 * what stands in brackets.
 */
export type Known = Readonly<Record<string, Values>>;

const KNOWN: Known = {
  "file": "files",
  "program": "files",
  "instance": "instances",
  "--name": "instances",
  "fork source": "instances",
  "cp source": "files",
  "cp destination": "files",
};

/** Reads a tree. */
export function commandTree(
  command: CommandUnknownOpts,
  known: Known = {},
  path: readonly string[] = [],
): CommandNode {
  const all = { ...KNOWN, ...known };
  const valuesOf = (names: readonly string[], choices: readonly string[] | undefined): Values =>
    choices ?? names.flatMap((name) => [all[[...path, name].join(" ")], all[name]])
      .find((values) => values !== undefined) ??
      "unknown";
  const args = command.registeredArguments;
  return {
    path,
    aliases: command.aliases(),
    description: command.description(),
    usage: command.usage(),
    options: [
      ...command.options.filter((option) => !option.hidden).map((option) => ({
        names: [option.short, option.long].filter((name) => name !== undefined),
        flags: option.flags,
        description: option.description,
        ...(/[<[]/.test(option.flags) &&
          {
            values: valuesOf(
              [option.long ?? "", /[<[](\w+)/.exec(option.flags)?.[1] ?? ""],
              option.argChoices,
            ),
          }),
      })),
      {
        names: ["-h", "--help"],
        flags: "-h, --help",
        description: "display help for command",
      },
    ],
    args: args.map((argument) => valuesOf([argument.name()], argument.argChoices)),
    variadic: args.at(-1)?.variadic === true,
    commands: command.commands.map((below) => commandTree(below, known, [...path, below.name()])),
    examples: examplesOf(command),
  };
}

/** What stands below "Example:" in the help; the parser has it only while it prints. */
function examplesOf(command: CommandUnknownOpts): string[] {
  let text = "";
  command.configureOutput({ writeOut: (piece) => text += piece });
  command.outputHelp();
  const [, examples = ""] = text.split("\nExample:\n");
  return examples.split("\n").map((line) => line.trim()).filter((line) => line !== "");
}

/** A command and all below it, from the top down. */
export function allCommands(node: CommandNode): CommandNode[] {
  return [node, ...node.commands.flatMap(allCommands)];
}
