/**
 * Processes in which the memory library runs, as it does in a VMM, built for the tests.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { silentSpan } from "../../vm/base/event.ts";
import { readLines, writeAll } from "../../vm/base/lines.ts";
import { run, spawnChild } from "../../vm/base/process.ts";
import { type LayerMode } from "../../vm/machine/vmm.ts";
import { preloading } from "../../vm/qemu/driver.ts";
import { saveLayer } from "../../vm/qemu/ram_layer.ts";
import { ramshimRecipe } from "../../vm/qemu/ramshim.ts";
import { ramSocket } from "../../vm/qemu/save.ts";
import { ArtifactStore } from "../../vm/store/artifact.ts";

const signal = new AbortController().signal;
const SOURCE = fromFileUrl(new URL("ramuser.c", import.meta.url));

/** The library, built for the tests. */
export const ramshim = (await new ArtifactStore().ensure(await ramshimRecipe(), {
  span: silentSpan(),
  signal,
  assumeYes: true,
})).files["ramshim.so"]!.path;

/** A folder, and processes in it whose memory is made of layers. */
export class Place implements AsyncDisposable {
  #stack = new AsyncDisposableStack();
  #count = 0;

  private constructor(private readonly top: string, readonly dir: string) {}

  static async make(): Promise<Place> {
    // As a home may be called; the loader, QEMU and ours each have a grammar that one of these letters belongs to.
    const top = await Deno.makeTempDir({ prefix: "ram-" });
    const dir = join(top, "ü :,%$");
    await Deno.mkdir(dir);
    await Deno.copyFile(ramshim, join(dir, "ramshim.so"));
    await run("cc", { args: ["-O1", "-rdynamic", "-pthread", "-o", join(dir, "user"), SOURCE] });
    return new Place(top, dir);
  }

  /** Starts one. Its first line tells whether the memory could be mapped. */
  async start(
    layers: readonly string[],
    options: { readonly confine?: readonly string[]; readonly env?: Record<string, string> } = {},
  ) {
    const id = this.#count++;
    const runtimeDir = join(this.dir, `run${id}`);
    await Deno.mkdir(runtimeDir);
    const socket = ramSocket({ runtimeDir });
    const library = join(this.dir, "ramshim.so");
    const { preload, env, ...where } = preloading(
      { runtimeDir, ram: { layers: [...layers] } },
      library,
      options.confine ??
        ["read /usr", "read /lib", "read /lib64", "read /proc", `make ${this.dir}`],
    );
    const child = this.#stack.use(spawnChild(join(this.dir, "user"), {
      args: [],
      ...where,
      env: { ...env, ...options.env, LD_PRELOAD: preload! },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }));
    const stderr = new Response(child.stderr).text();
    const lines = readLines(child.stdout!);
    const writer = child.stdin!.getWriter();
    this.#stack.defer(() => writer.close().catch(() => {}));
    const first = (await lines.next()).value;
    const ask = async (line: string) => {
      await writeAll(
        { write: (data) => writer.write(data).then(() => data.length) },
        new TextEncoder().encode(line + "\n"),
      );
      return (await lines.next()).value as string;
    };
    const save = async (name: string, mode: LayerMode, adopt = false) => {
      const path = join(this.dir, name);
      const begun = this.#stack.use(await saveLayer(socket, path, { mode, adopt }, signal));
      return { path, begun };
    };
    return { first, ask, save, socket, stderr, pid: child.pid, exited: child.exited };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
    await Deno.remove(this.top, { recursive: true });
  }
}

export type Running = Awaited<ReturnType<Place["start"]>>;
