import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { tempDir } from "../tests/fakes/temp_dir.ts";
import { silentSpan } from "./event.ts";
import { readLines, writeAll } from "./lines.ts";
import { QemuVm } from "./qemu.ts";
import type { VmSpec } from "./spec.ts";
import type { VmmChild } from "./vmm_child.ts";

/** A monitor whose guest runs and finds the host's disk full all the time. Ends when its state was requested so often. */
async function monitorOf(listener: Deno.UnixListener, times: number): Promise<void> {
  using conn = await listener.accept();
  const say = (message: object) =>
    writeAll(conn, new TextEncoder().encode(JSON.stringify(message) + "\n"));
  const full = { event: "BLOCK_IO_ERROR", data: { nospace: true } };
  await say({ QMP: {} });
  let left = times;
  const flood = setInterval(() => void say(full).catch(() => {}), 1);
  for await (const line of readLines(conn.readable)) {
    const { execute, id } = JSON.parse(line);
    await say({ id, return: execute === "query-status" ? { status: "running" } : {} });
    if (execute === "query-status" && --left === 0) break;
  }
  clearInterval(flood);
}

Deno.test("QemuVm bounds the records of a guest that finds the host's disk full again and again", async () => {
  const dir = await tempDir();
  const listener = Deno.listen({ transport: "unix", path: join(dir, "qmp") });
  const serving = monitorOf(listener, 150);
  const { promise: exited, resolve: exit } = Promise.withResolvers<
    { code: number; signal: null }
  >();
  const child = { pid: 1, exited } as unknown as VmmChild;
  const span = silentSpan();
  const vm = new QemuVm(child, { runtimeDir: dir } as VmSpec, span, undefined, 1);
  await vm.connect(new AbortController().signal);
  await serving;
  exit({ code: 0, signal: null });
  listener.close();
  vm.qmp[Symbol.dispose]();
  const records = span.events.filter(({ kind }) => kind !== "start");
  assertEquals([records.length, records.at(-1)!.message], [
    101,
    "too many pauses for space in this run: the rest is not recorded",
  ]);
});
