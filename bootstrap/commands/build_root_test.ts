import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../../vm/base/error.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { ArtifactStore } from "../../vm/store/artifact.ts";
import { Embedded } from "../../vm/store/embedded.ts";
import { makeSigningKey, trustKey } from "../../vm/store/signing.ts";
import { ageWarning } from "../artifacts/ensure.ts";
import { orAsBefore, refreshRoot } from "./build_root.ts";

const how = { span: silentSpan(), signal: new AbortController().signal, assumeYes: false };
const embedded = () => Promise.resolve(new Embedded("", []));

Deno.test("ageWarning() names the command from 30 days on, and is silent before and without a base", () => {
  const record = { builtAt: "2026-01-01T00:00:00.000Z", digest: "" };
  assertEquals(ageWarning({ record }, Date.parse("2026-01-30T23:00:00Z")), undefined);
  assertEquals(ageWarning({ record: undefined }), undefined);
  const text = ageWarning({ record }, Date.parse("2026-01-31T00:00:00Z"))!;
  assertStringIncludes(text, "30 days old");
  assertStringIncludes(text, "gateway build root --refresh");
});

/** A recipe whose packages are what is given. */
const recipeOf = (version: string) => ({
  name: "root-base",
  label: "root base",
  inputs: {},
  outputs: ["base.tar"],
  tools: [],
  build: async ({ outDir }: { readonly outDir: string }) => {
    await Deno.writeTextFile(join(outDir, "base.tar"), version);
    return { packages: { runc: version } };
  },
});

Deno.test("orAsBefore() puts the old base back with its signature when the root image cannot be built", async () => {
  const dir = await Deno.makeTempDir();
  const keysDir = join(dir, "keys");
  const { publicPath } = await makeSigningKey(keysDir);
  await trustKey(publicPath, keysDir);
  const store = new ArtifactStore(join(dir, "cache"), { keysDir, embedded });
  await store.ensure(recipeOf("1"), how);
  const record = { builtAt: "", digest: "" };
  const base = { recipe: recipeOf("2"), record };
  const failed = () =>
    orAsBefore(store, base, async () => {
      await store.rebuild(base.recipe, how);
      assertEquals((await store.manifest(base.recipe))?.facts.packages, { runc: "2" });
      throw new Error("no root image");
    });
  await assertRejects(failed, Error, "no root image");
  assertEquals((await store.lookup(base.recipe))?.manifest.facts.packages, { runc: "1" });
  await orAsBefore(store, base, () => store.rebuild(base.recipe, how));
  assertEquals((await store.lookup(base.recipe))?.manifest.facts.packages, { runc: "2" });
  await Deno.remove(dir, { recursive: true });
});

Deno.test("refreshRoot() refuses at once where no trusted key could sign the new root image", async () => {
  const dir = await Deno.makeTempDir();
  const { publicPath } = await makeSigningKey(join(dir, "elsewhere"));
  const keysDir = join(dir, "keys");
  await trustKey(publicPath, keysDir);
  const store = new ArtifactStore(join(dir, "cache"), { keysDir, embedded, repair: true });
  const error = await assertRejects(() => refreshRoot({ ...how, store }), GatewayError);
  assertEquals(error.code, "signature-invalid");
  await Deno.remove(dir, { recursive: true });
});
