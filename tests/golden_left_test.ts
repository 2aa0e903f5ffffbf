/**
 * What a build of the golden state leaves that was killed: the next one finds and ends it.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { sweepBuilds } from "../bootstrap/saved/golden.ts";
import { PrivateGateway, removePrivateHome } from "../bootstrap/saved/private_gateway.ts";
import { exists, instancePaths } from "../vm/base/layout.ts";
import { readLines } from "../vm/base/lines.ts";
import { spawnChild } from "../vm/base/process.ts";
import { identifyProcess, isAlive, type ProcessId } from "../vm/base/process_table.ts";
import { denoArgs, Sandbox } from "./sandbox.ts";

const SUPERVISOR = fromFileUrl(new URL("fakes/supervisor.ts", import.meta.url));
const KEY = "0123456789abcdef";

/** A killed build's private instance; of its network process only the record tells. */
async function leaveBuild(sandbox: Sandbox) {
  const root = join(sandbox.top, "golden");
  const home = join(root, `${KEY}.build`);
  await Deno.mkdir(home, { recursive: true });
  const env = {
    ...sandbox.env,
    HOME: home,
    XDG_DATA_HOME: join(home, "data"),
    XDG_CONFIG_HOME: join(home, "config"),
  };
  const start = (program: string, args: string[]) =>
    spawnChild(program, { args, env, stdout: "piped", ownGroup: true });
  const supervisor = start(Deno.execPath(), denoArgs(SUPERVISOR, ["golden", "never"]));
  const vmm = Number((await readLines(supervisor.stdout!).next()).value);
  // The command that would start a supervisor in a moment.
  const command = start("sleep", ["300"]);
  void command.stdout!.cancel();
  const network = spawnChild("sleep", { args: ["300"], clearEnv: true, ownGroup: true });
  const { runFile } = instancePaths("golden", (name) => env[name as keyof typeof env]);
  const record = JSON.parse(await Deno.readTextFile(runFile));
  const gvproxy = identifyProcess(network.pid);
  await Deno.writeTextFile(runFile, JSON.stringify({ ...record, gvproxy }));
  const left = [supervisor.pid, vmm, command.pid, network.pid].map((pid) => identifyProcess(pid)!);
  return { root, home, left };
}

const alive = (left: readonly ProcessId[]) => left.filter(isAlive).length;

Deno.test("removePrivateHome() ends the command, the supervisor and the VMM of a killed build", async () => {
  await using sandbox = await Sandbox.make();
  const { home, left } = await leaveBuild(sandbox);
  assertEquals(alive(left), 4);
  await removePrivateHome(home);
  assertEquals([alive(left), await exists(home)], [0, false]);
});

Deno.test("PrivateGateway.make() ends what the build before it has left", async () => {
  await using sandbox = await Sandbox.make();
  const { home, left } = await leaveBuild(sandbox);
  await using _next = await PrivateGateway.make(home, new AbortController().signal);
  assertEquals(alive(left), 0);
});

Deno.test("sweepBuilds() ends the killed builds of other machines, and leaves one that is under way", async () => {
  await using sandbox = await Sandbox.make();
  const { root, home, left } = await leaveBuild(sandbox);
  {
    using lock = await Deno.open(join(root, `${KEY}.lock`), { create: true, write: true });
    await lock.lock(true);
    await sweepBuilds(root);
    assertEquals([alive(left), await exists(home)], [4, true]);
  }
  await sweepBuilds(root);
  assertEquals([alive(left), await exists(home)], [0, false]);
  assert(await exists(root));
});
