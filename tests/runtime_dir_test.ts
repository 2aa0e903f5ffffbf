/**
 * Whose the folder of sockets is: nothing is removed through a folder or a link of another user's. The whole process's
 * environment decides where it is, so these tests run alone.
 *
 * @module
 */
import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../vm/base/error.ts";
import {
  ensureRuntimeDir,
  exists,
  instancePaths,
  isPrivateDir,
  runtimeDir,
} from "../vm/base/layout.ts";
import { sweepMemory } from "../vm/base/memory_dir.ts";
import { LockedInstance, removeInstance } from "../vm/instance/instance.ts";
import { runRecord } from "./fakes/run_record.ts";
import { makeInstance, withHome } from "./instance_home.ts";

/** A folder of the user's with one named like an instance in it. */
async function precious(top: string): Promise<{ readonly dir: string; readonly kept: string }> {
  const dir = join(top, "precious");
  const kept = join(dir, "a", "file");
  await Deno.mkdir(join(dir, "a"), { recursive: true });
  await Deno.writeTextFile(kept, "keep");
  return { dir, kept };
}

Deno.test("LockedInstance.open() removes nothing through a link in the runtime folder's place", () =>
  withHome(async ({ top }) => {
    const { dir, kept } = await precious(top);
    await Deno.symlink(dir, runtimeDir());
    for (const attempt of [() => LockedInstance.open("a"), () => removeInstance("a")]) {
      const error = await assertRejects(attempt, GatewayError);
      assertEquals([error.code, error.why], ["permission", "it is a symbolic link"]);
      assertEquals(await exists(kept), true);
    }
  }));

Deno.test("LockedInstance removes nothing through a link that was put there while it ran", () =>
  withHome(async ({ top, run }) => {
    const { dir, kept } = await precious(top);
    {
      await using _instance = await LockedInstance.open("a");
      await Deno.rename(join(run, "gateway"), join(run, "moved"));
      await Deno.symlink(dir, runtimeDir());
    }
    assertEquals(await exists(kept), true);
  }));

Deno.test("LockedInstance.open() removes nothing through a link in the place of an earlier run's sockets", () =>
  withHome(async ({ top }) => {
    const { dir, kept } = await precious(top);
    await makeInstance("a");
    await Deno.symlink(dir, join(top, "gateway"));
    await Deno.writeTextFile(
      instancePaths("a").runFile,
      JSON.stringify(runRecord({
        supervisor: { pid: 999_999_999, startTime: "1" },
        runtimeDir: join(top, "gateway", "a"),
      })),
    );
    await using _instance = await LockedInstance.open("a");
    assertEquals(await exists(kept), true);
  }));

Deno.test("sweepMemory() follows no link", () =>
  withHome(async ({ top }) => {
    const gone = join(top, "memory", "999999999-1-x");
    await Deno.mkdir(gone, { recursive: true });
    await Deno.symlink(join(top, "memory"), join(top, "link"));
    await sweepMemory(join(top, "link"));
    assertEquals(await exists(gone), true);
    await sweepMemory(join(top, "memory"));
    assertEquals(await exists(gone), false);
  }));

Deno.test("ensureRuntimeDir() refuses a folder that every user may replace", () =>
  withHome(async ({ run }) => {
    await Deno.chmod(run, 0o777);
    const error = await assertRejects(ensureRuntimeDir, GatewayError);
    assertEquals([error.code, error.why], [
      "permission",
      `every user may replace it in "${run}"`,
    ]);
    // As /tmp is.
    await Deno.chmod(run, 0o1777);
    await ensureRuntimeDir();
    assertEquals(await isPrivateDir(runtimeDir()), true);
  }));

Deno.test({
  name: "ensureRuntimeDir() refuses a folder in another user's, as after `sudo -E`",
  ignore: Deno.uid() !== 0,
  fn: () =>
    withHome(async ({ run }) => {
      await Deno.chown(run, 65534, 65534);
      const error = await assertRejects(() => LockedInstance.open("a"), GatewayError);
      assertEquals([error.code, error.why], ["permission", `"${run}" belongs to user 65534`]);
    }),
});

Deno.test({
  name: "runtimeDir() of root is in /run, where no other user takes its name",
  ignore: Deno.uid() !== 0 || Deno.build.os !== "linux",
  fn: () => assertEquals(runtimeDir(() => undefined), "/run/gateway"),
});
