import { assertEquals } from "@std/assert";
import { selfCommand, vmmCommand } from "./self.ts";

Deno.test("selfCommand() runs this project's cli.ts under its own configuration", async () => {
  const { program, args } = selfCommand(["up", "--name", "a b"]);
  assertEquals(program, Deno.execPath());
  assertEquals(args.slice(0, 4), ["run", "-A", "--quiet", "--config"]);
  assertEquals(args.slice(6), ["up", "--name", "a b"]);
  const paths = args.slice(4, 6);
  assertEquals(paths.map((path) => path.slice(path.lastIndexOf("/"))), [
    "/deno.json",
    "/cli.ts",
  ]);
  for (const path of paths) assertEquals((await Deno.stat(path)).isFile, true);
});

Deno.test("vmmCommand() runs the VMM's own entry, and V8 makes no code in it", async () => {
  const { program, args } = vmmCommand("/d/vm.json");
  assertEquals(program, Deno.execPath());
  assertEquals(args.includes("--v8-flags=--jitless"), true);
  const [entry = "", plan] = args.slice(-2);
  assertEquals([entry.slice(entry.lastIndexOf("/")), plan], ["/vmm_process.ts", "/d/vm.json"]);
  assertEquals((await Deno.stat(entry)).isFile, true);
});

Deno.test("vmmCommand() runs a bundle of it without looking for anything", () => {
  const { args } = vmmCommand("/d/vm.json", "/store/vmm_process.mjs");
  for (const flag of ["--no-config", "--no-lock", "--no-npm", "--v8-flags=--jitless"]) {
    assertEquals(args.includes(flag), true, flag);
  }
  assertEquals(args.slice(-2), ["/store/vmm_process.mjs", "/d/vm.json"]);
});
