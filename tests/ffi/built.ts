/**
 * What the tests of this folder find in dist/ffi, and how they talk to a fake library within a process that may only read
 * files and call into libraries: libc sets its variables and makes its files.
 * It must not build anything: build.ts does.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";

/** Where build.ts puts everything. */
export const BUILT_DIR = fromFileUrl(new URL("../../dist/ffi", import.meta.url));
/** What build.ts could make, as {@linkcode Built}. */
export const BUILT_FILE = join(BUILT_DIR, "built.json");
/** A library whose name has its version. */
export const OLD_NAME = "libkrun.so.1.9.8";

/** What was built besides the fakes. */
export interface Built {
  /** The real libkrun, or why it is not there. */
  readonly real: { readonly path: string } | { readonly missing: string };
}

const LIBC = Deno.build.os === "darwin" ? "/usr/lib/libSystem.B.dylib" : "libc.so.6";

function readBuilt(): Built | undefined {
  try {
    return JSON.parse(Deno.readTextFileSync(BUILT_FILE));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

const built = readBuilt();
const NOT_BUILT = built ? undefined : "dist/ffi is not there: run `deno task test:ffi`";
const real = built?.real;
const NO_REAL = NOT_BUILT ??
  (real && "missing" in real ? `no libkrun: ${real.missing}` : undefined);

function test(missing: string | undefined, name: string, fn: () => void | Promise<void>): void {
  Deno.test({
    name: missing === undefined ? name : `${name} (skipped: ${missing})`,
    ignore: missing !== undefined,
    fn,
  });
}

/** A test that needs the fakes; skipped with the reason where they are not built. */
export function testWithFakes(name: string, fn: () => void | Promise<void>): void {
  test(NOT_BUILT, name, fn);
}

/** A test that needs the real libkrun; skipped with the reason where there is none. */
export function testWithReal(name: string, fn: (path: string) => void | Promise<void>): void {
  test(NO_REAL, name, () => fn((real as { path: string }).path));
}

/** A string as C wants it. */
export const cText = (value: string) => new TextEncoder().encode(value + "\0");

/** The C library, with what a test needs of it; disposing closes it. */
export function openLibc() {
  const library = Deno.dlopen(LIBC, {
    setenv: { parameters: ["buffer", "buffer", "i32"], result: "i32" },
    unlink: { parameters: ["buffer"], result: "i32" },
    socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
    connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
    read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
    pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
    write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
    close: { parameters: ["i32"], result: "i32" },
  });
  return { ...library.symbols, [Symbol.dispose]: () => library.close() };
}

let scripts = 0;

/** Calls into a fake library of this process, from here on. */
export class FakeCalls implements Disposable {
  readonly #libc = openLibc();
  readonly #path = join(BUILT_DIR, `calls-${Deno.pid}-${scripts++}`);

  /** `returns` says what functions return instead of their usual value. */
  constructor(returns: Readonly<Record<string, number>> = {}) {
    const pairs = Object.entries(returns).map(([name, code]) => `${name}=${code}`);
    this.#set("KRUN_CALLS", this.#path);
    this.#set("KRUN_RETURNS", pairs.join(","));
  }

  #set(name: string, value: string): void {
    this.#libc.setenv(cText(name), cText(value), 1);
  }

  /** The calls so far; they are forgotten then. */
  take(): string[] {
    try {
      return Deno.readTextFileSync(this.#path).split("\n").filter((line) => line !== "");
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    } finally {
      this.#libc.unlink(cText(this.#path));
    }
  }

  [Symbol.dispose](): void {
    this.#libc.unlink(cText(this.#path));
    this.#libc[Symbol.dispose]();
  }
}
