// deno-lint-ignore-file no-console
/**
 * Stands for QEMU, its memory library and the guest in it, for tests that kill and stop what surrounds them: it answers on
 * the monitor, the control port and the library's socket as they do, keeps a note in its memory and on its disk, and looks
 * whether memory and disk belong together when it goes on.
 * Its first argument is the folder of the test. Where the file `hold` there names what it is about to do, it waits until
 * that file is gone.
 *
 * @module
 */
import { basename, dirname, join } from "@std/path";
import { readLines, writeAll } from "../../vm/base/lines.ts";
import { pause, waitFor } from "../../vm/base/wait.ts";
import { type DiskContent, GuestDisk } from "./guest_disk.ts";

const top = Deno.args[0]!;
const argv = Deno.args.slice(1);
if (argv.includes("--version")) {
  console.log("QEMU emulator version 9.9.9");
  Deno.exit(0);
}

/** The value of the option that begins so. */
function option(start: RegExp): string | undefined {
  const found = argv.find((word) => start.test(word));
  return found === undefined ? undefined : start.exec(found)![1]!.replaceAll(",,", ",");
}

const qmpPath = option(/^socket,id=qmp,path=(.*),server=on,wait=off$/);
// A probe of an accelerator: this host has none that the stand-in could use.
if (qmpPath === undefined) Deno.exit(1);
const controlPath = option(/^socket,id=port0,path=(.*),server=on,wait=off$/)!;
const memoryMiB = parseInt(argv[argv.indexOf("-m") + 1]!);
const [, format, escapedPath] = argv.map((word) =>
  /^driver=(\w+),node-name=state,.*file\.filename=(.*)$/.exec(word)
).find((found) => found !== null)!;
const diskPath = escapedPath!.replaceAll(",,", ",");
const incoming = argv.includes("-incoming");

async function hold(what: string): Promise<void> {
  const wanted = () => Deno.readTextFile(join(top, "hold")).catch(() => "");
  if (await wanted() !== what) return;
  await Deno.writeTextFile(join(top, "held"), what);
  await waitFor({
    what: "the end of a hold",
    probe: async () => (await wanted()) !== what || undefined,
    timeoutMs: 60_000,
    intervalMs: 5,
  });
}

let disk = await GuestDisk.open(diskPath, format!);
let node = "state";
let running = false;
let loaded: Uint8Array | undefined;
let memory: DiskContent = { note: 0, count: 0 };
const added = new Map<string, string>();
const controls = new Set<Deno.UnixConn>();
let flooding = false;

const send = (conn: Deno.UnixConn, text: string) =>
  writeAll(conn, new TextEncoder().encode(`${text}\n`)).catch(() => {});
const tell = (text: string) => Promise.all([...controls].map((conn) => send(conn, text)));

/** One write after the other. */
let turn: Promise<unknown> = Promise.resolve();
function inTurn<T>(work: () => Promise<T>): Promise<T> {
  const next = turn.then(work);
  turn = next.catch(() => {});
  return next;
}

const writeNote = (note: number) =>
  inTurn(async () => {
    memory = { note, count: (memory.count + 1) % 256 };
    await disk.write(memory);
  });

async function goOn(): Promise<void> {
  memory = JSON.parse(new TextDecoder().decode(loaded));
  const found = await disk.read();
  if (JSON.stringify(found) !== JSON.stringify(memory)) {
    const words = `memory ${JSON.stringify(memory)} meets disk ${JSON.stringify(found)}`;
    await Deno.writeTextFile(join(top, "torn"), `${diskPath}: ${words}\n`, { append: true });
  }
  // As any guest does sooner or later.
  await writeNote(memory.note);
}

function serve(path: string, each: (conn: Deno.UnixConn) => Promise<void>): void {
  const listener = Deno.listen({ transport: "unix", path });
  void (async () => {
    for await (const conn of listener) void each(conn).catch(() => {});
  })();
}

/** What the commands are given; each has some of these. */
interface Arguments {
  readonly "node-name": string;
  readonly overlay: string;
  readonly uri: string;
  readonly file: { readonly filename: string };
}

