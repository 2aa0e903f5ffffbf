import { assert, assertEquals, assertRejects } from "@std/assert";
import { ArtifactStore, recipeKey } from "../vm/artifact.ts";
import { GatewayError } from "../vm/error.ts";
import { silentSpan } from "../vm/event.ts";
import { rootfsRecipes } from "./recipes.ts";
import { packageVersions } from "./root_base.ts";

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
  const all = [root, base, cluster, agent, cniPlugins, ...images, helmImage];
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

Deno.test("packageVersions() reads names and versions when a status file has several packages", () => {
  const status =
    "Package: a\nStatus: install ok installed\nVersion: 1:2-3\nDescription: x\n Version: no\n\n" +
    "Package: b\nVersion: 4\n";
  assertEquals(packageVersions(status), { a: "1:2-3", b: "4" });
});
