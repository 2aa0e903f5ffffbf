import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../base/error.ts";
import { silentSpan } from "../base/event.ts";
import { ArtifactStore, canonicalJson, digestTree, type Recipe, recipeKey } from "./artifact.ts";

function recipe(over: Partial<Recipe> = {}): Recipe & { builds: number } {
  const made = {
    name: "thing",
    label: "a thing",
    inputs: { version: "1" },
    outputs: ["a"],
    tools: [],
    builds: 0,
    async build(ctx: Parameters<Recipe["build"]>[0]) {
      made.builds++;
      await Deno.writeTextFile(join(ctx.outDir, "a"), "content");
      return { found: "x" };
    },
    ...over,
  };
  return made;
}

async function withStore(fn: (store: ArtifactStore) => Promise<void>): Promise<void> {
  const root = await Deno.makeTempDir();
  try {
    await fn(new ArtifactStore(root, { keysDir: join(root, "keys") }));
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

const options = () => ({
  span: silentSpan(),
  signal: new AbortController().signal,
  assumeYes: false,
});

Deno.test("ArtifactStore.ensure() builds once and finds it again", () =>
  withStore(async (store) => {
    const thing = recipe();
    const first = await store.ensure(thing, options());
    const second = await store.ensure(thing, options());
    assertEquals([thing.builds, first.files.a!.sha256], [1, second.files.a!.sha256]);
    assertEquals(first.manifest.facts, { found: "x" });
    assertEquals(await Deno.readTextFile(second.files.a!.path), "content");
  }));

Deno.test("ArtifactStore.lookup() refuses a flipped byte, and ensure() builds it again", () =>
  withStore(async (store) => {
    const thing = recipe();
    const { files } = await store.ensure(thing, options());
    await Deno.writeTextFile(files.a!.path, "cOntent");
    const error = await assertRejects(() => store.lookup(thing), GatewayError);
    assertEquals(error.code, "artifact-corrupt");
    const again = await store.ensure(thing, options());
    assertEquals([thing.builds, await Deno.readTextFile(again.files.a!.path)], [2, "content"]);
  }));

Deno.test("ArtifactStore.lookup() refuses a file that was cut", () =>
  withStore(async (store) => {
    const thing = recipe();
    const { files } = await store.ensure(thing, options());
    await Deno.truncate(files.a!.path, 3);
    const error = await assertRejects(() => store.lookup(thing), GatewayError);
    assert(error.why.includes("3 bytes instead of 7"));
  }));

Deno.test("ArtifactStore.ensure() keeps nothing but the work of a build that fails, and resumes it", () =>
  withStore(async (store) => {
    let tries = 0;
    const thing = recipe({
      async build(ctx) {
        const half = join(ctx.workDir, "half");
        if (++tries === 1) {
          await Deno.writeTextFile(half, "kept");
          await Deno.writeTextFile(join(ctx.outDir, "a"), "con");
          throw new Error("power cut");
        }
        assertEquals(await Deno.readTextFile(half), "kept");
        assertEquals([...Deno.readDirSync(ctx.outDir)], []);
        await Deno.writeTextFile(join(ctx.outDir, "a"), "content");
      },
    });
    const error = await assertRejects(() => store.ensure(thing, options()), GatewayError);
    assertEquals([error.code, error.why], ["build-failed", "power cut"]);
    assertEquals(await store.lookup(thing), undefined);
    await store.ensure(thing, options());
    assertEquals([...Deno.readDirSync(join(store.root, "work"))].map((e) => e.name), [
      "thing.lock",
    ]);
  }));

Deno.test("ArtifactStore.ensure() builds once when two ask at the same time", () =>
  withStore(async (store) => {
    const thing = recipe();
    const slow: Recipe = {
      ...thing,
      async build(ctx) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        return await thing.build(ctx);
      },
    };
    await Promise.all([store.ensure(slow, options()), store.ensure(slow, options())]);
    assertEquals(thing.builds, 1);
  }));

Deno.test("ArtifactStore.ensure() says which output a build did not leave", () =>
  withStore(async (store) => {
    const error = await assertRejects(
      () => store.ensure(recipe({ build: () => Promise.resolve() }), options()),
      GatewayError,
    );
    assertEquals(error.why, "the build left no a");
  }));

Deno.test("ArtifactStore.ensure() names the command when a host tool is missing", () =>
  withStore(async (store) => {
    const tools = [{ program: "no-such-tool", debian: "no-such-package" }];
    const error = await assertRejects(
      () => store.ensure(recipe({ tools }), options()),
      GatewayError,
    );
    assertEquals(error.code, "tool-missing");
    assert(error.fix.includes("apt-get install -y --no-install-recommends no-such-package"));
  }));

Deno.test("recipeKey() changes with any input and not with their order", () => {
  const key = (inputs: Record<string, string>) => recipeKey(recipe({ inputs }));
  assertEquals(key({ a: "1", b: "2" }), key({ b: "2", a: "1" }));
  assert(key({ a: "1" }) !== key({ a: "2" }));
});

Deno.test("canonicalJson() sorts keys at every depth", () => {
  assertEquals(
    canonicalJson({ b: [{ d: 1, c: null }], a: "x" }),
    '{"a":"x","b":[{"c":null,"d":1}]}',
  );
});

Deno.test("digestTree() sees names, bytes and the executable bit, and skips tests", async () => {
  const dir = await Deno.makeTempDir();
  await Deno.writeTextFile(join(dir, "a"), "1");
  const first = await digestTree(dir);
  await Deno.writeTextFile(join(dir, "a_test.go"), "ignored");
  assertEquals(await digestTree(dir), first);
  await Deno.chmod(join(dir, "a"), 0o755);
  const second = await digestTree(dir);
  assert(second !== first);
  await Deno.writeTextFile(join(dir, "b"), "");
  assert(await digestTree(dir) !== second);
  await Deno.remove(dir, { recursive: true });
});
