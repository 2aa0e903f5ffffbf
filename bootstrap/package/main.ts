/**
 * The entry of `deno task compile`.
 * It must not be imported: it reads the command line and prints.
 *
 * @module
 */
import { GatewayError, usageError } from "../../vm/error.ts";
import { sourcePath } from "../../vm/source.ts";
import { compile } from "./compile.ts";

const say = (text: string) => void Deno.stderr.writeSync(new TextEncoder().encode(`${text}\n`));

try {
  if (Deno.args.length > 0) {
    throw usageError("Cannot compile", `"${Deno.args[0]}" is unknown`, "run it without a word");
  }
  const signal = new AbortController().signal;
  await compile({ path: sourcePath("dist/gateway"), signal, say });
} catch (error) {
  if (!(error instanceof GatewayError)) throw error;
  say(`error: ${error.what}\n  why: ${error.why}\n  fix: ${error.fix}`);
  Deno.exitCode = 1;
}
