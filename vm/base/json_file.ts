/**
 * JSON files of ours: read against a schema, and refused with the first field that is wrong.
 *
 * @module
 */
import * as v from "valibot";
import { GatewayError } from "./error.ts";

/**
 * Parses a JSON file of ours against its schema.
 *
 * @throws GatewayError `instance-schema` with the file and the first wrong field.
 */
export function parseJson<S extends v.GenericSchema>(
  schema: S,
  text: string,
  path: string,
): v.InferOutput<S> {
  const refuse = (why: string) =>
    new GatewayError({
      code: "instance-schema",
      what: `Cannot read "${path}"`,
      why,
      fix:
        "it was written by another version or changed by hand: restore it, or remove the instance with `gateway rm --force NAME`",
    });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw refuse("it is not JSON");
  }
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw refuse(`${v.getDotPath(issue) ?? "the file"}: ${issue.message}`);
}
