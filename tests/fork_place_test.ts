/**
 * Clones and instances of the same name that other commands make meanwhile. The whole process's environment decides where
 * they are, so these tests run alone.
 *
 * @module
 */
import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { place, removeClone } from "../bootstrap/saved/fork.ts";
import { openInstance } from "../bootstrap/start/up.ts";
import { GatewayError } from "../vm/base/error.ts";
import { exists, instancePaths } from "../vm/base/layout.ts";
import { findInstance, LockedInstance, removeInstance } from "../vm/instance/instance.ts";
import type { SavedState } from "../vm/instance/saved_state.ts";
import { instanceConfig } from "./fakes/instance_config.ts";
import { makeInstance, withHome } from "./instance_home.ts";

const signal = new AbortController().signal;

Deno.test("place() never puts a clone over an instance", () =>
  withHome(async ({ top }) => {
    await makeInstance("a");
    const from = { name: "source", pkiDir: top, k3sYaml: null };
    const saved = { dir: top, state: {} as SavedState, from };
    const clone = instanceConfig({ name: "a", payload: "/clone" });
    const error = await assertRejects(() => place(saved, clone, signal), GatewayError);
    assertEquals(error.code, "usage");
    assertEquals((await findInstance("a"))?.config.payload, "demo");
  }));

Deno.test("removeClone() and openInstance() leave an instance alone that another command made", () =>
  withHome(async () => {
    await makeInstance("a");
    const earlier = instanceConfig({ name: "a", createdAt: "2020-01-01T00:00:00.000Z" });
    await assertRejects(() => removeClone(earlier), GatewayError);
    const error = await assertRejects(() => openInstance(earlier, signal), GatewayError);
    assertEquals(error.code, "instance-running");
    assertEquals((await findInstance("a"))?.state, "stopped");
    await removeClone(instanceConfig({ name: "a" }));
    assertEquals(await findInstance("a"), undefined);
  }));

Deno.test("removeInstance() deletes nothing when what lies elsewhere cannot be removed", () =>
  withHome(async () => {
    await makeInstance("a");
    const { stateDisk } = instancePaths("a");
    await Deno.writeTextFile(stateDisk, "disk");
    await assertRejects(
      () => removeInstance("a", () => Promise.reject(new Error("no"))),
      Error,
      "no",
    );
    assertEquals([await exists(stateDisk), (await findInstance("a"))?.state], [true, "stopped"]);
  }));

Deno.test("removeInstance() holds the lock until the folder is gone", () =>
  withHome(async () => {
    await makeInstance("a");
    const { dir, lockFile } = instancePaths("a");
    const waiting = await Deno.open(lockFile);
    await removeInstance("a", async () => assertEquals(await waiting.tryLock(false), false));
    assertEquals([await waiting.tryLock(false), await exists(dir)], [true, false]);
    waiting.close();
    // Who had waited for that file begins anew.
    await using instance = await LockedInstance.open("a");
    assertEquals([instance.created, await exists(join(dir, "lock"))], [true, true]);
  }));
