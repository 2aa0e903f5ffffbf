/**
 * The libkrun driver and the choice of a VMM against a fake library. Real boots are in tests/nested.
 *
 * @module
 */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { join } from "@std/path";
import { chooseVmm } from "../bootstrap/plan/choose_vmm.ts";
import { vmmCommand } from "../bootstrap/run/self.ts";
import { GatewayError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";
import { connectUnix } from "../vm/base/lines.ts";
import { waitFor } from "../vm/base/wait.ts";
import { LibkrunVmm, loaderEnv } from "../vm/libkrun/driver.ts";
import type { Artifact } from "../vm/store/artifact.ts";
import { fakeKernel } from "./fakes/kernel.ts";
import { FakeKrun } from "./fakes/krun.ts";
import { Plans } from "./fakes/plans.ts";

const options = () => ({ span: silentSpan(), signal: new AbortController().signal });

/** The driver in this very process, whose environment says where things are. */
async function withDriver(
  boots: string,
  body: (driver: LibkrunVmm, plans: Plans, fake: FakeKrun) => Promise<void>,
): Promise<void> {
  await using plans = await Plans.make();
  await using fake = await FakeKrun.build();
  const env: Record<string, string> = {
    ...plans.sandbox.env,
    ...fake.env(),
    KRUN_BOOTS: boots,
  };
  const before = Object.fromEntries(Object.keys(env).map((name) => [name, Deno.env.get(name)]));
  for (const [name, value] of Object.entries(env)) Deno.env.set(name, value);
  if (boots === "") Deno.env.delete("KRUN_BOOTS");
  try {
    const cache = join(plans.sandbox.top, "cache/gateway");
    const driver = new LibkrunVmm({
      kernelPath: join(cache, "vmlinux"),
      cacheDir: cache,
      child: (plan) => vmmCommand(plan),
      flag: fake.path,
      // A host without it runs these tests, too.
      candidate: () => Promise.resolve("kvm"),
    });
    await body(driver, plans, fake);
  } finally {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
  }
}

Deno.test("LibkrunVmm.check() boots once for a library, a kernel and a machine", async () => {
  await withDriver("panics", async (driver, plans, fake) => {
    const check = await driver.check(options());
    assertEquals([check.usable, check.accelerator], [true, "libkrun"]);
    assertEquals(check.why, `a probe boot with it worked (--libkrun: ${fake.path})`);
    assertEquals((await fake.calls()).at(-1), "krun_start_enter(3)");
    assertEquals(await driver.check(options()), check);
    assertEquals(await fake.calls(), []);
    await Deno.writeFile(join(plans.sandbox.top, "cache/gateway/vmlinux"), fakeKernel(65));
    await driver.check(options());
    assertEquals((await fake.calls()).at(-1), "krun_start_enter(3)");
    const probes = [...Deno.readDirSync(join(plans.sandbox.top, "cache/gateway/probes"))];
    assertEquals(probes.every(({ name }) => name.endsWith(".json")), true);
  });
});

Deno.test("LibkrunVmm.check() says what libkrun returned", async () => {
  await withDriver("", async (driver) => {
    const { usable, why } = await driver.check(options());
    assertEquals([usable, why], [false, "krun_start_enter returned -22 (EINVAL)"]);
  });
});

Deno.test(
  "LibkrunVmm.start() gives ports to connect to, and leaves neither process nor socket",
  async () => {
    await withDriver("panics", async (driver, plans, fake) => {
      await driver.check(options());
      Deno.env.set("KRUN_BOOTS", "hangs");
      await fake.calls();
      const spec = plans.spec();
      {
        await using vm = await driver.start(spec, options());
        assertEquals(JSON.parse(await Deno.readTextFile(join(plans.dir, "vm.json"))), spec);
        const { socketPath } = spec.consolePorts[0]!;
        assertEquals(((await Deno.lstat(socketPath)).mode ?? 0) & 0o777, 0o700 & ~0o077);
        // The file is there a moment before it listens.
        using _conn = await waitFor({
          what: "the port",
          probe: () => connectUnix(socketPath),
          timeoutMs: 5000,
        });
        await waitFor({
          what: "the call that enters",
          probe: async () => {
            const text = await Deno.readTextFile(join(fake.dir, "calls"));
            return text.includes("krun_start_enter") || undefined;
          },
          timeoutMs: 20_000,
        });
        const { signal } = await vm.stop(5000);
        assertEquals(signal, "SIGTERM");
      }
      assertEquals(await plans.sandbox.processes(), []);
      assertEquals([...Deno.readDirSync(plans.sockets)], []);
    });
  },
);

Deno.test("LibkrunVmm.start() tells the child's own error", async () => {
  await withDriver("panics", async (driver, plans) => {
    await driver.check(options());
    const path = join(plans.dir, "vmlinux");
    await Deno.writeTextFile(path, "no kernel");
    const spec = plans.spec({ kernelPath: path });
    const error = await assertRejects(() => driver.start(spec, options()), GatewayError);
    assertEquals(error.toJSON(), {
      code: "vmm-failed",
      what: `Cannot boot the kernel "${path}"`,
      why: "it is not a 64-bit ELF file",
      fix: "run `gateway build kernel` to make it again",
    });
    assertEquals([...Deno.readDirSync(plans.sockets)], []);
    assert((await Deno.stat(spec.vmmLogPath)).isFile);
  });
});

/** The choice for a driver's kernel and library. */
async function choose(vmm: "auto" | "qemu" | "libkrun", plans: Plans, libkrun: string) {
  const file = (path: string) => ({ path, sha256: "", sizeBytes: 0 });
  const artifact = (name: string, path: string) =>
    ({ files: { [name]: file(path) } }) as unknown as Artifact;
  return await chooseVmm({
    kernel: artifact("vmlinux", join(plans.sandbox.top, "cache/gateway/vmlinux")),
    tsc: artifact("tsckhz", "/bin/true"),
    ramshim: artifact("ramshim.so", "/nowhere/ramshim.so"),
  }, {
    ...options(),
    assumeYes: false,
    config: { vmm },
    libkrun,
    candidate: () => Promise.resolve("kvm"),
  });
}

Deno.test(
  "chooseVmm() takes libkrun where its probe boot works, and QEMU when it was asked for",
  async () => {
    await withDriver("panics", async (_, plans, fake) => {
      const { vmm, check, tscKHz } = await choose("auto", plans, fake.path);
      assertEquals([vmm.name, check.description, tscKHz], [
        "libkrun",
        "libkrun 1.18.0 or later, KVM",
        null,
      ]);
      assertStringIncludes(check.why, "a probe boot with it worked");
      assertEquals((await choose("libkrun", plans, fake.path)).vmm.name, "libkrun");
      await fake.calls();
      const other = await choose("qemu", plans, fake.path);
      assertEquals([other.vmm.name, other.check.why.includes("libkrun")], ["qemu", false]);
      assertEquals(await fake.calls(), []);
    });
  },
);

Deno.test(
  "chooseVmm() takes QEMU where libkrun's probe boot fails, says why, and insists when asked",
  async () => {
    await withDriver("", async (_, plans, fake) => {
      const { vmm, check } = await choose("auto", plans, fake.path);
      assertEquals(vmm.name, "qemu");
      assertMatch(check.why, /; not libkrun: krun_start_enter returned -22 \(EINVAL\)$/);
      const error = await assertRejects(() => choose("libkrun", plans, fake.path), GatewayError);
      assertEquals(error.toJSON(), {
        code: "vmm-missing",
        what: 'Cannot use --vmm "libkrun"',
        why: "krun_start_enter returned -22 (EINVAL)",
        fix: error.fix,
      });
      const gone = await assertRejects(
        () => choose("libkrun", plans, join(fake.dir, "gone.so")),
        GatewayError,
      );
      assertStringIncludes(gone.why, "gone.so");
    });
  },
);

Deno.test("LibkrunVmm.start() says so when the child ends without a word", async () => {
  await withDriver("panics", async (driver, plans, fake) => {
    await driver.check(options());
    const mute = new LibkrunVmm({
      kernelPath: join(plans.sandbox.top, "cache/gateway/vmlinux"),
      cacheDir: join(plans.sandbox.top, "cache/gateway"),
      child: () => ({ program: "/bin/false", args: [] }),
      flag: fake.path,
      candidate: () => Promise.resolve("kvm"),
    });
    const error = await assertRejects(() => mute.start(plans.spec(), options()), GatewayError);
    assertEquals(
      [error.code, error.what, error.why],
      [
        "vmm-failed",
        'Cannot start libkrun for "dev"',
        "its process ended (code 1) and printed nothing",
      ],
    );
  });
});

Deno.test("loaderEnv() tells the loader a folder on a Mac only", () => {
  assertEquals(loaderEnv("/opt/homebrew/lib/libkrun.dylib", "darwin"), {
    DYLD_FALLBACK_LIBRARY_PATH: "/opt/homebrew/lib",
  });
  assertEquals(loaderEnv("/usr/lib/libkrun.so.1", "linux"), {});
});
