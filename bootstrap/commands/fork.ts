/**
 * The command `fork`: its flags, and what it says of the clones.
 *
 * @module
 */
import { parseForward } from "../../net/forward.ts";
import { usageError } from "../../vm/base/error.ts";
import { EventLog, type EventRecord } from "../../vm/base/event.ts";
import { formatMs } from "../../vm/base/wait.ts";
import { findInstance } from "../../vm/instance/instance.ts";
import { hostServiceFlags, leftBehindWords } from "../run/host_service.ts";
import { attachProgress } from "../view/progress_view.ts";
import type { ForkFlags } from "./definitions.ts";
import { assumeYes, type CommandIo } from "./io.ts";

/** Runs `fork`; returns the exit code. */
export async function runFork(
  io: CommandIo<ForkFlags> & { readonly source: string; readonly names: readonly string[] },
): Promise<number> {
  const { source, names, flags } = io;
  const ports = flags.port?.map(parseForward) ?? [];
  if (ports.length > 0 && names.length > 1) {
    throw usageError(
      `Cannot give ${names.length} clones the same ports`,
      "--port is for a single clone",
      "leave --port out: each clone gets free ports",
    );
  }
  const hostServices = hostServiceFlags(flags) || undefined;
  const { fork } = await import("../saved/fork.ts");
  const started = performance.now();
  const log = new EventLog();
  const clones = await (async () => {
    using view = attachProgress(log, { ...io, quiet: names.length > 1 });
    const onEvent = (_: string, record: EventRecord) => view.show(record);
    const how = { assumeYes: assumeYes(undefined), onEvent, signal: io.signal };
    return await fork({ source, names, ports, hostServices, ...how });
  })();
  if (flags.json) io.json(clones);
  else {
    for (const { name, endpoint } of clones) io.out(`${name}  ${endpoint}`);
    io.err(`Ready in ${formatMs(performance.now() - started)}.`);
    const left = hostServices ? [] : (await findInstance(source))?.config.hostServices ?? [];
    if (left.length > 0) io.err(leftBehindWords(source, names[0]!, left));
  }
  return 0;
}
