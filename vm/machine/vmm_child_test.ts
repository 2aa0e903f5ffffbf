import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { tempDir } from "../../tests/fakes/temp_dir.ts";
import { exists } from "../base/layout.ts";
import { spawnChild } from "../base/process.ts";
import { identifyProcess, isAlive, type ProcessId } from "../base/process_table.ts";
import { waitFor } from "../base/wait.ts";
import { spawnVmm } from "./vmm_child.ts";

const MODULE = fromFileUrl(new URL("./vmm_child.ts", import.meta.url));

/** A program that does what a VMM does here: it says a word, and stays. */
const STAYS = ["-c", "echo from the VMM; umask; exec sleep 60"];

const gone = (id: ProcessId) =>
  waitFor({
    what: `the end of ${id.pid}`,
    probe: () => Promise.resolve(!isAlive(id) || undefined),
    timeoutMs: 10_000,
  });

/** Starts one in a process of its own and kills that; gives the VMM. */
async function orphan(keeps: boolean): Promise<ProcessId> {
  const dir = await tempDir();
  const program = join(dir, "starts.ts");
  await Deno.writeTextFile(
    program,
    `import { spawnVmm } from ${JSON.stringify(`file://${MODULE}`)};
     const vmm = spawnVmm("/bin/sh", ["-c", "exec sleep 60"], { logPath: "/dev/null", env: {} });
     ${keeps ? "await vmm.keep();" : ""}
     console.log(vmm.pid);
     setInterval(() => {}, 1000);`,
  );
  const config = fromFileUrl(new URL("../../deno.json", import.meta.url));
  await using starter = spawnChild(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "-A", "--config", config, program],
    stdout: "piped",
  });
  let text = "";
  for await (const piece of starter.stdout!.pipeThrough(new TextDecoderStream() as never)) {
    text += piece;
    if (text.endsWith("\n")) break;
  }
  const id = identifyProcess(Number(text))!;
  assert(isAlive(id));
  Deno.kill(starter.pid, "SIGKILL");
  await starter.exited;
  return id;
}

Deno.test("spawnVmm() gives a log, a private umask and no stdin, and ends the VMM with its group", async () => {
  const logPath = join(await tempDir(), "vmm.log");
  const vmm = spawnVmm("/bin/sh", STAYS, { logPath, env: {} });
  const id = identifyProcess(vmm.pid)!;
  await waitFor({
    what: "the log",
    probe: async () =>
      (await Deno.readTextFile(logPath).catch(() => "")).includes("0077") || undefined,
    timeoutMs: 10_000,
  });
  assertEquals(await Deno.readTextFile(logPath), "from the VMM\n0077\n");
  assertEquals(await Deno.readLink(`/proc/${vmm.pid}/fd/0`), "/dev/null");
  assertEquals(await exists(`/proc/${vmm.pid}/fd/3`), false);
  assertEquals((await vmm.stop(5000)).signal, "SIGTERM");
  assertEquals([isAlive(id), await groupOf(vmm.pid)], [false, []]);
});

Deno.test({
  name:
    "spawnVmm() lets the VMM append to a log that it begins anew, so that it can be cut meanwhile",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    const logPath = join(await tempDir(), "vmm.log");
    await Deno.writeTextFile(logPath, "of an earlier start\n");
    const vmm = spawnVmm("/bin/sh", STAYS, { logPath, env: {} });
    await waitFor({
      what: "the log",
      probe: async () => (await Deno.readTextFile(logPath)).endsWith("0077\n") || undefined,
      timeoutMs: 10_000,
    });
    assertEquals(await Deno.readTextFile(logPath), "from the VMM\n0077\n");
    const info = await Deno.readTextFile(`/proc/${vmm.pid}/fdinfo/1`);
    await vmm.stop(1000);
    const O_APPEND = 0o2000;
    assertEquals(parseInt(/^flags:\s+(\d+)$/m.exec(info)![1]!, 8) & O_APPEND, O_APPEND);
  },
});

Deno.test("a VMM that ends by itself leaves nothing of its group, kept or not", async () => {
  for (const keeps of [true, false]) {
    const vmm = spawnVmm("/bin/sh", ["-c", "sleep 0.2; exit 3"], { logPath: "/dev/null", env: {} });
    if (keeps) await vmm.keep();
    assertEquals((await vmm.exited).code, 3);
    assertEquals(await groupOf(vmm.pid), [], `${keeps}`);
  }
});

Deno.test("a VMM that starts is killed when its starter is killed, and one that is kept is not", async () => {
  await gone(await orphan(false));
  const kept = await orphan(true);
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert(isAlive(kept), "it was killed although it was kept");
  Deno.kill(kept.pid, "SIGKILL");
  await gone(kept);
});

Deno.test("spawnVmm() gives the VMM its own variables, and none of the user's that it does not need", async () => {
  const logPath = join(await tempDir(), "vmm.log");
  Deno.env.set("SOME_TOKEN", "secret");
  try {
    const env = { LD_DEBUG_OF_OURS: "x" };
    const vmm = spawnVmm("/bin/sh", ["-c", "/usr/bin/env; echo end"], {
      logPath,
      env,
      clearEnv: true,
    });
    await vmm.exited;
  } finally {
    Deno.env.delete("SOME_TOKEN");
  }
  const words = await Deno.readTextFile(logPath);
  assert(words.includes("LD_DEBUG_OF_OURS=x\n") && words.endsWith("end\n"), words);
  assert(words.includes(`PATH=${Deno.env.get("PATH")}\n`), words);
  assert(!words.includes("SOME_TOKEN"), words);
});

/** The processes of a group, by their pids. */
async function groupOf(group: number): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await Deno.readTextFile(`/proc/${name}/stat`).catch(() => "");
    const [state, , pgrp] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (Number(pgrp) === group && state !== "Z") found.push(name);
  }
  return found;
}
