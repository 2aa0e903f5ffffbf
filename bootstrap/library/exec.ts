/**
 * One program in a VM of its own, as a program uses it.
 *
 * @module
 */
import type { Arch } from "../../vm/base/arch.ts";
import { EventLog, type EventRecord } from "../../vm/base/event.ts";
import { hostFacts, resolveOptions } from "../plan/options.ts";
import { checkExecProgram, execInFreshVm as exec } from "../start/exec.ts";

/** Where the program's input comes from and its output goes. */
export interface ExecStreams {
  /** Read to its end. */
  readonly stdin: ReadableStream<Uint8Array>;
  /** Written in order. */
  readonly stdout: { write(bytes: Uint8Array): Promise<number> };
  /** As stdout. */
  readonly stderr: { write(bytes: Uint8Array): Promise<number> };
}

/** The VM of {@linkcode execInFreshVm}. */
export interface ExecSettings {
  /** Virtual CPUs; 2 when left out. */
  readonly cpus?: number;
  /** Guest memory; 2048 when left out. */
  readonly memoryMiB?: number;
  /** "none" when left out; "tsi" needs libkrun. */
  readonly net?: "gvproxy" | "tsi" | "none";
  /** "auto" when left out. */
  readonly vmm?: "auto" | "qemu" | "libkrun";
  /** The guest's processor; this host's by default. Another one is emulated. */
  readonly arch?: Arch;
  /** As root, install missing host tools. */
  readonly assumeYes?: boolean;
  /** Ends the VM. */
  readonly signal?: AbortSignal;
  /** Gets every record of the boot. */
  readonly onEvent?: (record: EventRecord) => void;
}

/**
 * Runs a program in a fresh VM without a cluster and returns its exit code; with a process's own streams those are
 * `{ stdin: Deno.stdin.readable, stdout: Deno.stdout, stderr: Deno.stderr }`. Nothing of the VM stays.
 *
 * Needs all permissions.
 *
 * @throws GatewayError `usage` for bad settings, of the step that failed, or the signal's reason.
 */
export async function execInFreshVm(
  words: readonly [string, ...string[]],
  streams: ExecStreams,
  settings: ExecSettings = {},
): Promise<number> {
  const { signal, onEvent, assumeYes = false, ...vm } = settings;
  checkExecProgram(words[0]);
  const options = resolveOptions({ ...vm, name: "default", assumeYes, exec: words }, hostFacts());
  const log = new EventLog();
  if (onEvent) log.addSink(onEvent);
  return await exec(options, {
    log,
    signal: signal ?? new AbortController().signal,
    streams,
  });
}
