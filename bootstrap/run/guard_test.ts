import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../../vm/base/error.ts";
import { silentSpan } from "../../vm/base/event.ts";
import type { ChildExit } from "../../vm/base/process.ts";
import { ControlPort } from "../../vm/machine/control_port.ts";
import { consoleTail, guardSignal } from "./guard.ts";

const never = new Promise<ChildExit>(() => {});
const ended = (code: number, signal: string | null = null) => Promise.resolve({ code, signal });
const paths = { consoleLogPath: "/nowhere/console.log", gvproxyLogPath: "/nowhere/gvproxy.log" };
const user = () => new AbortController().signal;

async function reasonOf(signal: AbortSignal): Promise<GatewayError> {
  if (!signal.aborted) {
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  }
  assert(signal.reason instanceof GatewayError);
  return signal.reason;
}

async function withConsole(text: string, body: (path: string) => Promise<void>): Promise<void> {
  const path = await Deno.makeTempFile();
  await Deno.writeTextFile(path, text);
  try {
    await body(path);
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("guardSignal() aborts with the console's last words when the VM ends", async () => {
  await withConsole("one\r\n\x1b[31mtwo\x1b[0m\n\nthree\nfour\n", async (consoleLogPath) => {
    const guarded = guardSignal(user(), { ...paths, vm: { exited: ended(1) }, consoleLogPath });
    const { code, what, why, fix } = await reasonOf(guarded);
    assertEquals([code, what, why, fix], [
      "vm-exited",
      "Cannot go on without the VM",
      "it ended (code 1); its console's last words: two | three | four",
      "run `gateway logs` to read its console, then `gateway up` again",
    ]);
  });
});

Deno.test("guardSignal() tells why a kernel panicked, whatever it said after that", async () => {
  const trace = Array.from({ length: 50 }, (_, at) => `[ 1.0] trace ${at}\n`).join("");
  const text = `[ 0.9] Kernel panic - not syncing: VFS: no root\n${trace}`;
  await withConsole(text, async (consoleLogPath) => {
    const guarded = guardSignal(user(), { ...paths, vm: { exited: ended(0) }, consoleLogPath });
    assertEquals(
      (await reasonOf(guarded)).why,
      "it ended (code 0); its console's last words: [ 0.9] Kernel panic - not syncing: VFS: no root",
    );
  });
});

Deno.test("guardSignal() takes what init wrote when its words did not come in time", async () => {
  const text =
    "gateway: 2.1 jobs\ngateway-init: kernel-check: no CONFIG_BRIDGE\n[ 2.8] EXT4-fs: mounted\n[ 2.8] a\n[ 2.9] b\n";
  await withConsole(text, async (consoleLogPath) => {
    const off = guardSignal(user(), { ...paths, vm: { exited: ended(0) }, consoleLogPath });
    const { code, what, why } = await reasonOf(off);
    assertEquals([code, what, why], [
      "guest-failed",
      'Cannot boot the guest past its stage "kernel-check"',
      "no CONFIG_BRIDGE",
    ]);
    // A VMM that was killed did not end because of that.
    const exited = ended(137, "SIGKILL");
    const killed = await reasonOf(
      guardSignal(user(), { ...paths, vm: { exited }, consoleLogPath }),
    );
    assertEquals(killed.code, "vm-exited");
  });
});

Deno.test("guardSignal() names the signal that killed the VM, and needs no console", async () => {
  const guarded = guardSignal(user(), { ...paths, vm: { exited: ended(137, "SIGKILL") } });
  assertEquals((await reasonOf(guarded)).why, "it ended (SIGKILL)");
});

Deno.test("guardSignal() aborts when gvproxy ends", async () => {
  const guarded = guardSignal(user(), {
    ...paths,
    vm: { exited: never },
    gvproxy: { exited: ended(2) },
  });
  const { code, what, why, fix } = await reasonOf(guarded);
  assertEquals([code, what, why, fix], [
    "network-failed",
    "Cannot keep the VM's network",
    "gvproxy ended (code 2)",
    "read /nowhere/gvproxy.log, then run `gateway up` again",
  ]);
});

Deno.test("guardSignal() aborts with the user's own reason", async () => {
  const controller = new AbortController();
  const guarded = guardSignal(controller.signal, { ...paths, vm: { exited: never } });
  assert(!guarded.aborted);
  const reason = new GatewayError({ code: "interrupted", what: "Cannot", why: "w", fix: "f" });
  controller.abort(reason);
  assertEquals(await reasonOf(guarded), reason);
});

Deno.test("guardSignal() prefers the guest's own words to the end of its VM", async () => {
  const dir = await Deno.makeTempDir();
  const path = join(dir, "control");
  const listener = Deno.listen({ transport: "unix", path });
  const accepted = listener.accept();
  const control = await ControlPort.connect(path, {
    span: silentSpan(),
    signal: new AbortController().signal,
  });
  const guest = await accepted;
  let end!: (exit: ChildExit) => void;
  const exited = new Promise<ChildExit>((resolve) => end = resolve);
  const guarded = guardSignal(user(), { ...paths, vm: { exited }, control });
  end({ code: 0, signal: null });
  await guest.write(new TextEncoder().encode("! kernel-check: no CONFIG_BRIDGE\n"));
  const { code, why } = await reasonOf(guarded);
  assertEquals([code, why], ["guest-failed", "no CONFIG_BRIDGE"]);
  control[Symbol.dispose]();
  guest.close();
  listener.close();
  await Deno.remove(dir, { recursive: true });
});

Deno.test("consoleTail() gives the last lines that hold text", async () => {
  await withConsole("a\n\n  b  \r\n\x1b[2Jc", async (path) => {
    assertEquals(await consoleTail(path, 2), ["b", "c"]);
    assertEquals(await consoleTail(path, 9), ["a", "b", "c"]);
  });
  assertEquals(await consoleTail("/nowhere", 3), []);
});

Deno.test("consoleTail() reads the end of a console that is larger than any string", () =>
  withConsole("", async (path) => {
    await Deno.truncate(path, 4 * 1024 ** 3);
    await Deno.writeTextFile(path, "\nthe end\n", { append: true });
    assertEquals(await consoleTail(path, 1), ["the end"]);
  }));

Deno.test("consoleTail() lets no escape sequence of the guest through", () =>
  withConsole("ok\n\x1b]52;c;eA==\x07\x1bcKernel panic: \x1b]0;pwned\x07x\r\n", async (path) => {
    assertEquals(await consoleTail(path, 3), ["ok", "Kernel panic: x"]);
  }));
