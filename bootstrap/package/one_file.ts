/**
 * The one file: header, runtime, program. Equal sources and an equal runtime give equal bytes.
 * It must not hold what the header does when it runs.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { ownVersion } from "../../vm/builder.ts";
import { digestBytes, digestFile } from "../../vm/digest.ts";
import { packTar } from "../tar.ts";
import { filesBelow, makeApp } from "./app.ts";
import { headerText } from "./header.ts";

/** Makes the file at a path. */
export async function makeOneFile(path: string, signal: AbortSignal): Promise<void> {
  await Deno.mkdir(dirname(path), { recursive: true });
  const work = await Deno.makeTempDir({ dir: dirname(path), prefix: ".one-" });
  try {
    const app = join(work, "app");
    await makeApp(app, {
      built: `one file, of the runtime's own program and deno bundle ${Deno.version.deno}`,
      signal,
    });
    const tar = await packTar(
      await Promise.all((await filesBelow(app)).map(async (name) => {
        const { mode } = await Deno.stat(join(app, name));
        // Recipes count whether a file is executable, and nothing else of its mode.
        const executable = ((mode ?? 0) & 0o111) !== 0;
        return {
          name,
          data: await Deno.readFile(join(app, name)),
          mode: executable ? 0o755 : 0o644,
        };
      })),
    );
    const runtime = await Deno.stat(Deno.execPath());
    const parts = {
      runtime: { sha256: await digestFile(Deno.execPath()), sizeBytes: runtime.size },
      app: { sha256: digestBytes(tar), sizeBytes: tar.length },
    };
    const key = digestBytes(parts.runtime.sha256 + parts.app.sha256).slice(0, 16);
    const made = join(work, "gateway");
    {
      using file = await Deno.open(made, { write: true, createNew: true });
      const write = async (bytes: Uint8Array) => {
        for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
      };
      await write(
        new TextEncoder().encode(headerText({ version: await ownVersion(), key, ...parts })),
      );
      using program = await Deno.open(Deno.execPath());
      for await (const piece of program.readable) await write(piece);
      await write(tar);
    }
    await Deno.chmod(made, 0o755);
    await Deno.rename(made, path);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}
