import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../base/error.ts";
import { silentSpan } from "../base/event.ts";
import { readLines, writeAll } from "../base/lines.ts";
import type { PaceClock } from "../base/pace.ts";
import { ControlPort, parseControlLine } from "./control_port.ts";

Deno.test("parseControlLine() reads marks with their attributes", () => {
  assertEquals(parseControlLine("1.42 network dns=none ip=192.168.127.2"), {
    kind: "mark",
    uptimeSeconds: 1.42,
    name: "network",
    attrs: { dns: "none", ip: "192.168.127.2" },
  });
});

Deno.test("parseControlLine() reads failures and replies", () => {
  assertEquals(parseControlLine("! state: it is foreign"), {
    kind: "failure",
    stage: "state",
    why: "it is foreign",
  });
  assertEquals(parseControlLine("= r1 error no: really"), {
    kind: "reply",
    id: "r1",
    ok: false,
    text: "no: really",
  });
});

for (const line of ["", "1.x init", "hello", "! nothing", "= r1 maybe", "1.5 Bad"]) {
  Deno.test(`parseControlLine() does not trust "${line}"`, () => {
    assertEquals(parseControlLine(line), { kind: "other", text: line });
  });
}

const quiet = new AbortController().signal;

/** A guest at the other end of a socket: what it gets goes to `answer`. */
async function withGuest(
  answer: (line: string) => string | undefined,
  first: string,
  test: (port: ControlPort, span: ReturnType<typeof silentSpan>) => Promise<void>,
  clock?: PaceClock,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  const path = join(dir, "control");
  const listener = Deno.listen({ transport: "unix", path });
  const serving = (async () => {
    const conn = await listener.accept();
    await writeAll(conn, new TextEncoder().encode(first));
    for await (const line of readLines(conn.readable)) {
      const reply = answer(line);
      if (reply !== undefined) await writeAll(conn, new TextEncoder().encode(reply));
    }
  })().catch(() => {});
  const span = silentSpan();
  const port = await ControlPort.connect(path, { span, signal: quiet, clock });
  try {
    await test(port, span);
  } finally {
    port[Symbol.dispose]();
    await serving;
    listener.close();
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("ControlPort.waitForMark() gives the guest's uptime, for a mark seen before and one that comes", () =>
  withGuest(() => "2.00 late\n", "0.50 early\n", async (port, span) => {
    assertEquals(await port.waitForMark("early", 1000, quiet), 0.5);
    const late = port.waitForMark("late", 1000, quiet);
    await port.request("x", 50).catch(() => {});
    assertEquals(await late, 2);
    assertEquals(span.events.filter((e) => e.kind === "mark").map((e) => e.name), [
      "early",
      "late",
    ]);
  }));

Deno.test("ControlPort.request() matches replies by id and turns an error reply into an error", () =>
  withGuest(
    (line) => {
      const [id, verb] = line.split(" ");
      return verb === "ping" ? `= ${id} ok pong\n` : `= ${id} error cannot\n`;
    },
    "",
    async (port) => {
      assertEquals(await port.request("ping", 1000), "pong");
      const error = await assertRejects(() => port.request("reseed 00", 1000), GatewayError);
      assertEquals([error.code, error.why], ["guest-failed", "cannot"]);
    },
  ));

Deno.test("ControlPort.failed resolves with the stage and the reason when the guest gives up", () =>
  withGuest(() => undefined, "! kernel-check: CONFIG_BRIDGE is missing\n", async (port) => {
    const error = await port.failed;
    assertEquals(error.what, 'Cannot boot the guest past its stage "kernel-check"');
    assertEquals(error.why, "CONFIG_BRIDGE is missing");
  }));

const repeated = (count: number, line: (at: number) => string) =>
  Array.from({ length: count }, (_, at) => line(at)).join("");

/** Waits for nothing. */
const hurrying: PaceClock = { nowMs: () => 0, wait: () => Promise.resolve() };

Deno.test("ControlPort bounds marks and records, and sees a mark that is awaited after a flood of them", () => {
  const flood = repeated(9000, (at) => `1.0 m${at}\n`) + "2.0 last\n";
  return withGuest(() => undefined, flood, async (port, span) => {
    assertEquals(await port.waitForMark("last", 60_000, quiet), 2);
    assertEquals(span.events.filter(({ kind }) => kind === "mark").length, 4096);
    assertEquals(span.events.filter(({ kind }) => kind === "warn").map(({ message }) => message), [
      "too many lines from the guest in this run: the rest is not recorded",
    ]);
    assertEquals([port.markSeen("m1023"), port.markSeen("m1024")], [1, undefined]);
  }, hurrying);
});

Deno.test("ControlPort bounds the length of lines of every kind", () => {
  const long = "x".repeat(20_000);
  const flood = `! stage: ${long}\n1.0 m key=${long}\n${long}\n2.0 last\n`;
  return withGuest(() => undefined, flood, async (port, span) => {
    await port.waitForMark("last", 60_000, quiet);
    assertEquals((await port.failed).why.length, 4000);
    const longest = Math.max(...span.events.map((event) => JSON.stringify(event).length));
    assertEquals(longest < 8192 + 200, true, `${longest} characters`);
  }, hurrying);
});

Deno.test("ControlPort bounds the characters of all records", () => {
  const flood = repeated(300, () => `! stage: ${"x".repeat(8000)}\n`) + "2.0 last\n";
  return withGuest(() => undefined, flood, async (port, span) => {
    await port.waitForMark("last", 60_000, quiet);
    const size = span.events.map((event) => JSON.stringify(event).length).reduce((a, b) => a + b);
    assertEquals(size > 900_000 && size < 1_200_000, true, `${size} characters`);
  }, hurrying);
});

Deno.test("ControlPort reads no faster than its rate, and ends while it waits for that", () => {
  const waits: number[] = [];
  const { promise: waiting, resolve: begun } = Promise.withResolvers<void>();
  // It never ends a wait by itself.
  const standing: PaceClock = {
    nowMs: () => 0,
    wait: (ms, signal) => {
      waits.push(ms);
      begun();
      return new Promise((_, reject) => signal!.addEventListener("abort", () => reject()));
    },
  };
  return withGuest(() => undefined, repeated(50_000, () => "1.0 flood\n"), async (port, span) => {
    await waiting;
    const read = span.events.filter(({ kind }) => kind === "mark").length * "1.0 flood\n".length;
    assertEquals(read <= 128 * 1024, true, `${read} bytes`);
    assertEquals(waits.length === 1 && waits[0]! > 100 && waits[0]! <= 512, true, `${waits} ms`);
    port[Symbol.dispose]();
    const error = await assertRejects(() => port.request("ping", 1000), GatewayError);
    assertEquals(error.code, "guest-unreachable");
  }, standing);
});
