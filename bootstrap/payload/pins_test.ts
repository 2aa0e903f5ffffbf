import { assertEquals, assertMatch, assertNotEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { tempDir } from "../../tests/fakes/temp_dir.ts";
import { digestBytes } from "../../vm/base/digest.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { exists } from "../../vm/base/layout.ts";
import { defaultPayload } from "./choose.ts";
import { missingPins, OPENSHELL_DIR, pinnedFolder, pinOpenshell } from "./pins.ts";

const DIGEST = `sha256:${"0".repeat(64)}`;
const MANIFEST = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: other\n";
const options = { span: silentSpan(), signal: new AbortController().signal, assumeYes: false };

/** A copy of the program's own payload whose lock file is changed. */
// deno-lint-ignore no-explicit-any
async function copy(change: (lock: any) => void): Promise<string> {
  const dir = await tempDir();
  await Deno.copyFile(join(OPENSHELL_DIR, "payload.yaml"), join(dir, "payload.yaml"));
  const lock = JSON.parse(await Deno.readTextFile(join(OPENSHELL_DIR, "lock.json")));
  change(lock);
  await Deno.writeTextFile(join(dir, "lock.json"), JSON.stringify(lock));
  return dir;
}

/** Runs with a data folder of its own; gives it. */
async function withData(fn: (data: string) => Promise<void>): Promise<void> {
  const data = await Deno.makeTempDir();
  const before = Deno.env.get("XDG_DATA_HOME");
  Deno.env.set("XDG_DATA_HOME", data);
  try {
    await fn(data);
  } finally {
    before === undefined ? Deno.env.delete("XDG_DATA_HOME") : Deno.env.set("XDG_DATA_HOME", before);
    await Deno.remove(data, { recursive: true });
  }
}

Deno.test("a lock file with all its digests is what counts, and nothing is noted or asked", async () => {
  const builtIn = await copy((lock) => {
    for (const one of [lock.chart, ...lock.images]) one.digest = DIGEST;
    lock.manifests[0].sha256 = digestBytes(MANIFEST);
  });
  await withData(async (data) => {
    assertEquals(await missingPins(builtIn), []);
    assertEquals(await pinnedFolder(builtIn), builtIn);
    assertEquals(await pinOpenshell({ ...options, builtIn }), builtIn);
    assertEquals(await defaultPayload(builtIn), { source: "openshell", why: undefined });
    assertEquals(await exists(join(data, "gateway")), false);
  });
});

Deno.test("missingPins() names what has no digest, and the folder is none until it is noted", async () => {
  const builtIn = await copy((lock) => {
    lock.chart.digest = DIGEST;
    for (const one of lock.images) one.digest = one.name === "sandbox" ? null : DIGEST;
    lock.manifests[0].sha256 = null;
  });
  await withData(async () => {
    assertEquals(await missingPins(builtIn), ["sandbox", "agent-sandbox.yaml"]);
    assertEquals(await pinnedFolder(builtIn), undefined);
  });
});

Deno.test("pinOpenshell() keeps nothing when a part cannot be had", async () => {
  const leading = async (url: string) =>
    await copy((lock) => {
      for (const one of [lock.chart, ...lock.images]) one.digest = DIGEST;
      Object.assign(lock.manifests[0], { url, sha256: null });
    });
  await withData(async (data) => {
    for (
      const [url, code] of [
        ["https://127.0.0.1:1/manifest.yaml", "registry-unreachable"],
        ["http://127.0.0.1:1/manifest.yaml", "registry-untrusted"],
      ] as const
    ) {
      const builtIn = await leading(url);
      const error = await assertRejects(
        () => pinOpenshell({ ...options, builtIn }),
        GatewayError,
      );
      assertEquals([error.code, error.what], [code, `Cannot download "${url}"`]);
    }
    assertEquals(await exists(join(data, "gateway/payloads")), false);
  });
});

Deno.test("a pinned folder that somebody changed is refused with its path", async () => {
  const builtIn = await copy((lock) => lock.manifests[0].sha256 = null);
  const other = await copy((lock) => lock.chart.version = "2");
  await withData(async (data) => {
    // What a start would have noted, with one digest too few.
    const error = await assertRejects(async () => {
      for (const dir of [builtIn, other]) {
        const texts = ["payload.yaml", "lock.json"].map((name) =>
          Deno.readTextFile(join(dir, name))
        );
        const sum = digestBytes((await Promise.all(texts)).join("\0")).slice(0, 12);
        await Deno.mkdir(join(data, "gateway/payloads", `openshell-${sum}`), { recursive: true });
        await Deno.copyFile(
          join(dir, "lock.json"),
          join(data, "gateway/payloads", `openshell-${sum}`, "lock.json"),
        );
      }
      await pinnedFolder(builtIn);
    }, GatewayError);
    const found = [...Deno.readDirSync(join(data, "gateway/payloads"))].map(({ name }) => name);
    // Another version of the program has another folder.
    assertNotEquals(found[0], found[1]);
    assertEquals(error.code, "payload-invalid");
    assertMatch(error.what, /gateway\/payloads\/openshell-[0-9a-f]{12}"$/);
    assertMatch(error.fix, /^remove that folder/);
  });
});
