/**
 * The interface both VMM drivers fulfil.
 * It must not hold a driver's own words; planVm chooses, drivers obey.
 *
 * @module
 */
import type { Span } from "./event.ts";
import type { ChildExit } from "./process.ts";
import type { VmSpec } from "./spec.ts";

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
}

/** A started VM; disposing kills it. */
export interface RunningVm extends AsyncDisposable {
  readonly pid: number;
  /** Resolves when the VMM is gone; never rejects. */
  readonly exited: Promise<ChildExit>;
  /**
   * Stops the guest, keeps its device state in a file (0600) and ends the VMM; the memory is in the spec's `ram`. Absent
   * where the driver has no snapshots or the spec no memory file.
   *
   * @throws GatewayError `vmm-failed`; the guest runs on then.
   */
  readonly suspend?: (devicesPath: string, signal: AbortSignal) => Promise<void>;
  /** Ends the VMM now, without asking the guest; resolves when it is gone. */
  stop(timeoutMs: number): Promise<ChildExit>;
}

/** What a start may use. */
export interface StartOptions {
  readonly span: Span;
  readonly signal: AbortSignal;
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
