// deno-lint-ignore-file no-console
/**
 * Prints the key of every recipe: what a bundle of it says is compared with what the sources say.
 *
 * @module
 */
import { stockRecipes } from "../../bootstrap/inspect/start_artifacts.ts";
import { kernelRecipe } from "../../kernel/kernel.ts";
import { krunfwRecipe } from "../../kernel/krunfw.ts";
import { pullerRecipe } from "../../rootfs/images/pulled.ts";
import { rootfsRecipes } from "../../rootfs/recipes.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { libkrunRecipe } from "../../vm/libkrun/build.ts";
import { ArtifactStore, recipeKey } from "../../vm/store/artifact.ts";

const options = { span: silentSpan(), signal: new AbortController().signal };
const store = new ArtifactStore();
const stock = await stockRecipes(store, options);
const { base: { recipe: base }, cluster, agent, cniPlugins, images } = await rootfsRecipes({
  ...options,
  store,
  arch: "amd64",
  assumeYes: false,
});
const recipes = [
  ...[...stock, base, cluster, agent, cniPlugins, ...images, await libkrunRecipe("x86_64")],
  ...[await kernelRecipe("arm64"), await krunfwRecipe(stock[0]!), await pullerRecipe()],
];
console.log(recipes.map((recipe) => `${recipe.name} ${recipeKey(recipe)}`).sort().join("\n"));
