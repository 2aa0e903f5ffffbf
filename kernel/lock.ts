/**
 * Reads kernel/lock.json: the one place that says which source the kernel is made from and with what.
 * It must not download or build anything.
 *
 * @module
 */
import * as v from "valibot";
import { GatewayError } from "../vm/base/error.ts";

const NonEmpty = v.pipe(v.string(), v.minLength(1));

const LockSchema = v.strictObject({
  schemaVersion: v.literal(1),
  source: v.strictObject({
    package: v.pipe(v.string(), v.regex(/^linux-source-\d+\.\d+$/)),
    version: v.pipe(v.string(), v.regex(/^\d+\.\d+\.\d+[-+~.a-z0-9]*$/)),
    sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
    sizeBytes: v.pipe(v.number(), v.integer(), v.minValue(1)),
    archive: v.pipe(v.string(), v.regex(/^[^/].*\.tar\.xz$/)),
  }),
  buildTimestamp: v.pipe(v.string(), v.regex(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$/)),
  toolchain: v.record(NonEmpty, v.strictObject({ compiler: NonEmpty, crossPrefix: v.string() })),
});

/** What kernel/lock.json pins: the source package with its digest, and the toolchain by architecture. */
export type KernelLock = v.InferOutput<typeof LockSchema>;

/**
 * Parses the lock file's text.
 *
 * @throws GatewayError `build-failed` naming the first field that is wrong.
 */
export function parseKernelLock(text: string): KernelLock {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw lockError("it is not JSON", error);
  }
  const result = v.safeParse(LockSchema, json);
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw lockError(`${v.getDotPath(issue) ?? "the file"}: ${issue.message}`);
}

/** The name apt gives the package file; an epoch's colon is escaped as apt does it. */
export function packageFileName(name: string, version: string): string {
  return `${name}_${version.replaceAll(":", "%3a")}_all.deb`;
}

function lockError(why: string, cause?: unknown): GatewayError {
  return new GatewayError({
    code: "build-failed",
    what: `Cannot read "kernel/lock.json"`,
    why,
    fix: "restore kernel/lock.json from the release",
    cause,
  });
}
