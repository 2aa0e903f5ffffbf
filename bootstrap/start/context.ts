/**
 * What every step of a start shares with the command that began it.
 *
 * @module
 */
import type { GatewayError } from "../../vm/base/error.ts";
import type { EventLog, EventRecord } from "../../vm/base/event.ts";
import type { RunRecord } from "../../vm/instance/instance.ts";

/** What a supervisor gets from the command line. */
export interface UpContext {
  /** Every record from the start of the process on; a copy goes to the instance's events.jsonl. */
  readonly log: EventLog;
  /** Records from before the instance was open. */
  readonly early: readonly EventRecord[];
  /** First signal of the user, or SIGTERM of `gateway down`. */
  readonly signal: AbortSignal;
  /** Called once, when the endpoint answers. */
  readonly onReady: (run: RunRecord) => void | Promise<void>;
  /** Called once when the payload does not answer and the VM is kept to look inside. */
  readonly onKept?: (error: GatewayError) => void;
  /** Filled with the processes that a second signal has to kill. */
  readonly owned: Set<number>;
}
