import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { pulledChartRecipe, pulledImageRecipe, pullerRecipe } from "../../rootfs/images/pulled.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { sourcePath } from "../../vm/base/source.ts";
import { type Artifact, ArtifactStore, type Recipe } from "../../vm/store/artifact.ts";
import { Embedded } from "../../vm/store/embedded.ts";
import { makeSigningKey, trustKey } from "../../vm/store/signing.ts";
import { hostFacts, resolveOptions } from "../plan/options.ts";
import { goldenDiskRecipe } from "../saved/golden_disk.ts";
import { signAll } from "./keys.ts";
import { optionalRecipes, stockRecipes } from "./start_artifacts.ts";

const how = { span: silentSpan(), signal: new AbortController().signal, assumeYes: false };
const embedded = () => Promise.resolve(new Embedded("", []));

/** A store without signatures, whose recipes are replaced by stand-ins that leave one line in each output. */
async function filledStore(dir: string): Promise<{ recipes: Recipe[]; unsigned: ArtifactStore }> {
  const unsigned = new ArtifactStore(join(dir, "cache"), { keysDir: join(dir, "none"), embedded });
  const make = (recipe: Recipe) =>
    unsigned.ensure({
      ...recipe,
      tools: [],
      build: async ({ outDir }) => {
        for (const name of recipe.outputs) {
          await Deno.writeTextFile(join(outDir, name), recipe.name);
        }
      },
    }, how);
  // Its packages are in the keys of others.
  await make((await optionalRecipes(unsigned, how)).find(({ name }) => name === "root-base")!);
  const recipes = [...await stockRecipes(unsigned, how), ...await optionalRecipes(unsigned, how)];
  const made: Artifact[] = [];
  for (const recipe of recipes) made.push(await make(recipe));
  const images = { kernel: made[0]!, root: made[1]! };
  const puller = await pullerRecipe();
  const pinned = {
    ref: "registry.example/one:1",
    digest: `sha256:${"0".repeat(64)}`,
    access: { registries: null, caFiles: [], settings: "" },
    puller,
    assumeYes: false,
  };
  const { config } = resolveOptions({ name: "golden", assumeYes: false }, hostFacts());
  const chosen = [
    pulledImageRecipe({ ...pinned, arch: "amd64" }),
    pulledChartRecipe({ ...pinned, ref: "registry.example/chart:1" }),
    goldenDiskRecipe(images, config),
    goldenDiskRecipe(images, { ...config, stateMiB: config.stateMiB + 1024 }),
  ];
  for (const recipe of chosen) await make(recipe);
  return { recipes: [...recipes, ...chosen], unsigned };
}

/** The keys of the signer, and those of a machine that trusts the signer and does not have the secret key. */
async function twoKeyFolders(dir: string): Promise<{ signer: string; trusting: string }> {
  const [signer, trusting] = [join(dir, "signer"), join(dir, "trusting")];
  const { publicPath } = await makeSigningKey(signer);
  for (const keys of [signer, trusting]) await trustKey(publicPath, keys);
  return { signer, trusting };
}

const signer = (dir: string, keysDir: string) =>
  new ArtifactStore(join(dir, "cache"), { keysDir, embedded, repair: true });

Deno.test("signAll() covers every artifact that a start may take where the secret key is elsewhere", async () => {
  const dir = await Deno.makeTempDir();
  const { recipes } = await filledStore(dir);
  const keys = await twoKeyFolders(dir);
  const signed = await signAll({ ...how, store: signer(dir, keys.signer) });
  assertEquals(signed.sort(), recipes.map(({ name }) => name).sort());
  const store = new ArtifactStore(join(dir, "cache"), { keysDir: keys.trusting, embedded });
  for (const recipe of recipes) {
    const build = () => Promise.reject(new Error(`${recipe.name} was built`));
    await store.ensure({ ...recipe, build }, how);
  }
  await Deno.remove(dir, { recursive: true });
});

