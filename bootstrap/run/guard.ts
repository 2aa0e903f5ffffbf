/**
 * The one signal every wait after "start VM" uses: it aborts when the user does, when the VM ends, when gvproxy
 * ends, and when the guest says that it failed, each with its own error as the reason.
 * It must not stop anything itself.
 *
 * @module
 */
import { GatewayError } from "../../vm/base/error.ts";
import { readTail } from "../../vm/base/log_file.ts";
import { plainText } from "../../vm/base/plain_text.ts";
import type { ChildExit } from "../../vm/base/process.ts";
import { within } from "../../vm/base/wait.ts";
import { type ControlPort, guestFailure } from "../../vm/machine/control_port.ts";

/** What is watched. */
export interface GuardedParts {
  readonly vm: { readonly exited: Promise<ChildExit> };
  readonly control?: ControlPort;
  readonly gvproxy?: { readonly exited: Promise<ChildExit> };
  /** Read when the VM ended without a word, for the error's `why`. */
  readonly consoleLogPath: string;
  readonly gvproxyLogPath: string;
  /** Read when the console is silent too: a VMM that could not enter the guest says why there. */
  readonly vmmLogPath?: string;
}

/** A signal that carries the first reason to stop. */
export function guardSignal(user: AbortSignal, parts: GuardedParts): AbortSignal {
  const trouble = new AbortController();
  const fail = (error: GatewayError) => trouble.abort(error);
  void parts.control?.failed.then(fail);
  void parts.vm.exited.then(async ({ code, signal }) => {
    // The guest's own words, if it had any, arrive just before its end.
    const spoken = parts.control ? await within(parts.control.failed, 200) : undefined;
    const written = spoken ?? (code === 0 ? await writtenFailure(parts.consoleLogPath) : undefined);
    fail(written ?? await vmExited(parts, code, signal));
  });
  void parts.gvproxy?.exited.then(({ code, signal }) =>
    fail(
      new GatewayError({
        code: "network-failed",
        what: "Cannot keep the VM's network",
        why: `gvproxy ended (${signal ?? `code ${code}`})`,
        fix: `read ${parts.gvproxyLogPath}, then run \`gateway up\` again`,
      }),
    )
  );
  return AbortSignal.any([user, trouble.signal]);
}

/** What init wrote to the console right before it turned the guest off; on a busy host its agent may not have come up. */
async function writtenFailure(path: string): Promise<GatewayError | undefined> {
  // Its other jobs and the kernel may still have said something.
  for (const line of (await consoleTail(path, 8)).reverse()) {
    const match = /\bgateway-init: ([\w-]+): (.+)$/.exec(line);
    if (match) return guestFailure(match[1]!, match[2]!);
  }
}

async function vmExited(
  parts: GuardedParts,
  code: number,
  signal: string | null,
): Promise<GatewayError> {
  const said = async (whose: string, path: string | undefined) => {
    const tail = path === undefined ? [] : await lastWords(path);
    return tail.length > 0 ? `; its ${whose}'s last words: ${tail.join(" | ")}` : "";
  };
  const words = await said("console", parts.consoleLogPath) || await said("log", parts.vmmLogPath);
  return new GatewayError({
    code: "vm-exited",
    what: "Cannot go on without the VM",
    why: `it ended (${signal ?? `code ${code}`})${words}`,
    fix: "run `gateway logs` to read its console, then `gateway up` again",
  });
}

/** What the console ends with; a kernel that panicked has said why before its long trace. */
async function lastWords(path: string): Promise<string[]> {
  const panic = (await consoleTail(path, 200))
    .findLast((line) => line.includes("Kernel panic - not syncing"));
  return panic === undefined ? await consoleTail(path, 3) : [panic];
}

/** The last lines of a console log that hold text, without escape sequences. */
export async function consoleTail(path: string, lines: number): Promise<string[]> {
  const text = await readTail(path).catch(() => "");
  return plainText(text)
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .slice(-lines);
}
