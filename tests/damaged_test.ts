/**
 * Instances whose records cannot be read, and clones whose fork was killed, by the real command line: they are listed, and
 * nothing of them goes before the user says so.
 *
 * @module
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { exists } from "../vm/base/layout.ts";
import { startInstance } from "./fakes/instance.ts";
import { instanceConfig } from "./fakes/instance_config.ts";
import { Sandbox } from "./sandbox.ts";

const KILLED_FORK = fromFileUrl(new URL("fakes/killed_fork.ts", import.meta.url));

/** Stands for a file whose reading ends with an error: it is a folder. */
const UNREADABLE = Symbol("unreadable");

type Files = Readonly<Record<string, string | null | typeof UNREADABLE>>;

/** An instance that is stopped, written by hand; what the test says is put in its place. */
async function makeInstance(sandbox: Sandbox, files: Files) {
  const { dir } = sandbox.paths("dev");
  await Deno.mkdir(join(dir, "snapshots"), { recursive: true });
  const all: Files = {
    "instance.json": JSON.stringify(instanceConfig({ name: "dev" })),
    "state.img": "disk",
    "disk-1.qcow2": "overlay",
    "ram-1.layer": "memory",
    "dev-1.bin": "devices",
    ...files,
  };
  for (const [name, text] of Object.entries(all)) {
    if (text === UNREADABLE) await Deno.mkdir(join(dir, name));
    else if (text !== null) await Deno.writeTextFile(join(dir, name), text);
  }
}

for (
  const [file, text] of [
    ["instance.json", ""],
    ["instance.json", '{"schemaVersion":2}'],
    ["instance.json", null],
    ["instance.json", UNREADABLE],
    ["disk.json", ""],
    ["disk.json", UNREADABLE],
    ["suspend.json", '{"schemaVersion":3}'],
  ] as const
) {
  const what = text === UNREADABLE ? "a read error" : JSON.stringify(text);
  Deno.test(`an instance with ${what} for ${file} is listed as damaged`, async () => {
    await using sandbox = await Sandbox.make();
    await makeInstance(sandbox, { [file]: text });
    const before = await sandbox.files();
    const { dir } = sandbox.paths("dev");
    const { stdout } = await sandbox.gateway(["list", "--json"]);
    const [report] = JSON.parse(stdout);
    assertEquals([report.name, report.state, report.file], ["dev", "damaged", join(dir, file)]);
    const people = await sandbox.gateway(["list"]);
    assertStringIncludes(people.stdout, "gateway rm --force dev");
    assertEquals(await sandbox.files(), before);
    if (file === "instance.json") {
      const refused = await sandbox.gateway(["rm", "dev"]);
      assertEquals(refused.code, 1);
      assertStringIncludes(refused.stderr, join(dir, file));
      const up = await sandbox.gateway(["up", "--name", "dev", "--payload", "demo"]);
      assertStringIncludes(up.stderr, join(dir, file));
      assertEquals(await exists(join(dir, "state.img")), true);
    }
    const { code } = await sandbox.gateway(["rm", "--force", "dev"]);
    assertEquals([code, await exists(dir)], [0, false]);
  });
}

Deno.test("gateway rm --force ends a running instance whose record cannot be read", async () => {
  await using sandbox = await Sandbox.make();
  await using fake = await startInstance(sandbox, "dev", "clean");
  await Deno.writeTextFile(sandbox.paths("dev").instanceFile, "");
  const { code, stderr } = await sandbox.gateway(["rm", "--force", "dev"]);
  assertEquals([code, await exists(sandbox.paths("dev").dir)], [0, false], stderr);
  await fake.supervisor.exited;
  assertEquals(await sandbox.processes(), []);
});

Deno.test("what a killed fork leaves is listed, removed by rm, and not started by up", async () => {
  await using sandbox = await Sandbox.make();
  const { dir, stateDisk } = sandbox.paths("b");
  const source = join(sandbox.top, "source");
  await Deno.mkdir(source);
  const killFork = async () => {
    await using killed = sandbox.start([source], KILLED_FORK);
    await Promise.all([killed.stdout!.cancel(), killed.stderr!.cancel()]);
    assertEquals((await killed.exited).signal, "SIGKILL");
    assertEquals(await exists(stateDisk), true);
  };
  await killFork();
  const [report] = JSON.parse((await sandbox.gateway(["list", "--json"])).stdout);
  assertEquals([report.name, report.state, report.unfinished], ["b", "damaged", true]);
  const { code } = await sandbox.gateway(["rm", "b"]);
  assertEquals([code, await exists(dir)], [0, false]);
  await killFork();
  // It ends before it boots: there is no such program.
  await sandbox.gateway([
    "up",
    "--name",
    "b",
    "--payload",
    "demo",
    "--libkrun",
    "/no",
    "--vmm",
    "libkrun",
  ]);
  assertEquals(await exists(dir), false);
  assertEquals(await Deno.readTextFile(join(source, "state.img")), "the source's");
});
