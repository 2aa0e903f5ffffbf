/**
 * Completion scripts for bash, zsh and fish, out of the command tree. Each walks the words that are there down the tree,
 * which it has as tables, and offers what can come next; names of instances are read from their folder.
 * They must not call the program: a Tab has to be instant.
 *
 * @module
 */
import { allCommands, type CommandNode, type OptionNode, type Values } from "./tree.ts";

/** The shells. */
export const SHELLS = ["bash", "zsh", "fish"] as const;

/** A row of the tables: where one is, what is asked, what can come. */
interface Rows {
  /** Commands by path. */
  readonly commands: readonly (readonly [path: string, nodes: readonly CommandNode[]])[];
  readonly options: readonly (readonly [path: string, options: readonly OptionNode[]])[];
  /** By "path:--option". */
  readonly values: readonly (readonly [where: string, values: Values])[];
  /** By "path:number". */
  readonly args: readonly (readonly [where: string, values: Values])[];
}

function rowsOf(root: CommandNode): Rows {
  const nodes = allCommands(root);
  const pathOf = ({ path }: CommandNode) => path.join(" ");
  // `up` may be left out, so its options can follow the program's name.
  const up = root.commands.find(({ path }) => path[0] === "up");
  const optionsOf = (node: CommandNode) =>
    node === root && up
      ? [...node.options, ...up.options.filter(({ names }) => !names.includes("--help"))]
      : node.options;
  return {
    commands: nodes.filter(({ commands }) => commands.length > 0)
      .map((node) => [pathOf(node), node.commands]),
    options: nodes.map((node) => [pathOf(node), optionsOf(node)]),
    values: nodes.flatMap((node) =>
      optionsOf(node).flatMap(({ names, values }) =>
        values === undefined
          ? []
          : names.map((name) => [`${pathOf(node)}:${name}`, values] as const)
      )
    ),
    args: nodes.flatMap((node) =>
      node.args.map((values, at) => {
        const last = node.variadic && at === node.args.length - 1;
        return [`${pathOf(node)}:${last ? "*" : at}`, values] as const;
      })
    ),
  };
}

const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

/** Words, or @files, @instances, @unknown. */
const valueText = (values: Values) => typeof values === "string" ? `@${values}` : values.join(" ");

const names = (nodes: readonly CommandNode[]) =>
  nodes.flatMap(({ path, aliases }) => [path.at(-1)!, ...aliases]);

/** A shell function in POSIX words that prints what belongs to its first argument. */
function table(name: string, rows: readonly (readonly [string, string])[]): string {
  const cases = rows.filter(([, text]) => text !== "").map(([key, text]) =>
    `    ${key.endsWith("*") ? `${quote(key.slice(0, -1))}*` : quote(key)}) printf '%s\\n' ${
      text.split("\n").map(quote).join(" ")
    } ;;`
  );
  return [`${name}() {`, `  case "$1" in`, ...cases, "  esac", "}"].join("\n");
}

/** Aliases are walked as what they stand for. */
function aliasTable(name: string, root: CommandNode): string {
  return table(
    name,
    allCommands(root).flatMap(({ path, aliases }) =>
      aliases.map((alias) => [[...path.slice(0, -1), alias].join(" "), path.join(" ")] as const)
    ),
  );
}

/** What the walk over the words needs, in words that bash and zsh share. */
function posixTables(root: CommandNode): string {
  const rows = rowsOf(root);
  return [
    table("_gateway_values", rows.values.map(([where, values]) => [where, valueText(values)])),
    table("_gateway_args", rows.args.map(([where, values]) => [where, valueText(values)])),
    table(
      "_gateway_names",
      rows.commands.map(([path, nodes]) => [path, names(nodes).join("\n")]),
    ),
    aliasTable("_gateway_alias", root),
    `_gateway_instances() {
  local dir
  for dir in "\${XDG_DATA_HOME:-$HOME/.local/share}"/gateway/instances/*/; do
    [ -d "$dir" ] || continue
    dir=\${dir%/}
    printf '%s\\n' "\${dir##*/}"
  done
}`,
    // Sets place, count (arguments so far), wanted (the value that is being typed) and plain (after --). In zsh `path` is PATH.
    `_gateway_walk() {
  local word next
  place= count=0 wanted= plain=
  for word in "$@"; do
    if [ -n "$wanted" ]; then
      wanted=
    elif [ -n "$plain" ]; then
      count=$((count + 1))
    elif [ "$word" = -- ]; then
      plain=1
    elif [ "\${word#-}" != "$word" ]; then
      wanted=$(_gateway_values "$place:$word")
    elif _gateway_names "$place" | grep -qxF -e "$word"; then
      next="\${place:+$place }$word"
      place=$(_gateway_alias "$next")
      place=\${place:-$next}
    else
      count=$((count + 1))
    fi
  done
}`,
  ].join("\n");
}

function bashScript(root: CommandNode): string {
  const rows = rowsOf(root);
  return `# bash completion for gateway
${posixTables(root)}
${
    table(
      "_gateway_options",
      rows.options.map(([path, options]) => [path, options.flatMap((one) => one.names).join("\n")]),
    )
  }
_gateway() {
  local place count wanted plain cur=\${COMP_WORDS[COMP_CWORD]} words=
  COMPREPLY=()
  _gateway_walk "\${COMP_WORDS[@]:1:COMP_CWORD-1}"
  if [ -z "$wanted" ] && [ -z "$plain" ] && [ "\${cur#-}" != "$cur" ]; then
    words=$(_gateway_options "$place")
  else
    if [ -z "$wanted" ]; then
      wanted=$(_gateway_args "$place:$count")
      [ "$count" -gt 0 ] || [ -n "$plain" ] || words=$(_gateway_names "$place")
    fi
    case $wanted in
      @instances) words="$words $(_gateway_instances)" ;;
      @unknown) ;;
      @files | '') compopt -o default 2>/dev/null ;;
      *) words="$words $wanted" ;;
    esac
  fi
  local IFS=$' \\t\\n'
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _gateway gateway
`;
}

