/**
 * The library on real VMs: the example of mod.ts as it stands, and what it leaves out. Each runs as a program of its own,
 * since the environment says where instances are.
 *
 * @module
 */
import { assertEquals, assertMatch } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { run } from "../../vm/base/process.ts";
import { freePort, TestHome, withEvidence } from "./harness.ts";

const MOD = new URL("../../mod.ts", import.meta.url);
const CONFIG = fromFileUrl(new URL("../../deno.json", import.meta.url));
const TIMEOUT_MS = 40 * 60_000;

const home = await TestHome.make();

/** Runs a program that imports the library, and gives what it prints. */
async function program(text: string): Promise<string> {
  const path = join(home.home, "example.ts");
  await Deno.mkdir(join(home.home, "run"), { recursive: true });
  await Deno.writeTextFile(path, text.replace('"@gateway/gateway"', JSON.stringify(MOD.href)));
  const { code, stdout, stderr } = await run(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--check", "--config", CONFIG, path],
    env: home.env,
    check: false,
    timeoutMs: TIMEOUT_MS,
  });
  assertEquals(code, 0, stderr + stdout);
  return stdout;
}

/** The first example of mod.ts. */
async function example(): Promise<string> {
  const [, text] = /```ts\n([^]*?)```/.exec(await Deno.readTextFile(MOD))!;
  return text!.replaceAll(/^ \* ?/gm, "");
}

Deno.test("the library", async (t) => {
  const step = (name: string, fn: () => Promise<void>) =>
    t.step(name, () => withEvidence(home, "dev", fn));

  await step("the example of mod.ts does what it says, and stops what it started", async () => {
    // Port 30051 may be somebody's.
    const text = (await example()).replace(
      'name: "dev",',
      `name: "dev", ports: ["${freePort()}:30051"],`,
    );
    assertMatch(
      await program(text),
      /^endpoint https:\/\/127\.0\.0\.1:\d+\nkernel 0 true\nclone running\n$/,
    );
    const list = JSON.parse((await home.ok(["list", "--json"])).stdout);
    assertEquals(list.map((one: { name: string; state: string }) => [one.name, one.state]), [
      ["clone", "stopped"],
      ["dev", "stopped"],
    ]);
    await home.ok(["rm", "--force", "clone"]);
  });

  await step("Instance offers what the command line does", async () => {
    const port = freePort();
    const stdout = await program(`
import { execInFreshVm, GatewayError, list, open, up } from "@gateway/gateway";

const reader = async (stream: ReadableStream<Uint8Array>) => await new Response(stream).text();
const refused = await up({ name: "Not A Name" }).catch((error) => error);
console.log("refused", refused instanceof GatewayError && refused.code);
await using vm = await up({ name: "dev" });
const again = await up({ name: "dev" }).catch((error) => error);
console.log("again", again.code);
const cat = await vm.exec(["sh", "-c", "cat; echo oops >&2; exit 3"]);
const writer = cat.stdin.getWriter();
await writer.write(new TextEncoder().encode("through the guest"));
await writer.close();
const [out, err] = await Promise.all([reader(cat.stdout), reader(cat.stderr)]);
console.log("exec", out, err.trim(), await cat.code);
await Deno.writeTextFile("${home.home}/note", "hello");
await vm.cp("${home.home}/note", "guest:/root/note");
await vm.cp("guest:/root/note", "${home.home}/back");
console.log("cp", await Deno.readTextFile("${home.home}/back"));
await vm.ports.add("${port}:22");
console.log("ports", (await vm.ports.list()).some(({ host }) => host === "127.0.0.1:${port}"));
await vm.ports.remove("${port}:22");
console.log("removed", (await vm.ports.list()).some(({ host }) => host === "127.0.0.1:${port}"));
let ready = 0;
const stop = new AbortController();
for await (const record of vm.events({ signal: stop.signal })) {
  if (record.message === "READY") {
    ready++;
    stop.abort();
  }
}
console.log("events", ready);
console.log("snapshots", (await vm.snapshot.list()).map(({ name }) => name).join());
await vm.snapshot.remove("clean");
await vm.suspend();
console.log("suspended", (await vm.status()).state);
await up({ name: "dev" });
const { stdout } = await (await open("dev")).output(["cat", "/root/note"]);
console.log("resumed", stdout);
console.log("list", (await list()).map(({ name }) => name).join());
console.log("down", await vm.down());
const streams = { stdin: Deno.stdin.readable, stdout: Deno.stdout, stderr: Deno.stderr };
const words = ["sh", "-c", "echo in a fresh VM; exit 4"] as const;
console.log("fresh", await execInFreshVm(words, streams, { memoryMiB: 256 }));
`);
    assertEquals(stdout.split("\n"), [
      "refused usage",
      "again instance-running",
      "exec through the guest oops 3",
      "cp hello",
      "ports true",
      "removed false",
      "events 1",
      "snapshots clean",
      "suspended suspended",
      "resumed hello",
      "list dev",
      "down stopped",
      "in a fresh VM",
      "fresh 4",
      "",
    ]);
  });

  await step("nothing is left running", () => home.assertClean());
  await home[Symbol.asyncDispose]();
});
