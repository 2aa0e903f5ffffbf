/**
 * An instance that "runs" without a VM: its supervisor is a process of ours. Programs that stand for ssh, scp and
 * kubectl can be put first on the PATH of its user.
 * It must not boot anything.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { readLines } from "../../vm/base/lines.ts";
import { type ChildProcess, signalProcess } from "../../vm/base/process.ts";
import { identifyProcess } from "../../vm/base/process_table.ts";
import type { Sandbox } from "../sandbox.ts";

const SUPERVISOR = fromFileUrl(new URL("supervisor.ts", import.meta.url));

/** A running instance; disposing ends its processes. */
export interface FakeRun extends AsyncDisposable {
  readonly supervisor: ChildProcess;
  /** Stands for the VMM. */
  readonly vmmPid: number;
}

/** Starts it; `ending` is how its supervisor takes SIGTERM, `more` the ports it records. */
export async function startInstance(
  sandbox: Sandbox,
  name: string,
  ending: "clean" | "never",
  more: { readonly apiPort?: number } = {},
): Promise<FakeRun> {
  const args = [name, ending, ...(more.apiPort ? [String(more.apiPort)] : [])];
  const supervisor = sandbox.start(args, SUPERVISOR);
  const { value } = await readLines(supervisor.stdout!).next();
  await supervisor.stderr!.cancel();
  const vmmPid = Number(value);
  return {
    supervisor,
    vmmPid,
    async [Symbol.asyncDispose]() {
      signalProcess(supervisor.pid, "SIGKILL");
      await supervisor.exited;
      if (identifyProcess(vmmPid)) signalProcess(vmmPid, "SIGKILL");
    },
  };
}

/** A folder of programs by name, each a script of this folder; put it first on PATH. */
export async function fakePrograms(
  sandbox: Sandbox,
  programs: Readonly<Record<string, string>>,
): Promise<string> {
  const bin = join(sandbox.top, "bin");
  await Deno.mkdir(bin, { recursive: true });
  for (const [name, script] of Object.entries(programs)) {
    await Deno.symlink(fromFileUrl(new URL(script, import.meta.url)), join(bin, name));
  }
  return `${bin}:${Deno.env.get("PATH")}`;
}