Deno.test("signAll() leaves what only some starts take unsigned when it was changed", async () => {
  const dir = await Deno.makeTempDir();
  const { recipes, unsigned } = await filledStore(dir);
  const keys = await twoKeyFolders(dir);
  const image = recipes.find(({ name }) => name.startsWith("pulled-"))!;
  const { files } = (await unsigned.lookup(image))!;
  await Deno.writeTextFile(files["image.tar"]!.path, "changed!");
  const signed = await signAll({ ...how, store: signer(dir, keys.signer) });
  assertEquals(signed.length, recipes.length - 1);
  assert(!signed.includes(image.name));
  await Deno.remove(dir, { recursive: true });
});

Deno.test("signAll() does not sign a manifest again that was changed after it had been signed", async () => {
  const dir = await Deno.makeTempDir();
  const { recipes, unsigned } = await filledStore(dir);
  const keys = await twoKeyFolders(dir);
  await signAll({ ...how, store: signer(dir, keys.signer) });
  const change = async (name: string) => {
    const artifact = (await unsigned.lookup(recipes.find((one) => one.name === name)!))!;
    const path = unsigned.manifestPath(name, artifact.key);
    await Deno.writeTextFile(path, `${await Deno.readTextFile(path)} `);
  };
  await change("golden");
  const signed = await signAll({ ...how, store: signer(dir, keys.signer) });
  assertEquals(signed.filter((name) => name === "golden").length, 1);
  await change("kernel");
  const error = await assertRejects(
    () => signAll({ ...how, store: signer(dir, keys.signer) }),
    GatewayError,
  );
  assertEquals(error.code, "signature-invalid");
  await Deno.remove(dir, { recursive: true });
});

/** Recipes that a start does not take from the store by themselves, and why. */
const NOT_TAKEN: Readonly<Record<string, string>> = {
  agentRecipe: "a part of the root image",
  cniRecipe: "a part of the root image",
  goRecipe: "makes recipes of Go programs",
  guestGoRecipe: "makes recipes of Go programs",
  imageRecipe: "makes recipes of container images",
  krunfwRecipe: "for other tools; nothing here boots from it",
  packerRecipe: "builds container images",
  runtimeRecipe: "goes into the one file; nothing here starts it",
  signerRecipe: "signs what goes into the Mac's file",
};

/** Recipes that the table names by what they make. */
const BY_FIELD: Readonly<Record<string, string>> = {
  kernelRecipe: "kernel",
  rootBaseRecipe: "rootfs.base.recipe",
  rootImageRecipe: "rootfs.root",
  gvproxyRecipe: "gvproxy",
  tscRecipe: "ofLinux",
  ramshimRecipe: "ofLinux",
  helmImageRecipe: "rootfs.helmImage",
  pulledImageRecipe: "PULLED_PREFIX",
  pulledChartRecipe: "PULLED_PREFIX",
  wantedRecipe: "PULLED_PREFIX",
  goldenDiskRecipe: "isGoldenDiskOf",
};

Deno.test("the table of a start's artifacts names every recipe but those with a reason", async () => {
  const table = await Deno.readTextFile(sourcePath("bootstrap/inspect/start_artifacts.ts"));
  const made = new Set<string>();
  const walk = async (dir: string) => {
    for await (const { name, isDirectory } of Deno.readDir(dir)) {
      if (isDirectory) await walk(join(dir, name));
      if (!/^(?!.*_test\.ts$).*\.ts$/.test(name)) continue;
      const text = await Deno.readTextFile(join(dir, name));
      for (const [, found] of text.matchAll(/^export (?:async )?function (\w+Recipe)\(/gm)) {
        made.add(found!);
      }
    }
  };
  for (const room of ["vm", "net", "rootfs", "kernel", "bootstrap"]) await walk(sourcePath(room));
  const missing = [...made].filter((name) =>
    !(name in NOT_TAKEN) && !new RegExp(`\\b${BY_FIELD[name] ?? name}\\b`).test(table)
  );
  assertEquals(missing, []);
  const gone = [...Object.keys(NOT_TAKEN), ...Object.keys(BY_FIELD)].filter((name) =>
    !made.has(name)
  );
  assertEquals(gone, []);
});