const QMP: Record<string, (args: Arguments) => Promise<unknown> | unknown> = {
  "query-status": () => ({
    status: incoming && loaded === undefined ? "inmigrate" : running ? "running" : "paused",
  }),
  "query-block": () => [{ inserted: { "node-name": node } }],
  "query-migrate": () => ({ status: "completed" }),
  stop: () => {
    running = false;
  },
  cont: async () => {
    if (incoming && !running && loaded!.length > 0) await goOn();
    loaded = new Uint8Array();
    running = true;
  },
  "blockdev-add": (args) => void added.set(args["node-name"], args.file.filename),
  "blockdev-del": (args) => void added.delete(args["node-name"]),
  "blockdev-snapshot": ({ overlay }) =>
    inTurn(async () => {
      const offered = added.get(overlay)!;
      // QEMU keeps the file open; qemu-io opens it again by the name that lasts, where its backing file is beside it.
      const next = await GuestDisk.open(join(dirname(diskPath), basename(offered)), "qcow2");
      disk[Symbol.dispose]();
      disk = next;
      node = overlay;
    }),
  migrate: async ({ uri }) => {
    using conn = await Deno.connect({ transport: "unix", path: uri.slice("unix:".length) });
    await writeAll(conn, new TextEncoder().encode(JSON.stringify(memory)));
  },
  "migrate-incoming": ({ uri }) =>
    serve(uri.slice("unix:".length), async (conn) => {
      loaded = new Uint8Array(await new Response(conn.readable).arrayBuffer());
    }),
};

serve(qmpPath, async (conn) => {
  await send(conn, JSON.stringify({ QMP: {} }));
  for await (const line of readLines(conn.readable)) {
    const { execute, arguments: args, id } = JSON.parse(line);
    await hold(execute);
    const value = await QMP[execute]?.(args) ?? {};
    await send(conn, JSON.stringify({ return: value, id }));
    if (execute === "quit") Deno.exit(0);
  }
});

serve(controlPath, async (conn) => {
  controls.add(conn);
  if (!incoming) {
    for (const mark of ["init", "state", "network", "cluster-start"]) await tell(`1.0 ${mark}`);
  }
  // A host that is killed before it has read all ends the connection with an error.
  await answerHost(conn).catch(() => {});
  // Its host is gone: the guest powers off.
  await turn;
  Deno.exit(0);
});

async function answerHost(conn: Deno.UnixConn): Promise<void> {
  for await (const line of readLines(conn.readable)) {
    if (flooding) continue;
    const [id, verb] = line.split(" ");
    await hold(verb!);
    await tell(`= ${id} ok${verb === "freeze" ? " still=true uptime=2.0" : ""}`);
    if (verb !== "poweroff") continue;
    await turn;
    await tell("2.0 stopped state=clean");
    Deno.exit(0);
  }
}

const layer = new Uint8Array(4096);
layer.set(new TextEncoder().encode("GWRAMLR1"));
new DataView(layer.buffer).setUint32(8, 4096, true);
new DataView(layer.buffer).setBigUint64(16, BigInt(memoryMiB) << 20n, true);

serve(Deno.env.get("GATEWAY_RAM_SOCKET")!, async (conn) => {
  let adopts = false;
  for await (const line of readLines(conn.readable)) {
    const [how, path] = line.split(" ");
    if (how === "confinement") {
      await send(conn, "unconfined 38");
      continue;
    }
    if (how === "trim" || how === "adopt") {
      await send(conn, "done 0");
      continue;
    }
    adopts = how!.endsWith("+adopt");
    await send(conn, "forked");
    await Deno.writeFile(path!, layer.subarray(0, 100));
    await hold("memory");
    await Deno.writeFile(path!, layer);
    await send(conn, adopts ? "written" : "done 0");
  }
});

const LONG = "x".repeat(100_000);

/** What root in the guest can do: the agent is gone, and port and console are written to without an end. */
function flood(): void {
  flooding = true;
  for (const conn of controls) {
    void floodWith((at) => `1.0 mark-${at} a=b\n${at}\n${at % 100 === 0 ? LONG : ""}`, conn);
  }
  const consolePath = option(/^file,id=console,path=(.*),append=on$/)!;
  const log = Deno.openSync(consolePath, { append: true });
  // Some 10 MiB a second, many times what a serial port takes.
  const output = { write: (data: Uint8Array) => pause(50).then(() => log.write(data)) };
  void floodWith((at) => `[${at}] a guest that never stops\n`.repeat(15), output);
}

async function floodWith(
  text: (at: number) => string,
  to: { write(data: Uint8Array): Promise<number> },
): Promise<void> {
  for (let at = 0;; at += 1000) {
    const texts = Array.from({ length: 1000 }, (_, i) => text(at + i));
    await writeAll(to, new TextEncoder().encode(texts.join("")));
  }
}

// The test's own way into the guest: "flood" begins a flood, a line with a number writes a note, any line asks for it.
serve(join(dirname(qmpPath), "guest"), async (conn) => {
  for await (const line of readLines(conn.readable)) {
    if (line === "flood") flood();
    else if (line !== "") await writeNote(Number(line));
    const { note } = await inTurn(() => disk.read());
    await send(conn, JSON.stringify({ memory: memory.note, disk: note }));
  }
});

if (!incoming) {
  memory = await disk.read();
  await writeNote(memory.note);
  running = true;
}
