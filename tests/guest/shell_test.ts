import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { silentSpan } from "../../vm/base/event.ts";
import { ensureTools } from "../../vm/base/host_tools.ts";
import { run, which } from "../../vm/base/process.ts";
import { GUEST_DIR, skipReason, TOOLS } from "./harness.ts";

async function scripts(dir = GUEST_DIR): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of Deno.readDir(dir)) {
    const path = join(dir, entry.name);
    if (entry.isDirectory) found.push(...await scripts(path));
    else if (/shellcheck shell=|^#!\/usr\/bin\/busybox ash/.test(await Deno.readTextFile(path))) {
      found.push(path);
    }
  }
  return found.sort();
}

Deno.test({
  name: "every guest script parses as busybox ash",
  ignore: skipReason !== undefined,
  fn: async () => {
    await ensureTools(TOOLS, {
      span: silentSpan(),
      signal: AbortSignal.timeout(600_000),
      assumeYes: true,
    });
    const files = await scripts();
    assertEquals(files.length > 15, true, "the scripts were not found");
    for (const path of files) await run("busybox", { args: ["ash", "-n", path] });
  },
});

const shellcheck = which("shellcheck");
Deno.test({
  name: shellcheck === undefined
    ? "every guest script passes shellcheck (skipped: shellcheck is not installed)"
    : "every guest script passes shellcheck",
  ignore: shellcheck === undefined,
  fn: async () => {
    await run("shellcheck", { args: ["-s", "dash", ...await scripts()], cwd: GUEST_DIR });
  },
});
