/**
 * Signed images end to end, with the real command line and real images in a cache of the test's own: what was signed
 * boots, and one flipped byte anywhere, or another key, does not.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { basename, join } from "@std/path";
import { ensureArtifacts } from "../../bootstrap/artifacts/ensure.ts";
import { rootfsRecipes } from "../../rootfs/recipes.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { cacheDir } from "../../vm/base/layout.ts";
import { type Artifact, ArtifactStore } from "../../vm/store/artifact.ts";
import { TestHome } from "./harness.ts";
import { flipByte } from "./instance_files.ts";

const OPTIONS = {
  span: silentSpan(),
  signal: new AbortController().signal,
  assumeYes: true,
};
const EXEC = ["--exec", "/bin/true"];

/** A cache with copies of what boots, since others use the real one. */
async function ownCache(
  home: TestHome,
): Promise<{ cache: string; kernel: Artifact; root: Artifact }> {
  const set = await ensureArtifacts(OPTIONS);
  const artifacts = [set.kernel, set.root, set.gvproxy, set.tsc!, set.ramshim!];
  const cache = join(home.home, "cache");
  const real = new ArtifactStore();
  const own = new ArtifactStore(join(cache, "gateway"));
  const { base } = await rootfsRecipes({ ...OPTIONS, store: real, arch: "amd64" });
  const record = await real.ensure(base.recipe, OPTIONS);
  for (const artifact of [...artifacts, record]) {
    const { name, key, files } = artifact;
    await Deno.mkdir(join(own.manifestPath(name, key), ".."), { recursive: true });
    await Deno.copyFile(real.manifestPath(name, key), own.manifestPath(name, key));
    for (const { path } of Object.values(files)) {
      const to = path.replace(cacheDir(), own.root);
      assert(to !== path);
      await Deno.mkdir(join(to, ".."), { recursive: true });
      await Deno.copyFile(path, to);
    }
  }
  return { cache, kernel: set.kernel, root: set.root };
}

Deno.test("signed images", async (t) => {
  await using home = await TestHome.make();
  const { cache, kernel, root } = await ownCache(home);
  const env = { XDG_CACHE_HOME: cache };
  const call = (...args: string[]) => home.call(args, { env, timeoutMs: 120_000 });
  const own = new ArtifactStore(join(cache, "gateway"));
  const pathOf = (artifact: Artifact, file: string) =>
    artifact.files[file]!.path.replace(cacheDir(), own.root);
  const manifest = own.manifestPath(root.name, root.key);

  await t.step("without a trusted key nothing is asked for, and unsigned images boot", async () => {
    assertEquals((await call(...EXEC)).code, 0);
    assertStringIncludes((await call("keys", "list")).stdout, "none: no signature is asked for");
  });

  await t.step("with a trusted key unsigned images do not boot, and signed ones do", async () => {
    const { stdout } = await call("keys", "make", "--json");
    const { publicPath } = JSON.parse(stdout);
    assertEquals((await call("keys", "trust", publicPath)).code, 0);
    const unsigned = await call(...EXEC);
    assertEquals(unsigned.code, 1);
    assertMatch(unsigned.stderr, /Cannot trust .*\n {2}why: there is no ".*\.json\.sig"/);
    const signed = await call("keys", "sign");
    assertEquals([signed.code, signed.stdout], [
      0,
      "signed kernel, root, gvproxy, tsckhz, ramshim, root-base\n",
    ]);
    const again = await call(...EXEC);
    assertEquals([again.code, again.stderr], [0, ""]);
  });

  for (
    const [what, path] of [
      ["kernel", pathOf(kernel, "vmlinux")],
      ["root image", pathOf(root, "root.erofs")],
      ["manifest", manifest],
      ["signature", `${manifest}.sig`],
    ] as const
  ) {
    await t.step(
      `a flipped byte in the ${what} is refused by name, and nothing is started`,
      async () => {
        await flipByte(path);
        const { code, stderr } = await call(...EXEC);
        await flipByte(path);
        assertEquals(code, 1);
        assertStringIncludes(stderr, basename(path));
        const digests = new Set(stderr.match(/[0-9a-f]{64}/g));
        // Of a signature's byte nothing more is known than that it does not fit.
        assert(digests.size >= (what === "signature" ? 0 : 2), stderr);
        assert(!stderr.includes("again;"), stderr);
        assertEquals(home.processes(), []);
      },
    );
  }

  await t.step("what was put back boots, and another trusted key refuses it", async () => {
    assertEquals((await call(...EXEC)).code, 0);
    const config = join(home.home, "config");
    await Deno.rename(join(config, "gateway/keys"), join(config, "gateway/before"));
    const { publicPath } = JSON.parse((await call("keys", "make", "--json")).stdout);
    await call("keys", "trust", publicPath);
    const { code, stderr } = await call(...EXEC);
    assertEquals(code, 1);
    assertStringIncludes(stderr, "which is not trusted");
  });
});
