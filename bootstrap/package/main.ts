/**
 * The entry of `deno task compile [--embed] [--deb] [--formula URL]`.
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

const say = (text: string) => void Deno.stderr.writeSync(new TextEncoder().encode(`${text}\n`));

/** What is asked for. */
function options(words: readonly string[]) {
  const at = words.indexOf("--formula");
  const url = at < 0 ? undefined : words[at + 1] ?? "";
  const rest = at < 0 ? words : words.toSpliced(at, 2);
  const wrong = rest.find((word) => word !== "--embed" && word !== "--deb");
  if (wrong !== undefined) {
    const fix = "the options are --embed, --deb and --formula URL";
    throw usageError("Cannot compile", `"${wrong}" is unknown`, fix);
  }
  return { embed: rest.includes("--embed"), deb: rest.includes("--deb"), url };
}

try {
  const { embed, deb, url } = options(Deno.args);
  const signal = new AbortController().signal;
  const assumeYes = Deno.env.get("GATEWAY_YES") === "1";
  const path = sourcePath("dist/gateway");
  const artifacts = embed ? { span: warningSpan(say), signal, assumeYes } : undefined;
  await compile({ path, signal, say, embed: artifacts });
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
