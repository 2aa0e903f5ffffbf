import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { GatewayError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";
import { ArtifactStore, recipeKey } from "../vm/store/artifact.ts";
import { rootfsRecipes } from "./recipes.ts";
import { checkBase } from "./root/root_base.ts";

const options = {
  arch: "amd64" as const,
  store: new ArtifactStore("/nonexistent"),
  span: silentSpan(),
  signal: new AbortController().signal,
  assumeYes: false,
};

Deno.test("rootfsRecipes() gives equal keys when nothing changed", async () => {
  const [a, b] = await Promise.all([rootfsRecipes(options), rootfsRecipes(options)]);
  assertEquals(recipeKey(a.root), recipeKey(b.root));
  assertEquals(a.images.map(recipeKey), b.images.map(recipeKey));
});

Deno.test("rootfsRecipes() gives the root image another key when a part of it changes", async () => {
  const root = async (o: Partial<Parameters<typeof rootfsRecipes>[0]>) =>
    recipeKey((await rootfsRecipes({ ...options, ...o })).root);
  const keys = await Promise.all([
    root({}),
    root({ suite: "bookworm" }),
    root({ mirror: "http://mirror.invalid/debian" }),
    root({ arch: "arm64" }),
  ]);
  assertEquals(new Set(keys).size, keys.length);
});

Deno.test("rootfsRecipes() gives each recipe a name and outputs of its own when they are listed", async () => {
  const { root, base, cluster, agent, cniPlugins, images, helmImage } = await rootfsRecipes(
    options,
  );
  const all = [root, base.recipe, cluster, agent, cniPlugins, ...images, helmImage];
  assertEquals(new Set(all.map((recipe) => recipe.name)).size, all.length);
  for (const recipe of all) assert(recipe.outputs.length > 0 && recipe.label !== "");
  assertEquals(images.map((image) => image.outputs[0]), [
    "pause.tar",
    "coredns.tar",
    "local-path-provisioner.tar",
    "busybox.tar",
    "demo.tar",
  ]);
  assertEquals(helmImage.outputs, ["helm.tar"]);
  assert(!Object.values(root.inputs).includes(recipeKey(helmImage)));
});

Deno.test("rootfsRecipes() refuses when the suite is unknown or no file was named", async () => {
  for (const bad of [{ suite: "sarge" }, { clusterSource: "file" as const }]) {
    const error = await assertRejects(() => rootfsRecipes({ ...options, ...bad }), GatewayError);
    assertEquals(error.code, "usage");
  }
});

/** A store in which the base was built of these packages. */
async function storeWith(root: string, packageSha256: Record<string, string>) {
  const store = new ArtifactStore(root, { keysDir: `${root}/keys` });
  const { base } = await rootfsRecipes({ ...options, store });
  await store.rebuild({
    ...base.recipe,
    tools: [],
    build: async ({ outDir }) => {
      await Deno.writeTextFile(`${outDir}/base.tar`, "a base");
      return { packages: { runc: "1" }, packageSha256 };
    },
  }, options);
  return store;
}

Deno.test("rootfsRecipes() has the base's packages in the keys of what is made from it, and not the date", async () => {
  const dir = await Deno.makeTempDir();
  const keys = async (store: ArtifactStore) => {
    const { root, images } = await rootfsRecipes({ ...options, store });
    return Object.fromEntries([root, ...images].map((one) => [one.name, recipeKey(one)]));
  };
  const none = await keys(options.store);
  const first = await keys(await storeWith(`${dir}/1`, { runc: "a" }));
  const later = await keys(await storeWith(`${dir}/2`, { runc: "a" }));
  const renewed = await keys(await storeWith(`${dir}/1`, { runc: "b" }));
  assertEquals(later, first);
  const changed = Object.keys(first).filter((name) => first[name] !== renewed[name]);
  assertEquals(changed, ["root", "image-busybox"]);
  assertEquals(Object.keys(first).filter((name) => first[name] !== none[name]), changed);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("a root image is not built from other packages than its key has", async () => {
  const dir = await Deno.makeTempDir();
  const before = await rootfsRecipes({ ...options, store: await storeWith(dir, { runc: "a" }) });
  const store = await storeWith(dir, { runc: "b" });
  const after = await rootfsRecipes({ ...options, store });
  const artifact = (await store.lookup(before.base.recipe))!;
  checkBase(after.base, artifact);
  const error = assertThrows(() => checkBase(before.base, artifact), GatewayError);
  assertEquals(error.code, "build-failed");
  const unknown = { ...before.base, record: undefined };
  assertThrows(() => checkBase(unknown, artifact), GatewayError);
  await Deno.remove(dir, { recursive: true });
});
