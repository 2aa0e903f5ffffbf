/**
 * Four processes start, fork and remove an instance of one name at the same time: one of them has it at any moment, nothing
 * of it is lost to another one, and nothing is left over.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { instancesDir, runtimeDir } from "../vm/base/layout.ts";
import { run } from "../vm/base/process.ts";
import { PLAIN_DISK } from "../vm/instance/disk_chain.ts";
import { findInstance, removeInstance } from "../vm/instance/instance.ts";
import { describeFile, writeState } from "../vm/instance/saved_state.ts";
import { withHome } from "./instance_home.ts";
import { denoArgs } from "./sandbox.ts";

const CONTENDER = fromFileUrl(new URL("fakes/contender.ts", import.meta.url));
const PROCESSES = 4;
const ROUNDS = 200;

type Won = "up" | "made" | "fork" | "rm";

/** A saved state whose clones are made. */
async function makeSource(dir: string): Promise<void> {
  await Deno.mkdir(dir);
  for (const name of ["state.img", "ram-1.layer", "dev-1.bin"]) {
    await Deno.writeTextFile(join(dir, name), name);
  }
  await writeState(join(dir, "snapshot.json"), {
    ...{ schemaVersion: 2, key: "k", disk: PLAIN_DISK, savedAt: "2026-01-01T00:00:00Z" },
    devices: await describeFile(dir, "dev-1.bin"),
    ram: [await describeFile(dir, "ram-1.layer")],
    ...{ payload: null, certificates: null, clusterEnds: null },
    ...{ sshPort: null, apiPort: null, from: null },
  });
}

async function contend(name: string, source: string) {
  const { stdout } = await run(Deno.execPath(), {
    args: denoArgs(CONTENDER, [name, String(ROUNDS), source]),
    timeoutMs: 300_000,
  });
  return JSON.parse(stdout) as { won: Record<Won, number>; wrong: string[] };
}

Deno.test(`${PROCESSES} x ${ROUNDS} starts, forks and removals of one name have one winner each`, () =>
  withHome(async ({ top }) => {
    const source = join(top, "source");
    await makeSource(source);
    const all = await Promise.all(
      Array.from({ length: PROCESSES }, () => contend("a", source)),
    );
    assertEquals(all.flatMap(({ wrong }) => wrong), []);
    const won = (what: Won) => all.reduce((sum, one) => sum + one.won[what], 0);
    for (const what of ["up", "made", "fork", "rm"] as const) assert(won(what) > 0, what);
    // Each instance that was made was removed once, but for one that is left.
    const left = await findInstance("a") ? 1 : 0;
    assertEquals(won("made") + won("fork"), won("rm") + left);
    if (left) await removeInstance("a");
    const names = async (dir: string) =>
      await Array.fromAsync(Deno.readDir(dir), ({ name }) => name).catch(() => []);
    assertEquals([await names(instancesDir()), await names(runtimeDir())], [[], []]);
    const { stdout } = await run("ps", { args: ["-eo", "pid,args"] });
    const programs = stdout.split("\n").filter((line) => line.includes(top));
    assertEquals(programs, []);
  }));
