/**
 * What tests read in an instance's folder, and what they do to its files and to the file system below.
 * It must not start or stop anything.
 *
 * @module
 */
import { join } from "@std/path";
import { run } from "../../vm/base/process.ts";
import { waitFor } from "../../vm/base/wait.ts";
import type { RunRecord } from "../../vm/instance/instance.ts";
import type { TestHome } from "./harness.ts";

/** The record of what runs; empty where nothing does. */
export async function runRecord(dir: string): Promise<Partial<RunRecord>> {
  return JSON.parse(await Deno.readTextFile(join(dir, "run.json")).catch(() => "{}"));
}

/** Waits until nothing of the instance `default` is being saved, started or stopped. */
export async function atRest(home: TestHome): Promise<void> {
  const dir = join(home.home, "data/gateway/instances/default");
  await waitFor({
    what: "an instance at rest",
    probe: async () => {
      const { phase } = await runRecord(dir);
      const open = new Set<number>();
      for (const { kind, id, name } of await home.events("default")) {
        if (kind === "start" && name === "snapshot") open.add(id);
        if (kind === "end") open.delete(id);
      }
      return (phase === undefined || phase === "ready") && open.size === 0 || undefined;
    },
    timeoutMs: 60_000,
    intervalMs: 250,
  });
}

/** Files of saved states in an instance's folder that no record names. */
export async function unnamedStateFiles(dir: string): Promise<string[]> {
  let records = "";
  const files: string[] = [];
  for (const folder of [dir, join(dir, "snapshots")]) {
    for (const { name } of await Array.fromAsync(Deno.readDir(folder)).catch(() => [])) {
      if (name.endsWith(".json")) records += await Deno.readTextFile(join(folder, name));
      if (/^(dev|ram)-/.test(name)) files.push(name);
    }
  }
  return files.filter((name) => !records.includes(name));
}

/** Makes a tmpfs as large as what is in it and this much more. */
export async function leaveFree(mount: string, mib: number): Promise<void> {
  const { stdout } = await run("df", { args: ["--output=used", "-BM", mount] });
  const size = parseInt(stdout.trim().split("\n").at(-1)!) + mib;
  await run("mount", { args: ["-o", `remount,size=${size}m`, mount] });
}

/** Changes one bit in the middle of a file. */
export async function flipByte(path: string): Promise<void> {
  using file = await Deno.open(path, { read: true, write: true });
  const at = (await file.stat()).size >> 1;
  const byte = new Uint8Array(1);
  await file.seek(at, Deno.SeekMode.Start);
  await file.read(byte);
  byte[0]! ^= 1;
  await file.seek(at, Deno.SeekMode.Start);
  await file.write(byte);
}
