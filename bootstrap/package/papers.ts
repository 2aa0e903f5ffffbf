/**
 * The papers of a release: what its files were made of (SBOM, SPDX 2.3) and how (provenance, in-toto with SLSA's predicate).
 * The same release has the same papers: their only time is that of the commit.
 * It must not list what is in a guest: the root image has an SBOM of its own.
 *
 * @module
 */
import { spdxId, spdxPackage } from "../../rootfs/root/sbom.ts";
import { digestBytes, digestFile } from "../../vm/base/digest.ts";
import type { JsonValue } from "../../vm/base/event.ts";
import { run } from "../../vm/base/process.ts";
import { sourcePath } from "../../vm/base/source.ts";
import { canonicalJson } from "../../vm/store/artifact.ts";
import { ownVersion, sourceCommit } from "../../vm/store/builder.ts";
import { runtimePackage, type Target } from "./runtime.ts";

/** The source that a release is made of. */
export interface Source {
  /** With `-dirty` where files were changed; null outside of a checkout. */
  readonly commit: string | null;
  /** When it was committed, ISO 8601; the first second there is outside of a checkout. */
  readonly time: string;
}

/** This program's. */
export async function ownSource(signal: AbortSignal): Promise<Source> {
  const commit = await sourceCommit(signal);
  const args = ["-C", sourcePath("."), "log", "-1", "--format=%ct"];
  const { stdout } = commit === null
    ? { stdout: "0" }
    : await run("git", { args, signal, timeoutMs: 30_000 });
  const time = new Date(Number(stdout.trim()) * 1000).toISOString().replace(".000", "");
  return { commit, time };
}

/** The packages of npm in deno.lock, by name and version. Pure. */
export function lockedPackages(lock: string): { name: string; version: string }[] {
  const { npm } = JSON.parse(lock) as { npm: Record<string, unknown> };
  const names = Object.keys(npm).map((key) => {
    // What follows "_" names the peers that it was resolved with.
    const [, name, version] = /^(@?[^@]+)@([^_]+)/.exec(key)!;
    return { name: name!, version: version! };
  });
  return [...new Map(names.map((one) => [`${one.name}@${one.version}`, one])).values()];
}

/** The SBOM of the programs: their packages, and the runtime of each target. */
export async function programSbom(
  targets: readonly Target[],
  { time }: Source,
): Promise<JsonValue> {
  const lock = await Deno.readTextFile(sourcePath("deno.lock"));
  const program = spdxPackage("SPDXRef-gateway", "gateway", await ownVersion());
  const parts = [...lockedPackages(lock), ...targets.map(runtimePackage)];
  const packages = parts.map((part) => {
    const { name, version } = part;
    return spdxPackage(spdxId("npm", name, version), name, version, npmPurl(part));
  });
  const relationships = [
    { from: "SPDXRef-DOCUMENT", type: "DESCRIBES", to: "SPDXRef-gateway" },
    ...packages.map(({ SPDXID }) => ({
      ...{ from: "SPDXRef-gateway", type: "CONTAINS", to: SPDXID as string },
    })),
  ].map(({ from, type, to }) => ({
    ...{ spdxElementId: from, relationshipType: type, relatedSpdxElement: to },
  }));
  return {
    spdxVersion: "SPDX-2.3",
    dataLicense: "CC0-1.0",
    SPDXID: "SPDXRef-DOCUMENT",
    name: "gateway",
    documentNamespace: `urn:gateway:sbom:${digestBytes(canonicalJson([program, ...packages]))}`,
    creationInfo: { created: time, creators: ["Tool: gateway"] },
    packages: [program, ...packages],
    relationships,
  };
}

function npmPurl({ name, version }: { readonly name: string; readonly version: string }): string {
  return `pkg:npm/${name.replace("@", "%40")}@${version}`;
}

/** The statement about the files of a release, given with their sha256 by name. */
export async function releaseProvenance(
  files: ReadonlyMap<string, string>,
  targets: readonly Target[],
  { commit, time }: Source,
): Promise<JsonValue> {
  const subject = [...files].map(([name, sha256]) => ({ name, digest: { sha256 } }));
  return {
    _type: "https://in-toto.io/Statement/v1",
    subject,
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {
      buildDefinition: {
        buildType: "urn:gateway:release:v1",
        externalParameters: { targets: [...targets] },
        internalParameters: {},
        resolvedDependencies: [
          ...commit === null ? [] : [{ name: "source", digest: { gitCommit: commit } }],
          {
            name: "deno.lock",
            digest: { sha256: await digestFile(sourcePath("deno.lock")) },
          },
          ...targets.map(runtimePackage).map((part) => ({
            uri: npmPurl(part),
            digest: {
              sha512: Uint8Array.fromBase64(part.integrity.replace("sha512-", "")).toHex(),
            },
          })),
        ],
      },
      runDetails: {
        builder: { id: "urn:gateway:local-build", version: { deno: Deno.version.deno } },
        metadata: { finishedOn: time },
      },
    },
  };
}
