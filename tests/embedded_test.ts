/**
 * Artifacts that come with a file: packed here as the one file packs them, unpacked by a store that could not build them.
 *
 * @module
 */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { packArtifact } from "../bootstrap/package/embed.ts";
import { embeddedList } from "../bootstrap/package/one_file.ts";
import { GatewayError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";
import { ArtifactStore, type Recipe } from "../vm/store/artifact.ts";
import { Embedded } from "../vm/store/embedded.ts";
import { makeSigningKey, trustKey } from "../vm/store/signing.ts";

const options = {
  span: silentSpan(),
  signal: new AbortController().signal,
  assumeYes: false,
};

/** Not to be had on any host. */
const NOWHERE = { program: "no-such-compiler", debian: "no-such-package" };

function recipe(name: string, build: Recipe["build"], tools: Recipe["tools"] = []): Recipe {
  return {
    name,
    label: `the ${name}`,
    inputs: { a: "1" },
    outputs: ["data", "tool"],
    tools,
    build,
  };
}

const built = recipe("thing", async ({ outDir }) => {
  // Does not get smaller, so that a byte of the file is a byte of it.
  const data = new Uint8Array(3_000_000);
  for (let at = 0; at < data.length; at += 60_000) {
    crypto.getRandomValues(data.subarray(at, at + 60_000));
  }
  await Deno.writeFile(join(outDir, "data"), data);
  await Deno.writeTextFile(join(outDir, "tool"), "#!/bin/sh\n", { mode: 0o755 });
  return { seen: "once" };
});
const notHere = recipe("thing", () => Promise.reject(new Error("it was built")), [NOWHERE]);

/** A file that ends with a packed artifact, and the store it was built in. */
async function packed(dir: string) {
  const store = new ArtifactStore(join(dir, "first"), { keysDir: join(dir, "keys") });
  const other = recipe("other", built.build);
  const artifact = await store.ensure(built, options);
  const artifacts = [artifact, await store.ensure(other, options)];
  const all = await Promise.all(artifacts.map((one) => packArtifact(one, store, options.signal)));
  const file = join(dir, "file");
  await Deno.writeTextFile(file, "what comes before ".repeat(1000));
  for (const { path } of all.flatMap(({ files }) => files)) {
    await Deno.writeFile(file, await Deno.readFile(path), { append: true });
  }
  const embedded = () => Promise.resolve(new Embedded(file, JSON.parse(embeddedList(all))));
  const store2 = (name: string) =>
    new ArtifactStore(join(dir, name), { keysDir: join(dir, "keys"), embedded });
  return { file, artifact, store: store2 };
}

async function inFolder(fn: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "gw-" });
  try {
    await fn(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("an embedded manifest without its files is a record and does not count as an artifact", () =>
  inFolder(async (dir) => {
    const { artifact } = await packed(dir);
    const list = JSON.parse(embeddedList([{ manifest: artifact.manifest, files: [] }]));
    const embedded = () => Promise.resolve(new Embedded(join(dir, "file"), list));
    const store = new ArtifactStore(join(dir, "third"), { keysDir: join(dir, "keys"), embedded });
    assertEquals(await store.holds(notHere), false);
    assertEquals(await store.find(notHere, options), undefined);
    assertEquals((await store.manifest(notHere))?.facts, { seen: "once" });
  }));

Deno.test("an embedded artifact is unpacked and not built, with bytes, modes and manifest as they were", () =>
  inFolder(async (dir) => {
    const { artifact, store } = await packed(dir);
    const second = store("second");
    assertEquals(await second.holds(notHere), true);
    assertEquals(await second.lookup(notHere), undefined);
    const found = await second.ensure(notHere, options);
    assertEquals(found.manifest, artifact.manifest);
    for (const [name, mode] of [["data", 0o644], ["tool", 0o755]] as const) {
      const { path, sha256 } = found.files[name]!;
      assertEquals(sha256, artifact.files[name]!.sha256);
      assertEquals(await Deno.readFile(path), await Deno.readFile(artifact.files[name]!.path));
      assertEquals((await Deno.stat(path)).mode! & 0o777, mode);
    }
    const text = (store: ArtifactStore) =>
      Deno.readTextFile(store.manifestPath("thing", artifact.key));
    assertEquals(
      await text(second),
      await text(new ArtifactStore(join(dir, "first"))),
    );
    assertEquals((await second.lookup(notHere))?.key, artifact.key);
    assertEquals([...Deno.readDirSync(join(dir, "second/work"))].map(({ name }) => name), [
      "thing.lock",
    ]);
  }));

Deno.test("stores of two processes unpack once, and a damaged artifact is unpacked again", () =>
  inFolder(async (dir) => {
    const { store } = await packed(dir);
    const [one, two] = [store("second"), store("second")];
    const found = await Promise.all([one, two].map((each) => each.ensure(notHere, options)));
    assertEquals(found[0], found[1]);
    const { path } = found[0]!.files.data!;
    await Deno.truncate(path, 10);
    assertEquals((await store("second").ensure(notHere, options)).files.data!.path, path);
    assertEquals((await Deno.stat(path)).size, 3_000_000);
  }));

Deno.test("an artifact that is not embedded is built", () =>
  inFolder(async (dir) => {
    const { store } = await packed(dir);
    const second = store("second");
    const another = { ...notHere, inputs: { a: "2" } };
    assertEquals([await second.holds(another), await second.find(another, options)], [
      ...[false, undefined],
    ]);
    const error = await assertRejects(() => second.ensure(another, options), GatewayError);
    assertEquals(error.code, "tool-missing");
    assertStringIncludes(error.what, NOWHERE.program);
  }));

Deno.test("a file that was changed, cut or emptied is told, and nothing of it is kept", () =>
  inFolder(async (dir) => {
    const { file, store } = await packed(dir);
    const whole = await Deno.readFile(file);
    const changed = whole.slice();
    changed[1_000_000]! ^= 1;
    for (const bytes of [changed, whole.subarray(0, whole.length - 5000), new Uint8Array(0)]) {
      await Deno.writeFile(file, bytes);
      const second = store("second");
      const error = await assertRejects(() => second.ensure(notHere, options), GatewayError);
      assertEquals([error.code, error.what, error.fix], [
        ...["artifact-corrupt", "Cannot unpack the thing", "get the file again"],
      ]);
      assertEquals(await second.lookup(notHere), undefined);
    }
  }));

Deno.test("where a key is trusted that does not sign here, nothing is unpacked", () =>
  inFolder(async (dir) => {
    const { store } = await packed(dir);
    const { publicPath } = await makeSigningKey(join(dir, "foreign"));
    await trustKey(publicPath, join(dir, "keys"));
    const error = await assertRejects(
      () => store("second").ensure(notHere, options),
      GatewayError,
    );
    assertEquals(error.code, "signature-invalid");
  }));
