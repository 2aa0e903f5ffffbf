/**
 * Builds the fake libkrun of krun.c and reads what was called in it.
 * It must not open it: the code under test does.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { run } from "../../vm/base/process.ts";

/** A compiled fake in a folder of its own; disposing removes it. */
export class FakeKrun implements AsyncDisposable {
  private constructor(readonly dir: string, readonly path: string) {}

  /** Compiles it with cc; `defines` are OLD and NO_NET. */
  static async build(defines: readonly ("OLD" | "NO_NET")[] = []): Promise<FakeKrun> {
    const dir = await Deno.makeTempDir({ prefix: "gw-krun-" });
    const path = join(dir, "libkrun.so");
    const source = fromFileUrl(new URL("krun.c", import.meta.url));
    const flags = ["-shared", "-fPIC", "-Wall", "-Werror", ...defines.map((name) => `-D${name}`)];
    await run("cc", { args: [...flags, "-o", path, source], timeoutMs: 60_000 });
    return new FakeKrun(dir, path);
  }

  /** Puts a libkrunfw beside it and returns its path; `defines` is NO_TSI. */
  async firmware(defines: readonly "NO_TSI"[] = []): Promise<string> {
    const path = join(this.dir, "libkrunfw.so.5");
    const source = fromFileUrl(new URL("krunfw_kernel.c", import.meta.url));
    const flags = ["-shared", "-fPIC", "-Wall", "-Werror", ...defines.map((name) => `-D${name}`)];
    await run("cc", { args: [...flags, "-o", path, source], timeoutMs: 60_000 });
    return path;
  }

  /** What a process that opens the fake gets. */
  env(returns: Readonly<Record<string, number>> = {}): Record<string, string> {
    const pairs = Object.entries(returns).map(([name, code]) => `${name}=${code}`);
    return { KRUN_CALLS: join(this.dir, "calls"), KRUN_RETURNS: pairs.join(",") };
  }

  /** Makes this very process see the same. */
  script(returns: Readonly<Record<string, number>> = {}): void {
    for (const [name, value] of Object.entries(this.env(returns))) Deno.env.set(name, value);
  }

  /** The calls so far, one a line; they are forgotten then. */
  async calls(): Promise<string[]> {
    const path = join(this.dir, "calls");
    const text = await Deno.readTextFile(path).catch(() => "");
    await Deno.remove(path).catch(() => {});
    return text.split("\n").filter((line) => line !== "");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Deno.remove(this.dir, { recursive: true });
  }
}
