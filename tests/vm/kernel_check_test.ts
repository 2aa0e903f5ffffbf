/**
 * A guest whose kernel lacks a required option, for real: a copy of this program whose list asks for one that no kernel
 * has, its image, and `up`.
 * It must not leave the image behind: it is of no use to anybody else.
 *
 * @module
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { dirname, fromFileUrl, join } from "@std/path";
import { readEvents } from "../../bootstrap/inspect/status.ts";
import { run } from "../../vm/base/process.ts";
import { ArtifactStore } from "../../vm/store/artifact.ts";
import { freePort, TestHome } from "./harness.ts";

const PROJECT = fromFileUrl(new URL("../..", import.meta.url));
const PARTS = ["deno.json", "deno.lock", "cli.ts", "mod.ts"]
  .concat(["ffi", "vm", "net", "bootstrap", "rootfs", "kernel"]);
const ROW = "required\tboot.missing\tCONFIG_GATEWAY_NO_SUCH_OPTION\tnothing at all works\n";

Deno.test("up stops at the first look when the kernel lacks a required option, and names it", async () => {
  await using home = await TestHome.make();
  const copy = join(home.home, "project");
  await Deno.mkdir(copy);
  await run("cp", { args: ["-r", ...PARTS.map((part) => join(PROJECT, part)), copy] });
  await Deno.writeTextFile(join(copy, "kernel/capabilities.tsv"), ROW, { append: true });
  const gateway = async (...args: string[]) =>
    await run(Deno.execPath(), {
      args: ["run", "-A", "--quiet", "--no-check", "--config", join(copy, "deno.json")]
        .concat(join(copy, "cli.ts"), args),
      env: home.env,
      check: false,
      timeoutMs: 75 * 60_000,
    });
  const built = await gateway("build", "root", "--json");
  assertEquals(built.code, 0, built.stderr);
  try {
    const { code, stderr } = await gateway("up", "--cold", "--port", `${freePort()}:30051`);
    assertEquals(code, 1, stderr);
    assertStringIncludes(
      stderr,
      "why: CONFIG_GATEWAY_NO_SUCH_OPTION is not in this kernel: nothing at all works",
    );
    const dir = join(home.home, "data/gateway/instances/default");
    const events = await readEvents(join(dir, "events.jsonl"));
    const stations = events.flatMap(({ kind, name }) => kind === "start" ? [name] : []);
    assertEquals(stations.slice(stations.indexOf("guest up")), ["guest up"]);
    await home.assertClean();
  } finally {
    await forget(built.stdout);
  }
});

/** Removes the image from the store. */
async function forget(builtJson: string): Promise<void> {
  const files: { artifact: string; path: string }[] = JSON.parse(builtJson);
  const image = files.find(({ path }) => path.endsWith("root.erofs"))!.path;
  const manifests = dirname(new ArtifactStore().manifestPath("root", "0".repeat(64)));
  for (const { name } of [...Deno.readDirSync(manifests)]) {
    const path = join(manifests, name);
    if (!name.endsWith(".json") || !name.startsWith("root-")) continue;
    if ((await Deno.readTextFile(path)).includes(dirname(image).split("/").at(-1)!)) {
      await Deno.remove(path);
    }
  }
  await Deno.remove(dirname(image), { recursive: true });
}
