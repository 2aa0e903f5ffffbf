/**
 * What the command line lends to every command, and what commands do with it alike.
 *
 * @module
 */
import type { EventLog } from "../../vm/base/event.ts";
import type { ProgressTerminal } from "../view/progress_view.ts";

/** What the command line lends to a command. `Flags` are its options, by their names in camel case. */
export interface CommandIo<Flags = { readonly json?: true }> {
  readonly flags: Flags;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  readonly json: (value: unknown) => void;
  readonly signal: AbortSignal;
  /** Undefined where stderr is not a terminal. */
  readonly terminal: ProgressTerminal | undefined;
}

/** Prints the value for programs with --json, else the text for people. */
export function tell({ flags, json, out }: CommandIo, value: unknown, text: string): void {
  flags.json ? json(value) : out(text);
}

/** A live view shows steps only; what is said beside them stands below it once it is gone. */
export function tellAfterwards(
  log: EventLog,
  { terminal, err }: Pick<CommandIo, "terminal" | "err">,
): Disposable {
  const said: string[] = [];
  const forget = log.addSink(({ kind, parent, message }) => {
    if (kind === "log" && parent === null && message !== undefined) said.push(message);
  });
  return {
    [Symbol.dispose]() {
      forget();
      if (terminal) said.forEach((line) => err(line));
    },
  };
}

/** `--yes`, or GATEWAY_YES=1 for those who start us through a task. */
export function assumeYes(yes: boolean | undefined): boolean {
  return yes === true || Deno.env.get("GATEWAY_YES") === "1";
}
