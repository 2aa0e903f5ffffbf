/**
 * What the command line lends to every command, and what commands do with it alike.
 *
 * @module
 */
import type { EventLog } from "../../vm/base/event.ts";
import type { ProgressTerminal } from "../view/progress_view.ts";

/** What the command line lends to a command. */
export interface CommandIo {
  readonly flags: { readonly [flag: string]: unknown };
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  readonly json: (value: unknown) => void;
  readonly signal: AbortSignal;
  /** Undefined where stderr is not a terminal. */
  readonly terminal: ProgressTerminal | undefined;
}

/** A live view shows steps only; what is said beside them stands below it once it is gone. */
export function tellAfterwards(log: EventLog, { terminal, err }: CommandIo): Disposable {
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
export function assumeYes(flags: CommandIo["flags"]): boolean {
  return flags.yes === true || Deno.env.get("GATEWAY_YES") === "1";
}
