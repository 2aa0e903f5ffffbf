/**
 * `gateway --version`: the version, and where this program comes from.
 * It must not look at instances or artifacts.
 *
 * @module
 */
import { packageRecord } from "../../vm/base/source.ts";
import { ownVersion, sourceCommit } from "../../vm/store/builder.ts";

/** Where a program comes from. */
export interface VersionFacts {
  readonly version: string;
  /** `-dirty` at its end when the sources were changed since; null outside of a checkout. */
  readonly gitCommit: string | null;
  /** Such as "deno 2.9.6, linux x86_64". */
  readonly runtime: string;
  /** How it was made. */
  readonly built: string;
}

/** Gathers them; from a checkout git is asked. */
export async function versionFacts(): Promise<VersionFacts> {
  const [version, gitCommit, record] = await Promise.all([
    ownVersion(),
    sourceCommit(new AbortController().signal),
    packageRecord(),
  ]);
  return {
    version,
    gitCommit,
    runtime: `deno ${Deno.version.deno}, ${Deno.build.os} ${Deno.build.arch}`,
    built: record?.built ?? "run from its sources",
  };
}

/** For people; the first line is all that most want. */
export function versionText({ version, gitCommit, runtime, built }: VersionFacts): string {
  return [
    `gateway ${version}`,
    `commit   ${gitCommit ?? "unknown"}`,
    `runtime  ${runtime}`,
    `built    ${built}`,
  ].join("\n");
}
