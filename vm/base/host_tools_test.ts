import { assertEquals, assertRejects } from "@std/assert";
import { GatewayError } from "./error.ts";
import { silentSpan } from "./event.ts";
import { ensureTools, type HostTool, installCommand, missingTools } from "./host_tools.ts";

const there: HostTool = { program: "sh", debian: "dash" };
const absent: HostTool = { program: "no-such-program-here", debian: "no-such-package" };
const header: HostTool = {
  program: "nothing.h",
  debian: "libnothing-dev",
  path: "/usr/include/no-such-nothing.h",
};
const root = Deno.uid() === 0;
const options = () => ({
  span: silentSpan(),
  signal: new AbortController().signal,
  assumeYes: false,
});

Deno.test("missingTools() leaves out what is on PATH and files that exist", () => {
  const file: HostTool = { program: "a name to show", debian: "x", path: "/" };
  assertEquals(missingTools([there, absent, file, header]), [absent, header]);
});

Deno.test("installCommand() names each package once, in order", () => {
  assertEquals(
    installCommand([header, absent, { ...there, debian: "no-such-package" }]),
    "apt-get install -y --no-install-recommends libnothing-dev no-such-package",
  );
});

Deno.test("installCommand() names Homebrew's formulas on a Mac", () => {
  const tools = ["qemu-img", "qemu-system-aarch64"].map((program) => ({
    ...{ program, debian: "other", brew: "qemu" },
  }));
  assertEquals(installCommand([...tools, there], "darwin"), "brew install qemu sh");
});

Deno.test("ensureTools() does nothing when all are there", async () => {
  const { span, ...rest } = options();
  await ensureTools([there], { span, ...rest });
  assertEquals(span.events.map((event) => event.kind), ["start"]);
});

Deno.test("ensureTools() names the exact command when it may not install", async () => {
  const error = await assertRejects(() => ensureTools([there, absent], options()), GatewayError);
  const command = "apt-get install -y --no-install-recommends no-such-package";
  assertEquals([error.code, error.what, error.why, error.fix], [
    "tool-missing",
    "Cannot build without no-such-program-here",
    "it is not on this host",
    root ? `run: ${command}   (or pass --yes)` : `run: sudo ${command}`,
  ]);
});

Deno.test("ensureTools() names all missing tools in one error", async () => {
  const error = await assertRejects(
    () => ensureTools([absent, header, absent], options()),
    GatewayError,
  );
  assertEquals([error.what, error.why], [
    "Cannot build without no-such-program-here, nothing.h",
    "they are not on this host",
  ]);
});

Deno.test({
  name: "ensureTools() tells a plain user the command although --yes was given (needs no root)",
  ignore: root,
  fn: async () => {
    const error = await assertRejects(
      () => ensureTools([absent], { ...options(), assumeYes: true }),
      GatewayError,
    );
    assertEquals(error.code, "tool-missing");
  },
});

Deno.test("ensureTools() goes on for the next caller after one that failed", async () => {
  const [failed, fine] = await Promise.allSettled([
    ensureTools([absent], options()),
    ensureTools([there], options()),
  ]);
  assertEquals([failed.status, fine.status], ["rejected", "fulfilled"]);
});
