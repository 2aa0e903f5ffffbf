import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { tempDir } from "../../tests/fakes/temp_dir.ts";
import { silentSpan } from "../base/event.ts";
import { readLines, writeAll } from "../base/lines.ts";
import { pause } from "../base/wait.ts";
import type { VmSpec } from "../machine/spec.ts";
import type { VmmChild } from "../machine/vmm_child.ts";
import { QemuVm } from "./driver.ts";

/** A monitor whose guest runs and finds the host's disk full each time its state was requested. Ends with its client. */
async function monitor(listener: Deno.UnixListener, onRequest: () => void): Promise<void> {
  const conn = await listener.accept();
  const say = (message: object) =>
    writeAll(conn, new TextEncoder().encode(JSON.stringify(message) + "\n"));
  const full = { event: "BLOCK_IO_ERROR", data: { nospace: true } };
  await say({ QMP: {} });
  for await (const line of readLines(conn.readable)) {
    const { execute, id } = JSON.parse(line);
    await say({ id, return: execute === "query-status" ? { status: "running" } : {} });
    if (execute === "query-status") onRequest();
    // Some come while the host still waits for space, and are one with the one before.
    for (let at = 0; at < 5; at++) {
      await pause(1);
      await say(full);
    }
  }
}

Deno.test("QemuVm bounds the records of a guest that finds the host's disk full again and again", async () => {
  const dir = await tempDir();
  const listener = Deno.listen({ transport: "unix", path: join(dir, "qmp") });
  const { promise: enough, resolve: reached } = Promise.withResolvers<void>();
  let requests = 0;
  const serving = monitor(listener, () => ++requests === 120 && reached()).catch(() => {});
  const { promise: exited, resolve: exit } = Promise.withResolvers<
    { code: number; signal: null }
  >();
  const child = { pid: 1, exited } as unknown as VmmChild;
  const span = silentSpan();
  const command = { program: "qemu", args: [], env: {} };
  const vm = new QemuVm(child, { runtimeDir: dir } as VmSpec, command, span, undefined, 0);
  await vm.connect(new AbortController().signal);
  await enough;
  const records = span.events.filter(({ kind }) => kind !== "start");
  exit({ code: 0, signal: null });
  vm.qmp[Symbol.dispose]();
  await serving;
  listener.close();
  assertEquals([records.length, records.at(-1)!.message], [
    101,
    "too many pauses for space in this run: the rest is not recorded",
  ]);
});
