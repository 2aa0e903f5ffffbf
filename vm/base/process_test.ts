import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { GatewayError } from "./error.ts";
import { run, spawnChild, which } from "./process.ts";
import { identifyProcess, isAlive } from "./process_table.ts";

Deno.test("run() returns output and code, and feeds stdin", async () => {
  const result = await run("sh", {
    args: ["-c", "cat; echo err >&2; exit 3"],
    stdin: "in",
    check: false,
  });
  assertEquals([result.code, result.stdout, result.stderr], [3, "in", "err\n"]);
});

Deno.test("run() throws with the end of stderr when the program fails", async () => {
  const error = await assertRejects(
    () => run("sh", { args: ["-c", "echo why >&2; exit 4"], what: "Cannot try" }),
    GatewayError,
  );
  assertEquals([error.code, error.what, error.why], [
    "process-failed",
    "Cannot try",
    "it ended with code 4: why",
  ]);
});

Deno.test("run() names a program that is not there", async () => {
  const error = await assertRejects(() => run("no-such-program-here", { args: [] }), GatewayError);
  assertEquals(error.code, "tool-missing");
});

Deno.test("run() ends a program that prints more than is kept, on either stream", async () => {
  for (const to of ["1", "2"]) {
    const error = await assertRejects(
      () => run("sh", { args: ["-c", `exec cat /dev/zero >&${to}`], maxOutputBytes: 1000 }),
      GatewayError,
    );
    assertEquals([error.code, error.why], ["process-failed", "it printed more than 1000 bytes"]);
  }
  const { stdout } = await run("sh", { args: ["-c", "printf 1234"], maxOutputBytes: 4 });
  assertEquals(stdout, "1234");
});

Deno.test("run() bounds the output of a program of which its caller expects nothing", async () => {
  const error = await assertRejects(
    () => run("cat", { args: ["/dev/zero"], check: false }),
    GatewayError,
  );
  assertEquals(error.why, "it printed more than 16777216 bytes");
});

Deno.test("run() ends the whole process group when the time is over", async () => {
  const file = await Deno.makeTempFile();
  const error = await assertRejects(
    () => run("sh", { args: ["-c", `sleep infinity & echo $! >${file}; wait`], timeoutMs: 150 }),
    GatewayError,
  );
  assertEquals(error.code, "timeout");
  const pid = Number(await Deno.readTextFile(file));
  assertEquals(identifyProcess(pid), undefined);
  await Deno.remove(file);
});

Deno.test("run() rejects with the signal's reason when it is aborted", async () => {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 50);
  const error = await assertRejects(
    () => run("sleep", { args: ["60"], signal: controller.signal }),
    GatewayError,
  );
  assertEquals(error.code, "interrupted");
});

Deno.test("run() appends both streams to its log", async () => {
  const logPath = await Deno.makeTempFile();
  await run("sh", { args: ["-c", "echo a; echo b >&2"], logPath });
  assertEquals((await Deno.readTextFile(logPath)).split("\n").sort().join(""), "ab");
  await Deno.remove(logPath);
});

Deno.test("ChildProcess.stop() kills a program that ignores SIGTERM", async () => {
  const child = spawnChild("sh", {
    args: ["-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"],
    ownGroup: true,
    stdout: "piped",
  });
  const reader = child.stdout!.getReader();
  await reader.read();
  const id = identifyProcess(child.pid)!;
  assert(isAlive(id));
  const { signal } = await child.stop(100);
  assertEquals(signal, "SIGKILL");
  assert(!isAlive(id));
  await reader.cancel();
});

Deno.test("spawnChild() throws at once when there is no such program", () => {
  assertThrows(() => spawnChild("no-such-program-here", { args: [] }), GatewayError);
});

Deno.test("which() finds programs in sbin although PATH lacks it", () => {
  assertEquals(which("no-such-program-here"), undefined);
  assert(which("sh")?.endsWith("/sh"));
});
