/**
 * What the parser of the command line found wrong, in the form of all our errors.
 * It must not load the parser.
 *
 * @module
 */
import { type GatewayError, usageError } from "../vm/error.ts";

/** The usage error for what the parser said about these words. */
export function commandLineError(error: Error, args: readonly string[]): GatewayError {
  const why = error.message.replace(/^error: /, "").replaceAll("\n", " ");
  const words = args.filter((word) => /^[a-z]+$/.test(word)).slice(0, 1);
  const fix = `run \`${["gateway", ...words, "--help"].join(" ")}\` for the options and an example`;
  return usageError("Cannot read the command line", why, fix);
}
