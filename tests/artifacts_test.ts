/**
 * The artifact store under real trouble (a killed process, a full disk), and the promise that a root image is the same
 * bytes whoever builds it.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { ensureArtifacts } from "../bootstrap/artifacts/ensure.ts";
import { rootfsRecipes } from "../rootfs/recipes.ts";
import { GatewayError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";
import { run, spawnChild } from "../vm/base/process.ts";
import { waitFor } from "../vm/base/wait.ts";
import { ArtifactStore, digestFile, type Recipe } from "../vm/store/artifact.ts";

const options = () => ({
  span: silentSpan(),
  signal: new AbortController().signal,
  assumeYes: true,
});

/** A build in two parts; the first is kept in workDir, the second takes its time. */
const TWO_PARTS = `
import { ArtifactStore } from ${
  JSON.stringify(new URL("../vm/store/artifact.ts", import.meta.url).href)
};
import { silentSpan } from ${JSON.stringify(new URL("../vm/base/event.ts", import.meta.url).href)};
const [root, hang] = Deno.args;
const artifact = await new ArtifactStore(root).ensure({
  name: "slow", label: "a slow thing", inputs: {}, outputs: ["a", "b"], tools: [],
  async build({ workDir, outDir }) {
    const first = workDir + "/first";
    const resumed = await Deno.stat(first).then(() => true, () => false);
    if (!resumed) await Deno.writeTextFile(first, "1");
    await Deno.writeTextFile(outDir + "/a", "half");
    if (hang === "hang") await new Promise((resolve) => setTimeout(resolve, 60_000));
    await Deno.writeTextFile(outDir + "/b", "whole");
    return { resumed };
  },
}, { span: silentSpan(), signal: new AbortController().signal, assumeYes: false });
console.log(JSON.stringify(artifact.manifest.facts));
`;

Deno.test("a build that is killed leaves no artifact and no lock, and the next one resumes it", async () => {
  const dir = await Deno.makeTempDir();
  const script = join(dir, "build.ts");
  const root = join(dir, "store");
  await Deno.writeTextFile(script, TWO_PARTS);
  const config = fromFileUrl(new URL("../deno.json", import.meta.url));
  const args = (mode: string) => [
    ...["run", "-A", "--quiet", "--no-check", "--config", config],
    ...[script, root, mode],
  ];
  {
    await using child = spawnChild(Deno.execPath(), { args: args("hang"), ownGroup: true });
    await waitFor({
      what: "the first half",
      probe: async () => {
        for await (const entry of Deno.readDir(join(root, "work"))) {
          if (entry.isDirectory) {
            return await Deno.stat(join(root, "work", entry.name, "out", "a")).then(() => true);
          }
        }
      },
      timeoutMs: 30_000,
    });
    Deno.kill(child.pid, "SIGKILL");
    await child.exited;
  }
  const manifests = await Array.fromAsync(Deno.readDir(join(root, "artifacts"))).catch(() => []);
  assertEquals(manifests, []);
  const { stdout } = await run(Deno.execPath(), { args: args("go"), timeoutMs: 30_000 });
  assertEquals(JSON.parse(stdout), { resumed: true });
  await Deno.remove(dir, { recursive: true });
});

Deno.test("a build on a full disk says so, names the path and leaves no artifact", async () => {
  const root = await Deno.makeTempDir();
  await run("mount", { args: ["-t", "tmpfs", "-o", "size=2m", "tmpfs", root] });
  try {
    const big: Recipe = {
      name: "big",
      label: "a big thing",
      inputs: {},
      outputs: ["a"],
      tools: [],
      build: async ({ outDir }) => {
        await Deno.writeFile(join(outDir, "a"), new Uint8Array(8 << 20));
      },
    };
    const store = new ArtifactStore(root);
    const error = await assertRejects(() => store.ensure(big, options()), GatewayError);
    assertEquals(error.code, "disk-full");
    assert(error.what.includes(root), error.what);
    assertEquals(await store.lookup(big), undefined);
  } finally {
    await run("umount", { args: ["-l", root] });
    await Deno.remove(root);
  }
});

Deno.test("two builds of the root image from the same parts are the same bytes", async () => {
  const store = new ArtifactStore();
  // The base first: its packages are in the key of the root image.
  await ensureArtifacts(options());
  const { root } = await rootfsRecipes({ ...options(), store, arch: "amd64" });
  const first = await store.ensure(root, options());
  const workDir = await Deno.makeTempDir();
  const outDir = join(workDir, "out");
  await Deno.mkdir(outDir);
  await root.build({
    ...options(),
    outDir,
    workDir,
    logPath: join(workDir, "log"),
    jobs: 2,
    cacheDir: store.buildCacheDir,
    store,
  });
  for (const name of root.outputs) {
    assertEquals(await digestFile(join(outDir, name)), first.files[name]?.sha256, name);
  }
  await Deno.remove(workDir, { recursive: true });
});
