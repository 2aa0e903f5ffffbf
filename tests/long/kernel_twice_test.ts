/**
 * The kernel compiled a second time: the same source gives the same bytes. Takes as long as a kernel does.
 * It must not touch the built kernel of the store: the second build has a folder of its own.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { hostArch } from "../../vm/base/arch.ts";
import { kernelRecipe } from "../../kernel/kernel.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { ArtifactStore, digestFile } from "../../vm/store/artifact.ts";

const options = () => ({
  span: silentSpan(),
  signal: new AbortController().signal,
  assumeYes: true,
});

Deno.test("two builds of the kernel from one source are the same bytes", async () => {
  const store = new ArtifactStore();
  const recipe = await kernelRecipe(hostArch());
  const first = await store.ensure(recipe, options());
  const workDir = await Deno.makeTempDir({ prefix: "gateway-kernel-" });
  try {
    const outDir = join(workDir, "out");
    await Deno.mkdir(outDir);
    await recipe.build({
      ...options(),
      outDir,
      workDir,
      logPath: join(workDir, "log"),
      jobs: navigator.hardwareConcurrency,
      cacheDir: store.buildCacheDir,
      store,
    });
    for (const name of recipe.outputs) {
      assertEquals(await digestFile(join(outDir, name)), first.files[name]?.sha256, name);
    }
  } finally {
    await Deno.remove(workDir, { recursive: true });
  }
});
