/**
 * What the commands print of themselves: --help of each, and of those that only hold others.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { inTurns, Sandbox } from "./sandbox.ts";

const COMMANDS = [
  ...["up", "down", "rm", "build", "exec", "shell", "cp", "kubectl", "status", "list", "logs"],
  ...["port", "port list", "port add", "port remove", "doctor"],
  ...["verify", "provenance", "keys", "keys make", "keys trust", "keys distrust"],
  ...["keys list", "keys sign", "completions", "man"],
];

Deno.test("every command's --help has an example, on stdout, with exit code 0", async () => {
  await using sandbox = await Sandbox.make();
  await inTurns(["", ...COMMANDS], async (command) => {
    const words = command.split(" ").filter((word) => word !== "");
    const { code, stdout, stderr } = await sandbox.gateway([...words, "--help"]);
    assertEquals([code, stderr], [0, ""], command);
    assertStringIncludes(stdout, "Usage: gateway", command);
    assert(/\nExample:\n {2}\S/.test(stdout), `${command} has no example`);
    const wide = stdout.split("\n").filter((line) => line.length > 80);
    assertEquals(wide, [], command);
  });
  assertEquals([await sandbox.files(), await sandbox.processes()], [[], []]);
});

Deno.test("the text of gateway --help is what the command tree says of itself", async () => {
  await using sandbox = await Sandbox.make();
  const text = await sandbox.gateway(["--help"]);
  // A second word takes the way through the parser.
  const tree = await sandbox.gateway(["--help", "--help"]);
  assertEquals([text.code, text.stdout], [tree.code, tree.stdout]);
});

Deno.test("gateway --help names every command", async () => {
  await using sandbox = await Sandbox.make();
  const { stdout } = await sandbox.gateway(["--help"]);
  const listed = [...stdout.matchAll(/^ {2}(\w+)/gm)].map((match) => match[1]);
  const missing = COMMANDS.filter((name) => !name.includes(" ") && !listed.includes(name));
  assertEquals(missing, []);
});

Deno.test("a command that only holds others prints its help when it is called alone", async () => {
  await using sandbox = await Sandbox.make();
  for (const group of ["snapshot", "port", "image", "keys"]) {
    const alone = await sandbox.gateway([group]);
    const help = await sandbox.gateway([group, "--help"]);
    assertEquals([alone.code, alone.stdout, alone.stderr], [0, help.stdout, ""]);
  }
});
