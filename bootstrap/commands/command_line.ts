/**
 * The words of a command line before and after the parser reads them: which of them belong to a program that a command
 * wraps, where options before a command's name go, and what the parser found wrong in the form of all our errors.
 * It must not load the parser.
 *
 * @module
 */
import type { CommandUnknownOpts as Command, Option } from "@commander-js/extra-typings";
import { type GatewayError, usageError } from "../../vm/base/error.ts";

/** Commands that run a program: the words after their own options are the program's. */
const WRAPPERS = ["exec", "kubectl"];

/**
 * Rearranges the words so that the parser reads them as meant:
 *
 * - everything after `--exec PROGRAM` belongs to the program, options too;
 * - so does everything after the own options of `exec` and `kubectl`;
 * - options before the name of a command belong to that command.
 *
 * The program's words follow a `--`.
 */
export function arrangeWords(root: Command, words: readonly string[]): string[] {
  const lead = ownOptions(everyOption(root), words);
  if (lead.execAt !== undefined) return withProgram("up", words, lead.execAt);
  const path = commandPath(root, words.slice(lead.end));
  const command = path.at(-1);
  if (command === undefined) return [...words];
  const rest = [...words.slice(0, lead.end), ...words.slice(lead.end + path.length)];
  const names = path.map((one) => one.name());
  const first = names[0]!;
  if (first === "up") {
    const { execAt } = ownOptions(command.options, rest);
    return execAt === undefined ? [...names, ...rest] : withProgram("up", rest, execAt);
  }
  if (!WRAPPERS.includes(first)) return [...names, ...rest];
  const { end } = ownOptions(command.options, rest, first === "kubectl");
  const separator = end === rest.length || rest[end] === "--" ? [] : ["--"];
  return [...names, ...rest.slice(0, end), ...separator, ...rest.slice(end)];
}

/** The words that are ours, without those of a wrapped program. */
export function ownWords(arranged: readonly string[]): readonly string[] {
  const end = arranged.indexOf("--");
  return end < 0 ? arranged : arranged.slice(0, end);
}

/** `up OPTIONS --exec PROGRAM -- WORDS`; `at` is where `--exec` or `--exec=PROGRAM` stands. */
function withProgram(command: string, words: readonly string[], at: number): string[] {
  const end = at + (words[at] === "--exec" ? 2 : 1);
  const rest = words.slice(end);
  return [command, ...words.slice(0, end), ...(rest.length > 0 ? ["--", ...rest] : [])];
}

function everyOption(command: Command): Option[] {
  return [...command.options, ...command.commands.flatMap(everyOption)];
}

/** The commands that the first words name, from the top down. */
function commandPath(root: Command, words: readonly string[]): Command[] {
  const path: Command[] = [];
  for (const word of words) {
    const next = (path.at(-1) ?? root).commands
      .find((one) => one.name() === word || one.aliases().includes(word));
    if (next === undefined) break;
    path.push(next);
  }
  return path;
}

const HELP = ["-h", "--help"];

/** Where the options at the start end, values included, and where `--exec` is among them. */
function ownOptions(
  options: readonly Option[],
  words: readonly string[],
  endAtUnknown = false,
): { readonly end: number; readonly execAt?: number } {
  let at = 0;
  while (at < words.length) {
    const word = words[at]!;
    if (word === "--" || word === "-" || !word.startsWith("-")) break;
    if (word === "--exec" || word.startsWith("--exec=")) {
      if (options.some(({ long }) => long === "--exec")) return { end: at, execAt: at };
    }
    const length = optionLength(options, word);
    if (length === undefined && endAtUnknown) break;
    at += length ?? 1;
  }
  return { end: Math.min(at, words.length) };
}

/** How many words an option takes with its value; undefined for an unknown one. */
function optionLength(options: readonly Option[], word: string): 1 | 2 | undefined {
  if (HELP.includes(word)) return 1;
  if (word.startsWith("--")) {
    const [name, value] = word.split("=", 2);
    const option = options.find(({ long }) => long === name);
    if (option === undefined) return undefined;
    return option.required && value === undefined ? 2 : 1;
  }
  // Short ones may stand together, and the last one's value may follow without a space.
  for (let at = 1; at < word.length; at++) {
    const option = options.find(({ short }) => short === `-${word[at]}`);
    if (option === undefined) return undefined;
    if (option.required) return at === word.length - 1 ? 2 : 1;
  }
  return 1;
}

/** The usage error for what the parser reported about these words. */
export function commandLineError(error: Error, args: readonly string[]): GatewayError {
  const why = error.message.replace(/^error: /, "").replaceAll("\n", " ");
  const words = args.filter((word) => /^[a-z]+$/.test(word)).slice(0, 1);
  const fix = `run \`${["gateway", ...words, "--help"].join(" ")}\` for the options and an example`;
  return usageError("Cannot read the command line", why, fix);
}
