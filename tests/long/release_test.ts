/**
 * A whole release, twice: files of all targets with the real runtimes, the Mac's signed by the real rcodesign.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { checkRelease, makeRelease } from "../../bootstrap/package/release.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { run } from "../../vm/base/process.ts";
import { makeSigningKey, trustKey } from "../../vm/store/signing.ts";

const parts = { span: silentSpan(), signal: new AbortController().signal, assumeYes: true };
/** Of a file without anything embedded. */
const MAX_BYTES = 130e6;

Deno.test("a release has what it says, is accepted by its check, and is the same when it is made again", async () => {
  const top = await Deno.makeTempDir({ prefix: "gw-release-" });
  try {
    const keysDir = join(top, "keys");
    const { id, publicPath } = await makeSigningKey(keysDir);
    await trustKey(publicPath, keysDir);
    const make = async (name: string) => {
      const dir = join(top, name);
      const base = "https://example.invalid/v1";
      await makeRelease({ dir, base, embed: false, parts, keysDir });
      return dir;
    };
    const dir = await make("one");
    assertEquals(await checkRelease(dir, keysDir), `signed by ${id}, which is trusted`);
    for (const target of ["linux-x64", "linux-arm64", "darwin-arm64"]) {
      const { size } = await Deno.stat(join(dir, `gateway-${target}`));
      assert(size <= MAX_BYTES, `gateway-${target} has ${size} bytes`);
    }
    const { stdout } = await run(join(dir, "gateway-linux-x64"), {
      args: ["--version"],
      env: { XDG_CACHE_HOME: join(top, "cache") },
      timeoutMs: 60_000,
    });
    assertStringIncludes(stdout, "gateway ");
    for (const arch of ["amd64", "arm64"]) {
      const deb = [...Deno.readDirSync(dir)].find(({ name }) => name.endsWith(`_${arch}.deb`))!;
      const info = await run("dpkg-deb", {
        args: ["--field", join(dir, deb.name), "Architecture"],
      });
      assertEquals(info.stdout.trim(), arch);
    }
    const sums = await Deno.readTextFile(join(dir, "SHA256SUMS"));
    assertEquals(await Deno.readTextFile(join(await make("two"), "SHA256SUMS")), sums);
  } finally {
    await Deno.remove(top, { recursive: true });
  }
});
