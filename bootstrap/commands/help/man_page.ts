/**
 * The man page gateway(1), out of the command tree.
 * It must not hold what the help of a command says already.
 *
 * @module
 */
import { allCommands, type CommandNode, type OptionNode } from "./tree.ts";

/** What the tree does not have. */
export interface ManFacts {
  readonly version: string;
  /** YYYY-MM-DD. */
  readonly date: string;
}

/** Text that roff would take for its own: a backslash anywhere, a dot or an apostrophe at the start of a line. */
function plain(text: string): string {
  const escaped = text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll("`", "\\(ga");
  return escaped.replaceAll(/^(?=[.'])/gm, "\\&");
}

const bold = (text: string) => `\\fB${plain(text)}\\fR`;

/** "--source <log>" with the value in italics. */
function flags(text: string): string {
  const [, words = "", value = ""] = /^([^<[]*?)(?: ?([<[].*))?$/.exec(text)!;
  return `${bold(words)}${value && ` \\fI${plain(value)}\\fR`}`;
}

function optionLines({ flags: text, description }: OptionNode): string[] {
  return [".TP", flags(text), sentence(description)];
}

const sentence = (text: string) => plain(text.endsWith(".") ? text : `${text}.`);

function commandLines(node: CommandNode): string[] {
  const name = ["gateway", ...node.path].join(" ");
  const aliases = node.aliases.length > 0
    ? [".PP", `Also: ${plain(node.aliases.join(", "))}.`]
    : [];
  return [
    `.SS ${bold(name)} ${plain(node.usage)}`,
    sentence(node.description.charAt(0).toUpperCase() + node.description.slice(1)),
    ...aliases,
    ...node.options.filter(({ names }) => !names.includes("--help")).flatMap(optionLines),
    ...exampleLines(node.examples),
  ];
}

function exampleLines(examples: readonly string[]): string[] {
  if (examples.length === 0) return [];
  return [".PP", "Example:", ".PP", ".nf", ".RS 4", ...examples.map(plain), ".RE", ".fi"];
}

type Term = readonly [term: string, text: string];

const EXIT_CODES: readonly Term[] = [
  ["0", "It worked."],
  ["1", "It did not; stderr has what, why and a fix."],
  ["2", "The command line could not be used."],
  ["70", "A bug of gateway."],
  ["130", "Interrupted."],
];

const ENVIRONMENT: readonly Term[] = [
  ["XDG_CACHE_HOME", "Artifacts, below gateway; ~/.cache by default."],
  ["XDG_DATA_HOME", "Instances, below gateway; ~/.local/share by default."],
  ["XDG_CONFIG_HOME", "Client files, below openshell; ~/.config by default."],
  [
    "XDG_RUNTIME_DIR",
    "Sockets, below gateway; /tmp/gateway-UID without it, /run/gateway for root.",
  ],
  ["GATEWAY_LIBKRUN", "The libkrun to use."],
  ["GATEWAY_PAYLOAD", "What a new instance runs where nobody says --payload."],
  ["GATEWAY_YES", "1: as root, install missing host tools without asking."],
];

const terms = (rows: readonly Term[]) =>
  rows.flatMap(([term, text]) => [".TP", bold(term), plain(text)]);

/** The page as roff. */
export function manPage(root: CommandNode, { version, date }: ManFacts): string {
  return [
    `.TH GATEWAY 1 ${date} "gateway ${version}" "User Commands"`,
    ".SH NAME",
    "gateway \\- a whole Kubernetes cluster in one microVM",
    ".SH SYNOPSIS",
    `.B gateway`,
    `${plain(root.usage)}`,
    ".SH DESCRIPTION",
    sentence(root.description),
    "Every command prints its options and an example with",
    `${bold("--help")}.`,
    ".SH OPTIONS",
    ...root.options.flatMap(optionLines),
    ".SH COMMANDS",
    ...allCommands(root).slice(1).filter(({ commands }) => commands.length === 0)
      .flatMap(commandLines),
    ".SH EXIT STATUS",
    ...terms(EXIT_CODES),
    ".PP",
    `${bold("exec")} and ${bold("--exec")} pass on the code of the program in the guest.`,
    ".SH ENVIRONMENT",
    ...terms(ENVIRONMENT),
    ...(root.examples.length > 0
      ? [".SH EXAMPLES", ".nf", ...root.examples.map(plain), ".fi"]
      : []),
  ].join("\n") + "\n";
}
