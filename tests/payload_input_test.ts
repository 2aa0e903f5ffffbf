/**
 * Payloads that cannot be used, told by the real command line as a process before anything is built or started; and one
 * that is checked without a boot.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { readPayload } from "../bootstrap/payload/read.ts";
import { writeHello } from "./fakes/hello_payload.ts";
import { tempDir } from "./fakes/temp_dir.ts";
import { Sandbox } from "./sandbox.ts";

/** Arguments, exit code, and the three lines. */
type Refusal = readonly [args: readonly string[], code: number, lines: readonly string[]];

Deno.test("gateway tells each payload that cannot be used, and leaves nothing", async (t) => {
  await using sandbox = await Sandbox.make();
  const dir = await tempDir();
  const bad = join(dir, "bad");
  await writeHello(bad);
  await Deno.writeTextFile(
    join(bad, "payload.yaml"),
    (await Deno.readTextFile(join(bad, "payload.yaml"))).replace("nodePort:", "nodeport:"),
  );
  const refusals: readonly Refusal[] = [
    [["up", "--payload", "hello"], 2, [
      'Cannot use --payload "hello"',
      "the names are demo, openshell, and a folder's has a slash in it",
      "pass --payload demo, or --payload ./hello for a folder",
    ]],
    [["up", "--detach", "--payload", join(dir, "missing")], 1, [
      `Cannot use the payload "${join(dir, "missing")}"`,
      "there is no such folder",
      "name a folder with a payload.yaml; docs/payload.md has a whole example",
    ]],
    [["up", "--payload", bad], 1, [
      `Cannot use the payload "${bad}"`,
      "payload.yaml:11:3: service.nodeport: there is no such field (and 1 more to correct)",
      "remove it, or use one of nodePort, protocol, health",
    ]],
    [["build", "payload", bad], 1, [
      `Cannot use the payload "${bad}"`,
      "payload.yaml:11:3: service.nodeport: there is no such field (and 1 more to correct)",
      "remove it, or use one of nodePort, protocol, health",
    ]],
    [["build", "kernel", bad], 2, [
      `Cannot build "kernel" of "${bad}"`,
      "only the target payload takes a second word",
      `run \`gateway build kernel\`, or \`gateway build payload ${bad}\``,
    ]],
  ];
  for (const [args, code, [what, why, fix]] of refusals) {
    await t.step(args.join(" ").replaceAll(dir, ""), async () => {
      const result = await sandbox.gateway([...args]);
      const told = `error: ${what}\n  why: ${why}\n  fix: ${fix}\n`;
      assertEquals([result.stderr.slice(-told.length), result.code], [told, code]);
    });
  }
  assertEquals(await sandbox.files(), []);
  assertEquals(await sandbox.processes(), []);
});

Deno.test("gateway build payload checks a folder without a boot", async () => {
  await using sandbox = await Sandbox.make();
  const dir = join(await tempDir(), "hello");
  await writeHello(dir);
  const { code, stdout } = await sandbox.gateway(["build", "payload", dir, "--json"]);
  assertEquals(code, 0);
  const [row, ...more] = JSON.parse(stdout);
  assertEquals([row.artifact, row.file, more], ["hello", "hello.yaml", []]);
  // Of what the cluster gets.
  const [manifest] = (await readPayload(dir)).manifests;
  assertEquals(row.sizeBytes, new TextEncoder().encode(manifest!.text).length);
});
