import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { ControlPort, parseControlLine } from "./control_port.ts";
import { GatewayError } from "./error.ts";
import { silentSpan } from "./event.ts";
import { readLines, writeAll } from "./lines.ts";

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

/** A guest at the other end of a socket: what it gets goes to `answer`. */
async function withGuest(
  answer: (line: string) => string | undefined,
  first: string,
  test: (port: ControlPort, span: ReturnType<typeof silentSpan>) => Promise<void>,
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
  const port = await ControlPort.connect(path, { span, signal: new AbortController().signal });
  try {
    await test(port, span);
  } finally {
    port[Symbol.dispose]();
    await serving;
    listener.close();
    await Deno.remove(dir, { recursive: true });
  }
}

const quiet = new AbortController().signal;

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
