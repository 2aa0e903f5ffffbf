import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { ArtifactStore } from "../store/artifact.ts";
import type { Recipe } from "../store/recipe.ts";
import { writeFileAtomic } from "./durable.ts";
import { GatewayError } from "./error.ts";
import {
  cacheDir,
  checkInstanceName,
  dataDir,
  ensurePrivateDir,
  instancePaths,
  refuseForeignDir,
  runtimeDir,
  socketPath,
  xdgConfigHome,
} from "./layout.ts";

const env = (values: Record<string, string>) => (name: string) => values[name];

Deno.test("the XDG folders honour their variables", () => {
  const set = env({ HOME: "/h", XDG_DATA_HOME: "/d", XDG_CACHE_HOME: "/c", XDG_CONFIG_HOME: "/f" });
  assertEquals([dataDir(set), cacheDir(set), xdgConfigHome(set)], [
    "/d/gateway",
    "/c/gateway",
    "/f",
  ]);
});

Deno.test("the XDG folders ignore a relative value, as the specification says", () => {
  assertEquals(dataDir(env({ HOME: "/h", XDG_DATA_HOME: "here" })), "/h/.local/share/gateway");
});

Deno.test("runtimeDir() is the user's runtime folder when there is one", () => {
  assertEquals(runtimeDir(env({ XDG_RUNTIME_DIR: "/run/user/7" })), "/run/user/7/gateway");
});

Deno.test("socketPath() refuses a path that no socket can have", () => {
  const error = assertThrows(() => socketPath("/" + "x".repeat(100), "qmp"), GatewayError);
  assertEquals(error.code, "path-too-long");
});

for (
  const [name, why] of [
    ["", "it is empty"],
    ["../x", "only a-z, 0-9 and - inside are allowed"],
    ["A", "only a-z, 0-9 and - inside are allowed"],
    ["-a", "only a-z, 0-9 and - inside are allowed"],
    ["a".repeat(65), "it has 65 characters and 63 is the most"],
  ] as const
) {
  Deno.test(`checkInstanceName() refuses "${name.slice(0, 8)}"`, () => {
    const error = assertThrows(() => checkInstanceName(name), GatewayError);
    assertEquals([error.code, error.why], ["usage", why]);
  });
}

Deno.test("instancePaths() keeps everything below the instance's folder but the sockets", () => {
  const paths = instancePaths("dev-2", env({ HOME: "/h", XDG_RUNTIME_DIR: "/r" }));
  assertEquals(paths.stateDisk, "/h/.local/share/gateway/instances/dev-2/state.img");
  assertEquals(paths.runtimeDir, "/r/gateway/dev-2");
});

Deno.test("ensurePrivateDir() closes an open folder and refuses a file", async () => {
  const top = await Deno.makeTempDir();
  const dir = join(top, "a");
  await Deno.mkdir(dir);
  await Deno.chmod(dir, 0o755);
  await ensurePrivateDir(dir);
  assertEquals((await Deno.stat(dir)).mode! & 0o777, 0o700);
  await Deno.writeTextFile(join(top, "f"), "");
  await assertRejects(() => ensurePrivateDir(join(top, "f")));
  await Deno.remove(top, { recursive: true });
});

Deno.test("writeFileAtomic() leaves the old file and no other when the write fails", async () => {
  const top = await Deno.makeTempDir();
  const path = join(top, "a");
  await writeFileAtomic(path, "one");
  assertEquals((await Deno.stat(path)).mode! & 0o777, 0o600);
  await Deno.mkdir(join(top, "folder"));
  await assertRejects(() => writeFileAtomic(join(top, "folder"), "two"));
  assertEquals([...Deno.readDirSync(top)].map((entry) => entry.name).sort(), ["a", "folder"]);
  await Deno.remove(top, { recursive: true });
});

Deno.test("a folder whose path has a line break is refused, not split", () => {
  for (const variable of ["XDG_DATA_HOME", "HOME"]) {
    const error = assertThrows(() => dataDir(env({ [variable]: "/a\nb" })), GatewayError);
    assertEquals([error.code, error.what], [
      "host-unsupported",
      `Cannot use the folder in ${variable}`,
    ]);
  }
});

Deno.test("socketPath() counts bytes, not letters", () => {
  const error = assertThrows(() => socketPath("/" + "ü".repeat(60), "qmp"), GatewayError);
  assertEquals(error.why, "unix sockets allow 103 bytes and it has 125");
});

Deno.test("ensurePrivateDir() and writeFileAtomic() call a file in a folder's place `permission`", async () => {
  const top = await Deno.makeTempDir();
  await Deno.writeTextFile(join(top, "f"), "");
  for (
    const attempt of [
      () => ensurePrivateDir(join(top, "f", "gateway")),
      () => writeFileAtomic(join(top, "f", "run.json"), "x"),
    ]
  ) {
    const error = await assertRejects(attempt, GatewayError);
    assertEquals(error.code, "permission");
  }
  await Deno.remove(top, { recursive: true });
});

Deno.test("ensurePrivateDir() refuses a link unless one may be there", async () => {
  const top = await Deno.makeTempDir();
  await Deno.mkdir(join(top, "disk"));
  await Deno.symlink("disk", join(top, "link"));
  const error = await assertRejects(() => ensurePrivateDir(join(top, "link")), GatewayError);
  assertEquals([error.code, error.why], ["permission", "it is a symbolic link"]);
  await ensurePrivateDir(join(top, "link"), { mayLink: true });
  await Deno.symlink("nothing", join(top, "dangling"));
  const gone = await assertRejects(
    () => ensurePrivateDir(join(top, "dangling"), { mayLink: true }),
    GatewayError,
  );
  assertEquals(gone.why, "it is a symbolic link to a folder that is not there");
  await Deno.remove(top, { recursive: true });
});

Deno.test("refuseForeignDir() takes a cache that is the user's alone, also by a link, and closes it", async () => {
  const top = await Deno.makeTempDir();
  await Deno.mkdir(join(top, "disk"));
  await Deno.chmod(join(top, "disk"), 0o777);
  await Deno.symlink("disk", join(top, "cache"));
  await refuseForeignDir(join(top, "nothing"));
  await refuseForeignDir(join(top, "cache"));
  assertEquals((await Deno.stat(join(top, "disk"))).mode! & 0o777, 0o755);
  await Deno.remove(top, { recursive: true });
});

Deno.test({
  name: "ArtifactStore.lookup() refuses a cache of another user's",
  ignore: Deno.uid() !== 0,
  fn: async () => {
    const top = await Deno.makeTempDir();
    const recipe = { name: "a", label: "a", version: 1, inputs: {}, outputs: [], tools: [] };
    const look = () => new ArtifactStore(join(top, "cache")).lookup(recipe as unknown as Recipe);
    await Deno.mkdir(join(top, "theirs"));
    await Deno.chown(join(top, "theirs"), 65534, 65534);
    await Deno.symlink("theirs", join(top, "cache"));
    const error = await assertRejects(look, GatewayError);
    assertEquals([error.code, error.why], ["permission", "it belongs to user 65534"]);
    await Deno.chown(join(top, "theirs"), 0, 0);
    assertEquals(await look(), undefined);
    await Deno.remove(top, { recursive: true });
  },
});
