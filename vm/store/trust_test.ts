import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../base/error.ts";
import { silentSpan } from "../base/event.ts";
import { type Artifact, ArtifactStore, type Recipe } from "./artifact.ts";
import { makeSigningKey, trustKey } from "./signing.ts";

const options = () => ({
  span: silentSpan(),
  signal: new AbortController().signal,
  assumeYes: false,
});

interface Bench {
  readonly root: string;
  readonly keys: string;
  readonly recipe: Recipe;
  /** How often the recipe was built. */
  readonly builds: () => number;
  readonly artifact: Artifact;
  /** A store as a new process would have it. */
  readonly store: (o?: { repair?: boolean }) => ArtifactStore;
}

/** A store with one artifact, signed by a key that is trusted. */
async function withSigned(body: (bench: Bench) => Promise<void>): Promise<void> {
  const root = await Deno.makeTempDir();
  const keys = join(root, "keys");
  let builds = 0;
  const recipe: Recipe = {
    name: "kernel",
    label: "a kernel",
    inputs: { version: "1" },
    outputs: ["vmlinux"],
    tools: [],
    async build({ outDir }) {
      builds++;
      await Deno.writeTextFile(join(outDir, "vmlinux"), "content");
    },
  };
  const store = (o: { repair?: boolean } = {}) => new ArtifactStore(root, { keysDir: keys, ...o });
  try {
    await makeSigningKey(keys);
    const artifact = await store().ensure(recipe, options());
    await trustKey(join(keys, "signing.pub"), keys);
    await body({ root, keys, recipe, builds: () => builds, artifact, store });
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

async function flip(path: string, at: number): Promise<void> {
  const bytes = await Deno.readFile(path);
  bytes[at]! ^= 1;
  await Deno.writeFile(path, bytes);
}

Deno.test("with a trusted key ensure() takes what that key has signed, and builds nothing", () =>
  withSigned(async ({ store, recipe, builds }) => {
    const found = await store().ensure(recipe, options());
    assertEquals([builds(), (await store().signatureOf(found)).state], [1, "signed"]);
  }));

for (
  const [what, code, pathOf] of [
    ["the file", "artifact-corrupt", (b: Bench) => b.artifact.files.vmlinux!.path],
    ["the manifest", "signature-invalid", manifestOf],
    ["the signature", "signature-invalid", (b: Bench) => `${manifestOf(b)}.sig`],
  ] as const
) {
  Deno.test(`with a trusted key ensure() refuses a flipped byte in ${what}, and builds nothing`, () =>
    withSigned(async (bench) => {
      const path = pathOf(bench);
      const size = (await Deno.stat(path)).size;
      await flip(path, size - 5);
      const error = await assertRejects(
        () => bench.store().ensure(bench.recipe, options()),
        GatewayError,
      );
      assertEquals([error.code, bench.builds()], [code, 1]);
      assertStringIncludes(error.why, path.replace(/\.sig$/, ""));
      if (what !== "the signature") {
        assertEquals(new Set(error.why.match(/[0-9a-f]{64}/g)).size >= 2, true, error.why);
      }
      assertStringIncludes(error.fix, "gateway build kernel");
      const repaired = await bench.store({ repair: true }).ensure(bench.recipe, options());
      assertEquals([bench.builds(), repaired.files.vmlinux!.sizeBytes], [2, 7]);
      await bench.store().ensure(bench.recipe, options());
      assertEquals(bench.builds(), 2);
    }));
}

function manifestOf({ store, artifact }: Bench): string {
  return store().manifestPath(artifact.name, artifact.key);
}

Deno.test("with a trusted key a note that the file was verified does not count", () =>
  withSigned(async ({ store, recipe, artifact }) => {
    const { path, sha256 } = artifact.files.vmlinux!;
    await flip(path, 1);
    const info = await Deno.stat(path);
    const times = [info.mtime?.getTime(), info.ctime?.getTime()];
    await Deno.writeTextFile(
      `${path}.verified`,
      [sha256, info.ino, info.size, ...times].join(" "),
    );
    const error = await assertRejects(() => store().ensure(recipe, options()), GatewayError);
    assertEquals(error.code, "artifact-corrupt");
  }));

Deno.test("with another trusted key ensure() refuses what the first has signed", () =>
  withSigned(async ({ root, keys, store, recipe, artifact, builds }) => {
    const other = join(root, "other");
    await makeSigningKey(other);
    await Deno.remove(join(keys, "allowed_signers"));
    await trustKey(join(other, "signing.pub"), keys);
    const error = await assertRejects(() => store().ensure(recipe, options()), GatewayError);
    assertEquals([error.code, builds()], ["signature-invalid", 1]);
    assertStringIncludes(error.why, "which is not trusted");
    // A build is no boot: it neither trusts nor throws out what another key has signed.
    await store({ repair: true }).ensure(recipe, options());
    assertEquals([builds(), (await store().signatureOf(artifact)).state], [1, "untrusted"]);
  }));

Deno.test("with a trusted key ensure() does not build what nobody here can sign", () =>
  withSigned(async ({ keys, store, recipe, builds }) => {
    await Deno.remove(join(keys, "signing.key"));
    const other = { ...recipe, inputs: { version: "2" } };
    const error = await assertRejects(() => store().ensure(other, options()), GatewayError);
    assertEquals([error.code, builds()], ["signature-invalid", 1]);
    await store({ repair: true }).ensure(other, options());
    const after = await assertRejects(() => store().ensure(other, options()), GatewayError);
    assertStringIncludes(after.why, '.json.sig"');
    assertEquals(builds(), 2);
  }));

Deno.test("sign() hashes every file anew and refuses a changed one", () =>
  withSigned(async ({ store, artifact }) => {
    await store().sign(artifact);
    await flip(artifact.files.vmlinux!.path, 0);
    const error = await assertRejects(() => store().sign(artifact), GatewayError);
    assertEquals(error.code, "artifact-corrupt");
  }));

Deno.test("a manifest says what built it: version, commit, runtime, host and tools", () =>
  withSigned(async ({ root, artifact, recipe }) => {
    const { builder } = artifact.manifest;
    assert(builder);
    assertEquals([builder.runtime, builder.tools], [`deno ${Deno.version.deno}`, {}]);
    assertEquals(builder.gateway, JSON.parse(await Deno.readTextFile("deno.json")).version);
    assertEquals(builder.gitCommit === null || /^[0-9a-f]{40}/.test(builder.gitCommit), true);
    const tools = [{ program: "sh", debian: "no-such-package" }, {
      program: "tar",
      debian: "tar",
    }];
    const store = new ArtifactStore(root, { keysDir: join(root, "none") });
    const made = await store.ensure({ ...recipe, name: "thing", tools }, options());
    assert(made.manifest.builder!.tools.tar!.length > 2);
  }));
