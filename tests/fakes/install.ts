/**
 * Puts a fake program into a folder of its own, so that it can be steered by files beside it.
 * It must not touch the folder the fakes are kept in.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";

/** A fake in its folder; disposing removes it. */
export interface Fake extends AsyncDisposable {
  /** Holds the program and its files. */
  readonly dir: string;
  /** The program. */
  readonly path: string;
  /** Writes a file beside the program. */
  set(file: string, text: string): Promise<void>;
  /** Reads a file beside the program, "" when there is none. */
  get(file: string): Promise<string>;
}

/** Copies `tests/fakes/SCRIPT` to a new folder under the name `program`. */
export async function installFake(script: string, program: string): Promise<Fake> {
  const dir = await Deno.makeTempDir({ prefix: "gw-fake-" });
  const path = join(dir, program);
  await Deno.copyFile(fromFileUrl(new URL(script, import.meta.url)), path);
  await Deno.chmod(path, 0o755);
  return {
    dir,
    path,
    set: (file, text) => Deno.writeTextFile(join(dir, file), text),
    get: (file) => Deno.readTextFile(join(dir, file)).catch(() => ""),
    [Symbol.asyncDispose]: () => Deno.remove(dir, { recursive: true }),
  };
}

/** Runs `body` with the folder first on PATH (or as all of it). */
export async function withPath(
  dir: string,
  body: () => Promise<void>,
  only = false,
): Promise<void> {
  const before = Deno.env.get("PATH") ?? "";
  Deno.env.set("PATH", only ? dir : `${dir}:${before}`);
  try {
    await body();
  } finally {
    Deno.env.set("PATH", before);
  }
}
