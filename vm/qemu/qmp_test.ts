import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../base/error.ts";
import { readLines, writeAll } from "../base/lines.ts";
import { QmpClient } from "./qmp.ts";

Deno.test("QmpClient negotiates, runs commands, hears events and passes QEMU's errors on", async () => {
  const dir = await Deno.makeTempDir();
  const path = join(dir, "qmp");
  const listener = Deno.listen({ transport: "unix", path });
  const seen: string[] = [];
  const serving = (async () => {
    const conn = await listener.accept();
    const say = (value: unknown) =>
      writeAll(conn, new TextEncoder().encode(JSON.stringify(value) + "\r\n"));
    await say({ QMP: { version: {} } });
    for await (const line of readLines(conn.readable)) {
      const { execute, id } = JSON.parse(line);
      seen.push(execute);
      if (execute === "stop") await say({ event: "STOP" });
      if (execute === "silent") await say({ id });
      else if (execute === "bad") await say({ id, error: { desc: "no such thing" } });
      else await say({ id, return: {} });
    }
  })().catch(() => {});
  const client = await QmpClient.connect(path, new AbortController().signal);
  const events: string[] = [];
  client.onEvent((event) => events.push(event.event));
  await client.execute("stop");
  const error = await assertRejects(() => client.execute("bad"), GatewayError);
  assertEquals([error.code, error.why], ["vmm-failed", "no such thing"]);
  const silent = await assertRejects(() => client.execute("silent"), GatewayError);
  assertEquals([silent.code, silent.why], ["vmm-failed", "no reason given"]);
  assertEquals([seen, events], [["qmp_capabilities", "stop", "bad", "silent"], ["STOP"]]);
  client[Symbol.dispose]();
  await serving;
  listener.close();
  await Deno.remove(dir, { recursive: true });
});
