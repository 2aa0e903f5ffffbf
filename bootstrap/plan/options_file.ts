/**
 * Checked options as a child of ours gets them: a file, so that nothing is decided or parsed a second time.
 *
 * @module
 */
import * as v from "valibot";
import { parseJson } from "../../vm/base/json_file.ts";
import { InstanceFile } from "../../vm/instance/record.ts";
import { NET_CHOICES, type UpOptions } from "./options.ts";

const OptionsFile = v.object({
  config: InstanceFile,
  net: v.picklist(NET_CHOICES),
  libkrun: v.optional(v.string()),
  assumeYes: v.boolean(),
  clusterBinary: v.optional(v.string()),
  cold: v.boolean(),
  payloadWhy: v.optional(v.string()),
  keep: v.optional(v.boolean()),
});

/** The options of a start with a cluster. @throws GatewayError `instance-schema` naming the first wrong field. */
export function parseUpOptions(text: string, path: string): UpOptions {
  const { libkrun, clusterBinary, ...rest } = parseJson(OptionsFile, text, path);
  return { ...rest, libkrun, clusterBinary, exec: undefined };
}
