/**
 * Our table of libkrun's functions against the source of the very crate that is built: names, number of parameters, and
 * the width of each.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { KRUN_SYMBOLS } from "../ffi/symbols.ts";
import { silentSpan } from "../vm/base/event.ts";
import { ensureTools } from "../vm/base/host_tools.ts";
import { run } from "../vm/base/process.ts";
import { LIBKRUN_CRATE, LIBKRUN_TOOLS, LIBKRUN_VERSION } from "../vm/libkrun/build.ts";

const RUST_TYPES: Readonly<Record<string, string>> = {
  "u8": "u8",
  "u32": "u32",
  "u64": "u64",
  "i32": "i32",
  "c_int": "i32",
  "libc::c_int": "i32",
  "RawFd": "i32",
  "bool": "bool",
  "*const c_char": "buffer",
  "*const libc::c_char": "buffer",
  "*const u8": "buffer",
  "*const *const c_char": "buffer",
};

interface Signature {
  readonly parameters: readonly string[];
  readonly result: string;
}

/** Every definition of every exported function; some have a second one for another build of the library. */
export function exportedFunctions(source: string): Map<string, Signature[]> {
  const found = new Map<string, Signature[]>();
  const pattern = /extern "C" fn (krun_\w+)\(([^)]*)\)\s*->\s*([\w:]+)/g;
  for (const [, name, list, result] of source.matchAll(pattern)) {
    const parameters = list!.split(",").map((text) => text.trim()).filter((text) => text !== "")
      .map((text) => {
        const type = text.slice(text.indexOf(":") + 1).trim();
        return RUST_TYPES[type] ?? `unknown type ${type}`;
      });
    const signature = { parameters, result: RUST_TYPES[result!] ?? `unknown type ${result}` };
    found.set(name!, [...found.get(name!) ?? [], signature]);
  }
  return found;
}

/** The crate's own source, downloaded by cargo if it is not there. */
async function crateSource(): Promise<string> {
  const signal = new AbortController().signal;
  await ensureTools(LIBKRUN_TOOLS, { span: silentSpan(), signal, assumeYes: true });
  const { stdout } = await run("cargo", {
    args: ["metadata", "--locked", "--format-version", "1"],
    cwd: LIBKRUN_CRATE,
    timeoutMs: 300_000,
  });
  const { packages } = JSON.parse(stdout) as {
    packages: { name: string; version: string; manifest_path: string }[];
  };
  const crate = packages.find(({ name }) => name === "libkrun")!;
  assertEquals(crate.version, LIBKRUN_VERSION);
  return await Deno.readTextFile(join(crate.manifest_path, "..", "src/lib.rs"));
}

Deno.test("every function of our table is in the crate with the same parameters", async () => {
  const functions = exportedFunctions(await crateSource());
  assert(functions.size > 50, `only ${functions.size} functions were found in the source`);
  const wrong = Object.entries(KRUN_SYMBOLS).filter(([name, symbol]) => {
    const wanted = JSON.stringify([symbol.parameters, symbol.result]);
    return !functions.get(name)?.some(({ parameters, result }) =>
      JSON.stringify([parameters, result]) === wanted
    );
  });
  assertEquals(wrong.map(([name]) => [name, functions.get(name)]), []);
});

Deno.test("exportedFunctions() sees a width that differs", () => {
  const source = `pub unsafe extern "C" fn krun_x(
    ctx_id: u32,
    c_path: *const c_char,
    on: bool,
) -> i32 {}
pub extern "C" fn krun_y() -> c_int {}
pub extern "C" fn krun_z(a: f32) -> i32 {}`;
  assertEquals([...exportedFunctions(source)], [
    ["krun_x", [{ parameters: ["u32", "buffer", "bool"], result: "i32" }]],
    ["krun_y", [{ parameters: [], result: "i32" }]],
    ["krun_z", [{ parameters: ["unknown type f32"], result: "i32" }]],
  ]);
});
