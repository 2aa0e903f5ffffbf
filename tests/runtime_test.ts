/**
 * The runtime of another target, from its npm package: a fake npm gives the archive.
 *
 * @module
 */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { parseTargets, runtimeRecipe } from "../bootstrap/package/runtime.ts";
import { GatewayError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";
import { run } from "../vm/base/process.ts";
import { ArtifactStore } from "../vm/store/artifact.ts";
import { installFake, withPath } from "./fakes/install.ts";

const NAME = "@deno/linux-arm64-glibc";
const options = () => ({
  span: silentSpan(),
  signal: new AbortController().signal,
  assumeYes: false,
});

/** A store, and an npm that gives an archive with a `deno` of this text. */
async function withPackage(fn: (store: ArtifactStore, integrity: string) => Promise<void>) {
  await using fake = await installFake("npm.sh", "npm");
  const dir = await Deno.makeTempDir();
  try {
    await Deno.mkdir(join(dir, "package"));
    await Deno.writeTextFile(join(dir, "package/deno"), "the runtime\n");
    const archive = join(fake.dir, "package.tgz");
    await run("tar", { args: ["-czf", archive, "-C", dir, "package"] });
    const digest = await crypto.subtle.digest("SHA-512", await Deno.readFile(archive));
    const integrity = `sha512-${new Uint8Array(digest).toBase64()}`;
    await withPath(fake.dir, () => fn(new ArtifactStore(join(dir, "cache")), integrity));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const recipe = (integrity: string) =>
  runtimeRecipe("linux-arm64", {
    name: NAME,
    version: "1.2.3",
    integrity,
    platform: { os: "linux", arch: "arm64" },
  });

Deno.test("runtimeRecipe() takes the program out of the package with the pinned digest", () =>
  withPackage(async (store, integrity) => {
    const { files } = await store.ensure(recipe(integrity), options());
    assertEquals(await Deno.readTextFile(files.deno!.path), "the runtime\n");
  }));

Deno.test("runtimeRecipe() refuses a package with another digest, and names both", () =>
  withPackage(async (store, integrity) => {
    const error = await assertRejects(
      () => store.ensure(recipe("sha512-AAAA"), options()),
      GatewayError,
    );
    assertEquals([error.code, error.why], [
      "artifact-corrupt",
      `its digest is ${integrity} instead of sha512-AAAA`,
    ]);
    assertEquals(await store.lookup(recipe("sha512-AAAA")), undefined);
  }));

Deno.test("parseTargets() knows the targets and all of them, and names them for a wrong word", () => {
  assertEquals(parseTargets("all"), ["linux-x64", "linux-arm64", "darwin-arm64"]);
  assertEquals(parseTargets("linux-arm64"), ["linux-arm64"]);
  const { what, why, fix } = assertThrows(() => parseTargets("windows"), GatewayError);
  assertEquals([what, why, fix], [
    'Cannot compile for "windows"',
    "the targets are linux-x64, linux-arm64, darwin-arm64, all",
    "pass --target linux-x64",
  ]);
});
