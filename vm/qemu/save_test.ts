import { assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { connectUnix, readLines, writeAll } from "../base/lines.ts";
import type { SavedParts, SaveTarget } from "../machine/vmm.ts";
import { OutgoingFolders } from "./outgoing.ts";
import { QmpClient } from "./qmp.ts";
import { QemuSaver } from "./save.ts";

const signal = new AbortController().signal;

/** Answers each line on a socket. */
function serve(path: string, first: string, answer: (line: string) => Promise<string>): Disposable {
  const listener = Deno.listen({ transport: "unix", path });
  void (async () => {
    for await (const conn of listener) {
      const say = (text: string) => writeAll(conn, new TextEncoder().encode(text));
      if (first !== "") await say(first);
      for await (const line of readLines(conn.readable)) await say(await answer(line));
    }
  })().catch(() => {});
  return { [Symbol.dispose]: () => listener.close() };
}

/** Saves with the monitor and the memory library of a stand-in for QEMU; gives the commands that it got. */
async function save(
  dir: string,
  complete: (parts: SavedParts) => Promise<void>,
  options: { readonly then: SaveTarget["then"]; readonly programs?: SaveTarget["programs"] } = {
    then: "end",
  },
  commands: string[] = [],
): Promise<string[]> {
  const ramPath = join(dir, "ram-1.layer");
  using _monitor = serve(join(dir, "qmp"), '{"QMP":{}}\n', async (line) => {
    const { execute, id, arguments: args } = JSON.parse(line);
    commands.push(execute);
    if (execute === "migrate") {
      using state = await connectUnix(args.uri.replace(/^unix:/, ""));
      await writeAll(state!, new TextEncoder().encode("devices"));
    }
    return JSON.stringify({
      id,
      return: execute === "query-migrate" ? { status: "completed" } : {},
    }) +
      "\n";
  });
  using _library = serve(join(dir, "ram.sock"), "", async (line) => {
    const staged = line.slice(line.indexOf(" ") + 1);
    assertNotEquals(staged, ramPath);
    await Deno.writeTextFile(staged, "memory");
    return "forked\ndone 0\n";
  });
  using qmp = await QmpClient.connect(join(dir, "qmp"), signal);
  await using outgoing = await OutgoingFolders.make(dir);
  const spec = { runtimeDir: dir } as ConstructorParameters<typeof QemuSaver>[1];
  const saver = new QemuSaver(qmp, spec, outgoing);
  const devicesPath = join(dir, "dev-1.bin");
  const target = { devicesPath, ramPath, mode: "new", complete, ...options } as const;
  try {
    await saver.save(target, signal);
  } finally {
    commands.splice(0, commands.findIndex((one) => one === "stop" || one === "freeze"));
  }
  return commands;
}

Deno.test("QemuSaver.save() lets a guest go on whose record could not be written", async () => {
  for (const full of [false, true]) {
    const dir = await Deno.makeTempDir({ prefix: "gw-" });
    const commands: string[] = [];
    const saved = save(dir, async ({ ramBytes }) => {
      assertEquals(ramBytes, "memory".length);
      assertEquals(await Deno.readTextFile(join(dir, "dev-1.bin")), "devices");
      if (full) throw new Error("the disk is full");
    }).then((all) => void commands.push(...all));
    if (full) await assertRejects(() => saved, Error, "the disk is full");
    else await saved;
    const left = [...Deno.readDirSync(dir)].map(({ name }) => name).filter((name) =>
      name.includes("-")
    );
    assertEquals(left.length, full ? 0 : 2);
    if (!full) assertEquals(commands.includes("cont"), false);
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("QemuSaver.save() freezes programs before the guest stops and releases them once it runs", async () => {
  for (const fault of ["none", "freeze", "record"]) {
    const dir = await Deno.makeTempDir({ prefix: "gw-" });
    const commands: string[] = [];
    const programs = {
      freeze: () => {
        commands.push("freeze");
        return fault === "freeze" ? Promise.reject(new Error("freeze")) : Promise.resolve();
      },
      release: () => Promise.resolve(void commands.push("release")),
    };
    const complete = () =>
      fault === "record" ? Promise.reject(new Error("record")) : Promise.resolve();
    const saved = save(dir, complete, { then: "continue", programs }, commands);
    if (fault === "none") await saved;
    else await assertRejects(() => saved, Error, fault);
    const at = (command: string) => commands.indexOf(command);
    const [frozen, stopped] = [at("freeze"), at("stop")];
    const [running, released] = [at("cont"), at("release")];
    assertEquals(frozen, 0);
    assertEquals(stopped > frozen && stopped < running, fault !== "freeze", commands.join(" "));
    assertEquals(running < released, true, commands.join(" "));
    await Deno.remove(dir, { recursive: true });
  }
});
