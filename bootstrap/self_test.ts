import { assertEquals } from "@std/assert";
import { selfCommand } from "./self.ts";

Deno.test("selfCommand() runs this project's cli.ts under its own configuration", async () => {
  const { program, args } = selfCommand(["up", "--name", "a b"]);
  assertEquals(program, Deno.execPath());
  assertEquals(args.slice(0, 4), ["run", "-A", "--quiet", "--config"]);
  assertEquals(args.slice(6), ["up", "--name", "a b"]);
  const [config, cli] = args.slice(4, 6);
  assertEquals([config, cli].map((path) => path.slice(path.lastIndexOf("/"))), [
    "/deno.json",
    "/cli.ts",
  ]);
  for (const path of [config, cli]) assertEquals((await Deno.stat(path)).isFile, true);
});
