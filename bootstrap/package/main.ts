/**
 * This room packs the program: the one file, the Debian package, Homebrew's formula, a release. No other room imports
 * it, and what a guest runs is built elsewhere. Read one_file.ts next.
 *
 * The entry of `deno task compile` and of `deno task release`, which passes `release` as the first word.
 * It must not be imported: it reads the command line and prints.
 *
 * @module
 */
import { resolve } from "@std/path";
import { parseArgs, type ParseArgsConfig } from "node:util";
import { describeError, GatewayError, usageError } from "../../vm/base/error.ts";
import { sourcePath } from "../../vm/base/source.ts";
import { warningSpan } from "../view/progress_view.ts";
import { compile } from "./compile.ts";
import { makeDeb } from "./deb.ts";
import { checkRelease, makeRelease } from "./release.ts";
import { HOST_TARGET, parseTargets, type PartOptions, platformOf } from "./runtime.ts";

const say = (text: string) => void Deno.stderr.writeSync(new TextEncoder().encode(`${text}\n`));

/** Reads options. @throws GatewayError `usage` with the known ones for anything else. */
function readOptions<T extends NonNullable<ParseArgsConfig["options"]>>(
  words: readonly string[],
  options: T,
) {
  try {
    return parseArgs({ args: [...words], options, strict: true, allowPositionals: false }).values;
  } catch (error) {
    const known = Object.entries(options).map(([name, { type }]) =>
      type === "string" ? `--${name} ${name.toUpperCase()}` : `--${name}`
    );
    const fix = `the options are ${known.join(", ")}`;
    throw usageError("Cannot make the program", describeError(error), fix);
  }
}

const FLAG = { type: "boolean" } as const;
const VALUE = { type: "string" } as const;

/** `deno task compile [--target NAME|all] [--embed] [--deb]`. */
async function compileTargets(words: readonly string[], parts: PartOptions): Promise<void> {
  const { target, embed, deb } = readOptions(words, { target: VALUE, embed: FLAG, deb: FLAG });
  const { signal } = parts;
  const targets = target === undefined ? [HOST_TARGET] : parseTargets(target);
  const [mac] = targets.filter((one) => platformOf(one).os === "darwin");
  if (deb && mac !== undefined && targets.length === 1) {
    throw usageError(
      `Cannot make a Debian package for "${mac}"`,
      "those are for Linux",
      "leave --deb out, or pass another --target",
    );
  }
  for (const one of targets) {
    const path = sourcePath(one === HOST_TARGET ? "dist/gateway" : `dist/gateway-${one}`);
    await compile({ path, signal, say, target: one, parts, embed });
    const { os, arch } = platformOf(one);
    if (deb && os === "linux") say(`${await makeDeb(path, arch, signal)}: made by dpkg-deb`);
  }
}

/** `deno task release [--base URL] [--embed]`, or `--check FOLDER`. */
async function release(words: readonly string[], parts: PartOptions): Promise<void> {
  const { base, check, embed = false } = readOptions(words, {
    base: VALUE,
    check: VALUE,
    embed: FLAG,
  });
  const dir = sourcePath("dist/release");
  if (check !== undefined) {
    // Where deno task was started, not where it runs.
    const from = Deno.env.get("INIT_CWD") ?? Deno.cwd();
    return say(
      `everything in "${check}" is as it was made; ${await checkRelease(resolve(from, check))}`,
    );
  }
  const files = await makeRelease({ dir, base, embed, parts });
  for (const name of files) say(`dist/release/${name}`);
  if (!files.includes("SHA256SUMS.sig")) {
    say("not signed: there is no key here (gateway keys make)");
  }
}

try {
  const signal = new AbortController().signal;
  const parts = { span: warningSpan(say), signal, assumeYes: Deno.env.get("GATEWAY_YES") === "1" };
  const [first, ...rest] = Deno.args;
  await (first === "release" ? release(rest, parts) : compileTargets(Deno.args, parts));
} catch (error) {
  if (!(error instanceof GatewayError)) throw error;
  say(`error: ${error.what}\n  why: ${error.why}\n  fix: ${error.fix}`);
  Deno.exitCode = 1;
}
