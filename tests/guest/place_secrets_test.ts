/**
 * The guest's program that puts changed Secrets into volumes, run on volumes as kubelet makes them.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { silentSpan } from "../../vm/base/event.ts";
import { ensureTools } from "../../vm/base/host_tools.ts";
import { run } from "../../vm/base/process.ts";
import { GUEST_DIR, TOOLS } from "./harness.ts";

/** A folder of pods with one volume, whose files kubelet has written. */
async function withVolume(
  body: (volume: string, place: (lines: string) => Promise<void>) => Promise<void>,
): Promise<void> {
  const signal = AbortSignal.timeout(600_000);
  await ensureTools(TOOLS, { span: silentSpan(), signal, assumeYes: true });
  const pods = await Deno.makeTempDir();
  try {
    const volume = join(pods, "uid-1/volumes/kubernetes.io~secret/tls");
    await Deno.mkdir(join(volume, "..2026_a"), { recursive: true });
    await Deno.writeTextFile(join(volume, "..2026_a/tls.crt"), "old", { mode: 0o644 });
    await Deno.writeTextFile(join(volume, "..2026_a/ca.crt"), "authority", { mode: 0o640 });
    await Deno.chmod(join(volume, "..2026_a/ca.crt"), 0o640);
    await Deno.symlink("..2026_a", join(volume, "..data"));
    await Deno.symlink("..data/tls.crt", join(volume, "tls.crt"));
    await Deno.symlink("..data/ca.crt", join(volume, "ca.crt"));
    await body(volume, async (lines) => {
      const args = ["ash", join(GUEST_DIR, "place-secrets"), pods];
      await run("busybox", { args, stdin: lines });
    });
  } finally {
    await Deno.remove(pods, { recursive: true });
  }
}

const entries = async (dir: string) =>
  (await Array.fromAsync(Deno.readDir(dir), ({ name }) => name)).sort();

Deno.test("place-secrets changes the files of a volume at once, and keeps the others with their modes", () =>
  withVolume(async (volume, place) => {
    const lines = [
      `uid-1 tls tls.crt ${btoa("new\n")}`,
      `uid-1 tls tls.key ${btoa("a key that the volume does not have")}`,
      `uid-1 other tls.crt ${btoa("x")}`,
      `uid-2 tls tls.crt ${btoa("x")}`,
    ];
    await place(`${lines.join("\n")}\n`);
    assertEquals(await Deno.readTextFile(join(volume, "tls.crt")), "new\n");
    assertEquals(await Deno.readTextFile(join(volume, "ca.crt")), "authority");
    const modes = ["tls.crt", "ca.crt"].map((name) =>
      Deno.statSync(join(volume, name)).mode! & 0o777
    );
    assertEquals(modes, [0o644, 0o640]);
    // One folder is in use, and nothing of before is left.
    const used = await Deno.readLink(join(volume, "..data"));
    assertEquals(await entries(volume), [used, "..data", "ca.crt", "tls.crt"].sort());
    assertEquals(await entries(join(volume, "..data")), ["ca.crt", "tls.crt"]);
    await place(`uid-1 tls tls.crt ${btoa("newer")}\n`);
    assertEquals(await Deno.readTextFile(join(volume, "tls.crt")), "newer");
    assertEquals((await entries(volume)).length, 4);
  }));

Deno.test("place-secrets without lines changes nothing", () =>
  withVolume(async (volume, place) => {
    await place("");
    assertEquals(await Deno.readLink(join(volume, "..data")), "..2026_a");
  }));
