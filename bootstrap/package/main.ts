/**
 * The entry of `deno task compile [--target NAME] [--embed] [--deb] [--formula URL]`.
 * It must not be imported: it reads the command line and prints.
 *
 * @module
 */
import { GatewayError, usageError } from "../../vm/base/error.ts";
import { sourcePath } from "../../vm/base/source.ts";
import { warningSpan } from "../view/progress_view.ts";
import { compile } from "./compile.ts";
import { makeDeb } from "./deb.ts";
import { formulaText } from "./formula.ts";
import { HOST_TARGET, parseTargets } from "./runtime.ts";

const say = (text: string) => void Deno.stderr.writeSync(new TextEncoder().encode(`${text}\n`));

/** What is asked for. */
function options(words: readonly string[]) {
  const valueOf = (name: string, from: readonly string[]) => {
    const at = from.indexOf(name);
    return at < 0
      ? { value: undefined, rest: from }
      : { value: from[at + 1] ?? "", rest: from.toSpliced(at, 2) };
  };
  const { value: url, rest: others } = valueOf("--formula", words);
  const { value: target, rest } = valueOf("--target", others);
  const wrong = rest.find((word) => word !== "--embed" && word !== "--deb");
  if (wrong !== undefined) {
    const fix = "the options are --target NAME, --embed, --deb and --formula URL";
    throw usageError("Cannot compile", `"${wrong}" is unknown`, fix);
  }
  const targets = target === undefined ? [HOST_TARGET] : parseTargets(target);
  if (targets.some((one) => one !== HOST_TARGET) && (rest.length > 0 || url !== undefined)) {
    throw usageError(
      `Cannot compile for "${target}" with ${rest[0] ?? "--formula"}`,
      "that is made for this host's own target only",
      `leave it out, or pass --target ${HOST_TARGET}`,
    );
  }
  return { targets, embed: rest.includes("--embed"), deb: rest.includes("--deb"), url };
}

try {
  const { targets, embed, deb, url } = options(Deno.args);
  const signal = new AbortController().signal;
  const assumeYes = Deno.env.get("GATEWAY_YES") === "1";
  const path = sourcePath("dist/gateway");
  const runtime = { span: warningSpan(say), signal, assumeYes };
  for (const target of targets) {
    const to = target === HOST_TARGET ? path : `${path}-${target}`;
    await compile({ path: to, signal, say, target, runtime, embed: embed ? runtime : undefined });
  }
  if (deb) say(`${await makeDeb(path, signal)}: made by dpkg-deb`);
  if (url !== undefined) {
    const formula = sourcePath("dist/gateway.rb");
    await Deno.writeTextFile(formula, await formulaText(path, url));
    say(`${formula}: for ${url}`);
  }
} catch (error) {
  if (!(error instanceof GatewayError)) throw error;
  say(`error: ${error.what}\n  why: ${error.why}\n  fix: ${error.fix}`);
  Deno.exitCode = 1;
}
