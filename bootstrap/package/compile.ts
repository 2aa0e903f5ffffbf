/**
 * `deno task compile`: with `deno compile` where its runtime is to be had, else as the one file; what is
 * to be embedded needs the one file.
 * It must not print.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { GatewayError } from "../../vm/base/error.ts";
import { run } from "../../vm/base/process.ts";
import { RECORD_PATH, sourcePath } from "../../vm/base/source.ts";
import { signProgram } from "../../vm/libkrun/signed_runtime.ts";
import { carriedFiles, writeRecord } from "./app.ts";
import { packForEmbedding } from "./embed.ts";
import { makeOneFile } from "./one_file.ts";
import { HOST_TARGET, type PartOptions, platformOf, runtimeFor, type Target } from "./runtime.ts";

/** How {@linkcode compile} may act. */
export interface CompileOptions {
  /** What to make. */
  readonly path: string;
  readonly signal: AbortSignal;
  /** Gets what is to be known about the way that was taken. */
  readonly say: (text: string) => void;
  /** Put in what a start needs, and the golden disk if it was built; only the one file can hold it. */
  readonly embed?: boolean;
  /** The deno that compiles; the one that runs by default. */
  readonly deno?: string;
  /** The system that makes it. */
  readonly os?: string;
  /** What it is made for; this host by default. Another's runtime is got as `runtime` says. */
  readonly target?: Target;
  /** How what has to be got or built first may be; with `embed` and for another target it is needed. */
  readonly parts?: PartOptions;
}

/** The arguments of `deno compile`: recipes need their files on disk, so the program unpacks itself. */
function compileArgs(path: string, included: readonly string[]): string[] {
  return [
    ...["compile", "-A", "--quiet", "--no-check", "--self-extracting", "--output", path],
    ...included.flatMap((name) => ["--include", name]),
    "cli.ts",
  ];
}

/** Makes the program. */
export async function compile(options: CompileOptions): Promise<void> {
  const { path, signal, say, deno = Deno.execPath(), os = Deno.build.os } = options;
  const { target = HOST_TARGET, embed = false } = options;
  if (embed || target !== HOST_TARGET) {
    const parts = options.parts!;
    if (os !== "linux") throw onlyLinux("images and files for other systems are made there only");
    const packed = embed ? await packForEmbedding(platformOf(target), parts) : [];
    await makeOneFile(path, signal, packed, await runtimeFor(target, parts));
    const names = packed.map(({ manifest }) => manifest.name);
    const within = names.length > 0 ? `, with ${names.join(", ")} in it` : "";
    return say(`${path}: made of the runtime for ${target}, and deno bundle${within}`);
  }
  const missing = await whyNoCompile(deno, signal);
  if (missing === undefined) {
    await writeRecord(sourcePath("."), `deno compile ${Deno.version.deno}`, signal);
    await run(deno, {
      args: compileArgs(path, [...await carriedFiles(), RECORD_PATH]),
      cwd: sourcePath("."),
      signal,
      timeoutMs: 10 * 60_000,
      what: "Cannot compile the program",
    });
    // It is the process that becomes the VM, so it needs the right to make one.
    if (os === "darwin") await signProgram(path, `${path}.entitlements`);
    return say(`${path}: made by deno compile`);
  }
  if (os !== "linux") {
    throw onlyLinux(`deno compile does not work here: ${missing}`);
  }
  say(`deno compile does not work here: ${missing}`);
  await makeOneFile(path, signal);
  say(`${path}: made of the runtime that runs this, and deno bundle`);
}

function onlyLinux(why: string): GatewayError {
  return new GatewayError({
    code: "host-unsupported",
    what: "Cannot put the one file together",
    why: `that way is for Linux, and ${why}`,
    fix: "use a Linux host, or let this one reach the place that deno's own releases come from",
  });
}

/** Compiles an empty program; undefined when that works, else what deno said. */
async function whyNoCompile(deno: string, signal: AbortSignal): Promise<string | undefined> {
  const dir = await Deno.makeTempDir({ prefix: "gw-compile-" });
  try {
    const entry = join(dir, "empty.ts");
    await Deno.writeTextFile(entry, "export {};\n");
    const { code, stderr } = await run(deno, {
      args: ["compile", "--quiet", "--no-config", "--output", join(dir, "empty"), entry],
      cwd: dirname(entry),
      env: { NO_COLOR: "1" },
      check: false,
      signal,
      timeoutMs: 5 * 60_000,
    });
    if (code === 0) return undefined;
    const lines = stderr.split("\n").map((line) => line.trim().replace(/^(\d+|error): /, ""));
    // The first line names the address, and the last cause is what went wrong.
    const trace = lines.findIndex((line) => line.startsWith("Stack backtrace"));
    const causes = lines.slice(0, trace < 0 ? undefined : trace).filter((line) => line !== "");
    return causes.at(-1) ?? `it ended with code ${code}`;
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}
