/**
 * What floods of one guest cost gvproxy, as its own Go tests measure it on a process of its own.
 *
 * @module
 */
import { assert } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { cacheDir } from "../../vm/base/layout.ts";
import { run } from "../../vm/base/process.ts";
import { goEnv } from "../../vm/store/go_build.ts";
import type { Row } from "./row.ts";

const LINE = /FLOOD (\w+) (\d+) MiB (\d+) descriptors (\d+) KiB of log/g;

/** Memory, open files and log of gvproxy after each flood. */
export async function gvproxySafetyRows(): Promise<Row[]> {
  const { stdout } = await run("go", {
    args: ["test", "-count=1", "-v", "-run", "^TestFloodOf", "."],
    cwd: fromFileUrl(new URL("../../net/gvproxy", import.meta.url)),
    env: goEnv(join(cacheDir(), "build")),
    timeoutMs: 10 * 60_000,
  });
  const rows = [...stdout.matchAll(LINE)].flatMap(([, flood, memory, files, log]) => {
    const name = (what: string) => `gvproxy, flood of ${flood}: ${what}`;
    return [
      { name: name("memory"), value: Number(memory), unit: "MiB", limit: 100 },
      { name: name("open files"), value: Number(files), unit: "files", limit: 2048 },
      { name: name("log"), value: Number(log), unit: "KiB", limit: 64 },
    ];
  });
  assert(rows.length > 0, `no flood was measured:\n${stdout}`);
  return rows;
}
