/**
 * The entry of `deno task compile [--embed]`.
 * It must not be imported: it reads the command line and prints.
 *
 * @module
 */
import { GatewayError, usageError } from "../../vm/error.ts";
import { sourcePath } from "../../vm/source.ts";
import { warningSpan } from "../progress_view.ts";
import { compile } from "./compile.ts";

const say = (text: string) => void Deno.stderr.writeSync(new TextEncoder().encode(`${text}\n`));

try {
  const wrong = Deno.args.find((word) => word !== "--embed");
  if (wrong !== undefined) {
    throw usageError("Cannot compile", `"${wrong}" is unknown`, "the one option is --embed");
  }
  const signal = new AbortController().signal;
  const assumeYes = Deno.env.get("GATEWAY_YES") === "1";
  const embed = Deno.args.length > 0 ? { span: warningSpan(say), signal, assumeYes } : undefined;
  await compile({ path: sourcePath("dist/gateway"), signal, say, embed });
} catch (error) {
  if (!(error instanceof GatewayError)) throw error;
  say(`error: ${error.what}\n  why: ${error.why}\n  fix: ${error.fix}`);
  Deno.exitCode = 1;
}
