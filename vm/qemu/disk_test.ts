import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { interruptedError } from "../base/error.ts";
import { readLines, writeAll } from "../base/lines.ts";
import { OutgoingFolders } from "./outgoing.ts";
import { QmpClient } from "./qmp.ts";
import { QemuSaver, ramSocket } from "./save.ts";

/** What the test's QEMU does with a command; undefined: it answers with nothing in it. */
type Answers = (
  command: string,
  args: Record<string, string>,
) => Promise<"end" | { error: string } | undefined>;

/** A QEMU on sockets in a folder, which knows the file that its guest writes to and whether that runs. */
class StandIn implements AsyncDisposable {
  node = "state";
  running = true;
  readonly commands: string[] = [];
  readonly overlay: string[] = [];
  readonly #stack = new AsyncDisposableStack();

  private constructor(readonly dir: string, private readonly answers: Answers) {}

  static async start(answers: Answers): Promise<StandIn> {
    const one = new StandIn(await Deno.makeTempDir(), answers);
    one.#stack.defer(() => Deno.remove(one.dir, { recursive: true }));
    one.#serve(join(one.dir, "qmp"), (conn) => one.#monitor(conn));
    one.#serve(ramSocket({ runtimeDir: one.dir }), async (conn) => {
      for await (const _line of readLines(conn.readable)) await say(conn, "forked");
    });
    return one;
  }

  /** Saves with an overlay; what became of the overlay is in `overlay`. */
  async save(signal: AbortSignal, saver?: QemuSaver): Promise<QemuSaver> {
    const used = saver ?? await this.saver();
    const note = (word: string) => () => Promise.resolve(void this.overlay.push(word));
    const path = join(this.dir, `disk-${this.overlay.length}.qcow2`);
    await Deno.writeTextFile(path, "overlay");
    await assertRejects(() =>
      used.save({
        devicesPath: join(this.dir, "devices"),
        ramPath: join(this.dir, "ram"),
        mode: "new",
        then: "continue",
        complete: () => Promise.resolve(),
        overlay: {
          path,
          commit: note("commit"),
          revert: note("revert"),
        },
      }, signal)
    );
    return used;
  }

  async saver(): Promise<QemuSaver> {
    const qmp = await QmpClient.connect(join(this.dir, "qmp"), new AbortController().signal);
    this.#stack.use(qmp);
    const spec = { runtimeDir: this.dir } as ConstructorParameters<typeof QemuSaver>[1];
    return new QemuSaver(qmp, spec, this.#stack.use(await OutgoingFolders.make(this.dir)));
  }

  #serve(path: string, handle: (conn: Deno.UnixConn) => Promise<void>): void {
    const listener = Deno.listen({ transport: "unix", path });
    const serving = (async () => {
      for await (const conn of listener) await handle(conn).catch(() => {});
    })().catch(() => {});
    this.#stack.defer(() => serving);
    this.#stack.defer(() => listener.close());
  }

  async #monitor(conn: Deno.UnixConn): Promise<void> {
    await say(conn, JSON.stringify({ QMP: {} }));
    for await (const line of readLines(conn.readable)) {
      const { execute, arguments: args, id } = JSON.parse(line);
      this.commands.push(execute);
      const answer = await this.answers(execute, args);
      if (answer === "end") break;
      if (answer) {
        await say(conn, JSON.stringify({ id, error: { desc: answer.error } }));
        continue;
      }
      if (execute === "blockdev-snapshot") this.node = args.overlay;
      if (execute === "stop" || execute === "cont") this.running = execute === "cont";
      const devices = [{ inserted: { "node-name": "root" } }, {
        inserted: { "node-name": this.node },
      }];
      await say(conn, JSON.stringify({ id, return: execute === "query-block" ? devices : {} }));
    }
    conn.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }
}

const say = (conn: Deno.UnixConn, line: string) =>
  writeAll(conn, new TextEncoder().encode(`${line}\n`));

Deno.test("QemuSaver keeps the overlay on record when the user interrupts while QEMU switches to it", async () => {
  const user = new AbortController();
  await using qemu = await StandIn.start((command) => {
    if (command === "blockdev-snapshot") user.abort(interruptedError());
    return Promise.resolve(undefined);
  });
  await qemu.save(user.signal);
  assertEquals([qemu.node, qemu.overlay, qemu.running], ["disk-0-qcow2", ["commit"], true]);
});

Deno.test("QemuSaver takes the overlay back when QEMU has refused it, and asks QEMU to close it", async () => {
  await using qemu = await StandIn.start((command) =>
    Promise.resolve(command === "blockdev-snapshot" ? { error: "no" } : undefined)
  );
  await qemu.save(new AbortController().signal);
  assertEquals([qemu.node, qemu.overlay, qemu.running], ["state", ["commit", "revert"], true]);
  assert(qemu.commands.includes("blockdev-del"));
});

Deno.test("QemuSaver keeps the overlay on record when QEMU ends without an answer", async () => {
  await using qemu = await StandIn.start((command) =>
    Promise.resolve(command === "blockdev-snapshot" ? "end" : undefined)
  );
  await qemu.save(new AbortController().signal);
  assertEquals(qemu.overlay, ["commit"]);
});

Deno.test("QemuSaver freezes the file that the guest writes to, also after a save that was interrupted", async () => {
  const asked: string[] = [];
  let user = new AbortController();
  await using qemu = await StandIn.start((command, args) => {
    if (command === "blockdev-snapshot") {
      asked.push(args.node!);
      user.abort(interruptedError());
    }
    return Promise.resolve(undefined);
  });
  const saver = await qemu.save(user.signal);
  user = new AbortController();
  await qemu.save(user.signal, saver);
  assertEquals(asked, ["state", "disk-0-qcow2"]);
});

Deno.test("QemuSaver continues a guest that stops after the user has interrupted", async () => {
  const user = new AbortController();
  await using qemu = await StandIn.start((command) => {
    if (command === "stop") user.abort(interruptedError());
    return Promise.resolve(undefined);
  });
  await qemu.save(user.signal);
  assertEquals([qemu.running, qemu.overlay], [true, []]);
});
