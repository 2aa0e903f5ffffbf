import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { run } from "../vm/base/process.ts";
import { failureDigest } from "./failure_digest.ts";
import { tempDir } from "./fakes/temp_dir.ts";

Deno.test("failureDigest() tells the first failures of what deno test prints, without their stacks", async () => {
  const dir = await tempDir();
  const step = (name: string) =>
    `await t.step("${name}", () => { throw new Error("it broke\\n\\nin ${name}\\n--- console\\nlong"); });`;
  const text = `Deno.test("walk", async (t) => {\n${
    ["a", "b", "c", "d"].map(step).join("\n")
  }\n});`;
  await Deno.writeTextFile(join(dir, "walk_test.ts"), text);
  const { stdout, stderr } = await run(Deno.execPath(), {
    args: ["test", "--quiet", "--no-check", "--no-config", "walk_test.ts"],
    cwd: dir,
    env: { NO_COLOR: "1" },
    check: false,
    timeoutMs: 60_000,
  });
  const one = (name: string, line: number) =>
    `walk ... ${name} => ./walk_test.ts:${line}:9\n  error: Error: it broke\n  in ${name}\n`;
  assertEquals(
    failureDigest("vm", stdout + stderr),
    `${one("a", 2)}${one("b", 3)}${one("c", 4)}and 1 more in vm\n`,
  );
});

Deno.test("failureDigest() tells the last lines of a group that ended in another way", () => {
  const output = `${"before\n".repeat(20)}error: Module not found\n`;
  assertEquals(
    failureDigest("unit vm", output),
    `unit vm failed\n${"  before\n".repeat(4)}  error: Module not found\n`,
  );
});