/** "name:description", as zsh's _describe reads it. */
const described = (name: string, description: string) =>
  `${name.replaceAll(":", "\\:")}:${description}`;

function zshScript(root: CommandNode): string {
  const rows = rowsOf(root);
  return `#compdef gateway
${posixTables(root)}
${
    table(
      "_gateway_options",
      rows.options.map(([path, options]) => [
        path,
        options.flatMap((one) => one.names.map((name) => described(name, one.description))).join(
          "\n",
        ),
      ]),
    )
  }
${
    table(
      "_gateway_commands",
      rows.commands.map(([path, nodes]) => [
        path,
        nodes.flatMap((node) => names([node]).map((name) => described(name, node.description)))
          .join("\n"),
      ]),
    )
  }
_gateway() {
  local place count wanted plain cur=\${words[CURRENT]}
  local -a found
  setopt localoptions nonomatch
  _gateway_walk "\${(@)words[2,CURRENT-1]}"
  if [[ -z $wanted && -z $plain && $cur == -* ]]; then
    found=("\${(@f)$(_gateway_options "$place")}")
    _describe option found
    return
  fi
  local typed=$wanted
  [[ -n $wanted ]] || wanted=$(_gateway_args "$place:$count")
  if [[ -z $typed && -z $plain && $count == 0 && -n $(_gateway_names "$place") ]]; then
    found=("\${(@f)$(_gateway_commands "$place")}")
    _describe command found
  fi
  case $wanted in
    @instances) found=("\${(@f)$(_gateway_instances)}"); compadd -a found ;;
    @files) _files ;;
    @unknown | '') ;;
    *) compadd -- \${=wanted} ;;
  esac
}
# Autoloaded from a folder of fpath it runs at once; sourced it is registered.
if [ "$funcstack[1]" = _gateway ]; then _gateway "$@"; else compdef _gateway gateway; fi
`;
}

/** fish has its own words for all of it. */
function fishScript(root: CommandNode): string {
  const rows = rowsOf(root);
  const cases = (list: readonly (readonly [string, string])[]) =>
    list.filter(([, text]) => text !== "").map(([key, text]) =>
      `    case ${fishQuote(key)}\n      printf '%s\\n' ${
        text.split("\n").map(fishQuote).join(" ")
      }`
    ).join("\n");
  const fishTable = (name: string, list: readonly (readonly [string, string])[]) =>
    `function ${name}\n  switch "$argv[1]"\n${cases(list)}\n  end\nend`;
  const withTab = (name: string, description: string) => `${name}\t${description}`;
  return `# fish completion for gateway
${fishTable("__gateway_values", rows.values.map(([where, v]) => [where, valueLines(v)]))}
${fishTable("__gateway_args", rows.args.map(([where, v]) => [where, valueLines(v)]))}
${
    fishTable(
      "__gateway_commands",
      rows.commands.map(([path, nodes]) => [
        path,
        nodes.flatMap((node) => names([node]).map((name) => withTab(name, node.description))).join(
          "\n",
        ),
      ]),
    )
  }
${
    fishTable(
      "__gateway_options",
      rows.options.map(([path, options]) => [
        path,
        options.flatMap((one) => one.names.map((name) => withTab(name, one.description))).join(
          "\n",
        ),
      ]),
    )
  }
${
    fishTable(
      "__gateway_alias",
      allCommands(root).flatMap(({ path, aliases }) =>
        aliases.map((alias) => [[...path.slice(0, -1), alias].join(" "), path.join(" ")] as const)
      ),
    )
  }
${FISH_WALK}`;
}

const fishQuote = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
const valueLines = (values: Values) =>
  typeof values === "string" ? `@${values}` : values.join("\n");

const FISH_WALK = `function __gateway_offer
  switch "$argv[1]"
    case @files
      __fish_complete_path (commandline -ct)
    case @instances
      set -l data $XDG_DATA_HOME
      test -n "$data"; or set data $HOME/.local/share
      for dir in $data/gateway/instances/*/
        basename $dir
      end
    case @unknown
    case '*'
      printf '%s\\n' $argv
  end
end
function __gateway_complete
  set -l words (commandline -opc)
  set -l path ''
  set -l count 0
  set -l wanted
  set -l plain
  for word in $words[2..-1]
    if set -q wanted[1]
      set wanted
    else if set -q plain[1]
      set count (math $count + 1)
    else if test "$word" = --
      set plain 1
    else if string match -q -- '-*' $word
      set wanted (__gateway_values "$path:$word")
    else if contains -- $word (__gateway_commands "$path" | string replace -r '\\t.*' '')
      set path (string trim -- "$path $word")
      set -l target (__gateway_alias "$path")
      set -q target[1]; and set path $target
    else
      set count (math $count + 1)
    end
  end
  if set -q wanted[1]
    __gateway_offer $wanted
    return
  end
  if not set -q plain[1]; and string match -q -- '-*' (commandline -ct)
    __gateway_options "$path"
    return
  end
  if test $count -eq 0; and not set -q plain[1]
    __gateway_commands "$path"
  end
  set wanted (__gateway_args "$path:$count")
  set -q wanted[1]; or set wanted (__gateway_args "$path:*")
  __gateway_offer $wanted
end
complete -c gateway -f -a '(__gateway_complete)'
`;

/** The script of a shell. */
export function completionScript(shell: typeof SHELLS[number], root: CommandNode): string {
  return { bash: bashScript, zsh: zshScript, fish: fishScript }[shell](root);
}
