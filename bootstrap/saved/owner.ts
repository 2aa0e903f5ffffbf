/**
 * An instance that another command starts for itself, such as the one of a golden build, ends when that command is killed.
 *
 * @module
 */
import { interruptedError } from "../../vm/base/error.ts";
import { identifyProcess, isAlive, type ProcessId } from "../../vm/base/process_table.ts";
import { repeat } from "../../vm/base/wait.ts";

const VARIABLE = "GATEWAY_OWNER";
const INTERVAL_MS = 500;

/** What names this process as the owner in the environment of a supervisor; nothing where the host cannot identify it. */
export function ownerEnv(): Record<string, string> {
  const id = identifyProcess(Deno.pid);
  return id ? { [VARIABLE]: JSON.stringify(id) } : {};
}

/** Watches the owner of this process, if it has one; disposing ends that. */
export interface OwnerWatch extends Disposable {
  /** Aborts when the owner is gone. */
  readonly gone: AbortSignal;
}

/** Begins to watch. */
export function watchOwner(text: string | undefined = Deno.env.get(VARIABLE)): OwnerWatch {
  const gone = new AbortController();
  const over = new AbortController();
  const owner = readOwner(text);
  if (owner) {
    const look = () => {
      if (!isAlive(owner)) gone.abort(interruptedError());
      return Promise.resolve();
    };
    void repeat(look, INTERVAL_MS, AbortSignal.any([gone.signal, over.signal]));
  }
  return { gone: gone.signal, [Symbol.dispose]: () => over.abort() };
}

function readOwner(text: string | undefined): ProcessId | undefined {
  try {
    return text === undefined ? undefined : JSON.parse(text);
  } catch {
    // Not written by us.
    return undefined;
  }
}
