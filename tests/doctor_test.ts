/**
 * `gateway doctor` as a user meets it on a host where nothing was built: each check with its outcome and its fix.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { dirname, join } from "@std/path";
import type { HostCheck } from "../bootstrap/inspect/doctor.ts";
import { defaultSuite } from "../rootfs/pins/lock.ts";
import { rootBaseRecipe } from "../rootfs/root/root_base.ts";
import { hostArch } from "../vm/base/arch.ts";
import { type ArtifactManifest, ArtifactStore, recipeKey } from "../vm/store/artifact.ts";
import { Sandbox } from "./sandbox.ts";

Deno.test("gateway doctor lists each host check with what it found, and a fix for what is not well", async () => {
  await using sandbox = await Sandbox.make();
  const { code, stdout } = await sandbox.gateway(["doctor", "--json"]);
  const checks: HostCheck[] = JSON.parse(stdout);
  const of = (name: string) => checks.find((check) => check.name === name)!;
  assertEquals(checks.map(({ name }) => name), [
    ...["host", "memory", "disk", "sockets", "ssh", "virtualization", "libkrun", "qemu"],
    "root image",
    "build tools",
  ]);
  assertEquals(code, checks.some(({ outcome }) => outcome === "fail") ? 1 : 0);
  assert(checks.every(({ found }) => found !== ""), stdout);
  assert(checks.every(({ outcome, fix }) => outcome === "ok" || fix !== ""), stdout);
  // Whether it works is only known once there is a kernel to boot.
  const { tookMs: _, ...libkrun } = of("libkrun");
  assertEquals(libkrun, {
    name: "libkrun",
    outcome: "warn",
    found: "libkrun is tried once the kernel is built",
    fix: "run `gateway build kernel`",
  });
  assertEquals(await sandbox.processes(), []);
});

Deno.test("gateway doctor warns of Debian packages that are older than 30 days, with the command", async () => {
  await using sandbox = await Sandbox.make();
  const store = new ArtifactStore(join(sandbox.env.XDG_CACHE_HOME, "gateway"));
  const recipe = rootBaseRecipe({ suite: defaultSuite, arch: hostArch() });
  const { name, label, inputs } = recipe;
  const builtAt = new Date(Date.now() - 40 * 24 * 60 * 60_000).toISOString();
  const manifest: ArtifactManifest = {
    ...{ schemaVersion: 1, name, label, key: recipeKey(recipe), inputs, files: {}, facts: {} },
    ...{ builtAt, buildMs: 1 },
  };
  const path = store.manifestPath(name, manifest.key);
  await Deno.mkdir(dirname(path), { recursive: true });
  await Deno.writeTextFile(path, JSON.stringify(manifest));
  const checks: HostCheck[] = JSON.parse((await sandbox.gateway(["doctor", "--json"])).stdout);
  const { outcome, found, fix } = checks.find(({ name }) => name === "root image")!;
  assertEquals([outcome, found, fix], [
    "warn",
    `Debian packages of ${builtAt.slice(0, 10)}: 40 days old`,
    "run `gateway build root --refresh`",
  ]);
});

Deno.test("gateway doctor says what to do about a runtime folder whose sockets have too long names", async () => {
  await using sandbox = await Sandbox.make();
  const folder = `/tmp/${"long".repeat(30)}`;
  const { code, stdout } = await sandbox.gateway(["doctor", "--json"], {
    env: { XDG_RUNTIME_DIR: folder },
  });
  const checks: HostCheck[] = JSON.parse(stdout);
  const { outcome, found, fix } = checks.find(({ name }) => name === "sockets")!;
  assertEquals([code, outcome], [1, "fail"]);
  assert(found.includes(folder) && found.includes("unix sockets allow"), found);
  assertEquals(fix, "set XDG_RUNTIME_DIR to a shorter folder, such as /tmp/run");
});
