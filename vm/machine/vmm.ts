/**
 * This room is what both VMMs have in common: the machine's description, a VMM as a child process, and the host's ends
 * of the guest's ports. The drivers are in qemu and libkrun. Read spec.ts next, then vmm_child.ts and control_port.ts.
 *
 * The interface both VMM drivers fulfil.
 * It must not hold a driver's own words; planVm chooses, drivers obey.
 *
 * @module
 */
import type { Span } from "../base/event.ts";
import type { ChildExit } from "../base/process.ts";
import type { VmSpec } from "./spec.ts";

/** Which VMM a user wants; "auto" is the first that can run here. */
export type VmmChoice = "auto" | "qemu" | "libkrun";

/** What stays below a new layer when it is loaded again: nothing, the bottom layer, or all of them. */
export type LayerMode = "new" | "kept" | "changed";

/** What a driver can do on this host. */
export interface VmmSupport {
  readonly snapshot: boolean;
  /** Network modes besides "none". */
  readonly net: readonly ("gvproxy" | "tsi")[];
}

/** What a driver found out about this host. */
export interface VmmCheck {
  readonly usable: boolean;
  /** How it would run, such as "QEMU 7.2.22, TCG (emulation)". */
  readonly description: string;
  /** "kvm", "hvf", "tcg" or "libkrun". */
  readonly accelerator: string;
  /** The observed fact behind the choice. */
  readonly why: string;
  /** What the user would do to make it usable or faster; "" when there is nothing. */
  readonly fix: string;
  /**
   * What a saved guest needs besides its spec and this version to go on: the machine's type, its processor, and this host's
   * as far as the guest sees it. Absent where the driver saves none.
   */
  readonly machine?: string;
  /** Of libkrun: the libkrunfw that belongs to it, if there is one. */
  readonly firmware?: string;
}

/** A program with all that it is started with. */
export interface VmCommand {
  readonly program: string;
  readonly args: readonly string[];
  /** Its variables, and no others but PATH. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** A started VM; disposing kills it. */
export interface RunningVm extends AsyncDisposable {
  readonly pid: number;
  /** What starts such a VM from its disk, for a person who replays a boot by hand. */
  readonly command: VmCommand;
  /** Resolves when the VMM is gone; never rejects. */
  readonly exited: Promise<ChildExit>;
  /**
   * Stops the guest and keeps memory and device state in new files (0600). Absent where the driver has no snapshots or
   * the spec no memory layers.
   *
   * @throws GatewayError `vmm-failed`, `disk-full`; the guest runs on then and no file is left.
   */
  readonly save?: (target: SaveTarget, signal: AbortSignal) => Promise<SavedParts>;
  /**
   * Gives memory back that the VMM only needs for a guest that works: code that an emulator translated, when it is more
   * than so many MiB. Resolves to what it had, 0 when it did nothing, undefined when it cannot. Absent as `save`.
   *
   * @throws GatewayError `vmm-failed`; the guest runs on.
   */
  readonly trim?: (atMostMiB: number, signal: AbortSignal) => Promise<number | undefined>;
  /** How the VMM is confined on this host, for people; absent where the driver does not confine it. */
  readonly confinement?: string;
  /**
   * Tells that the guest is up and the VM on record. Until then the VMM ends with this process, even a killed one; from
   * then on a guest whose host is gone powers off by itself, cleanly. A VM without a disk needs no such thing.
   */
  keep(): Promise<void>;
  /** Ends the VMM now, without asking the guest; resolves when it is gone. */
  stop(timeoutMs: number): Promise<ChildExit>;
}

/** Where a save goes and what happens after it. */
export interface SaveTarget {
  /** A new file for the device state. */
  readonly devicesPath: string;
  /** A new file for the memory. */
  readonly ramPath: string;
  /**
   * What stays below that file. "kept": the spec's bottom layer. "new": nothing. "changed": the bottom layer, if it was
   * kept, and every file that the VM has adopted since.
   */
  readonly mode: LayerMode;
  /** The VM takes what the guest has not changed meanwhile from the new file, and so shares it; for "continue". */
  readonly adopt?: boolean;
  /** The guest goes on writing to this overlay, and what its disk was stays as it is; absent: the disk stays the head. */
  readonly overlay?: {
    readonly path: string;
    /** Makes the overlay the disk on record; called while the guest stands still. */
    readonly commit: () => Promise<void>;
    /** Undoes that when the switch failed. */
    readonly revert: () => Promise<void>;
  };
  /** Whether the guest goes on, or the VMM ends. */
  readonly then: "continue" | "end";
  /** The guest's programs, which stand still from before the save until the guest runs on and has been released. */
  readonly programs?: {
    freeze(signal: AbortSignal): Promise<void>;
    /** Called once the guest runs again, after a failure too. When it rejects, the save has failed. */
    release(): Promise<void>;
  };
  /**
   * Makes the save count; called when all of it is in the files, for "end" while the guest stands still and before the VMM
   * ends. When it rejects the save has failed, and the guest runs on.
   */
  readonly complete: (parts: SavedParts) => Promise<void>;
}

/** What a save did. */
export interface SavedParts {
  /** How long the guest stood still; for "end", until its state was in the files. */
  readonly pauseMs: number;
  /** The size of the memory file. */
  readonly ramBytes: number;
  /** Whether the VM has adopted the file. */
  readonly adopted: boolean;
}

/** What a start may use. */
export interface StartOptions {
  readonly span: Span;
  readonly signal: AbortSignal;
  /** Called right before a guest continues from its saved memory: from then on it may change its disk. */
  readonly onContinue?: () => void;
}

/** A driver. */
export interface Vmm {
  readonly name: "qemu" | "libkrun";
  readonly supports: VmmSupport;
  /** Looks at the host; never throws for a host that merely cannot. */
  check(options: StartOptions): Promise<VmmCheck>;
  /**
   * Starts the VM; resolves when the VMM took the spec and runs.
   *
   * @throws GatewayError `vmm-missing`, `vmm-failed`, `interrupted`.
   */
  start(spec: VmSpec, options: StartOptions): Promise<RunningVm>;
}
