/**
 * What boots together, as one statement in the in-toto form with SLSA's provenance v1 as predicate: every file with its
 * digest, and everything it was made of as far as the manifests tell. One file per image set, beside the artifacts.
 * It must not build, verify or decide anything.
 *
 * @module
 */
import { join } from "@std/path";
import { digestBytes } from "../../vm/base/digest.ts";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import type { JsonValue } from "../../vm/base/event.ts";
import type { Artifact, ArtifactManifest, ArtifactStore } from "../../vm/store/artifact.ts";

/** Something that was used, in the form of an in-toto resource descriptor. */
export interface ResourceDescriptor {
  readonly name?: string;
  readonly uri?: string;
  readonly digest?: Readonly<Record<string, string>>;
}

/** The statement of one image set. */
export interface ProvenanceStatement {
  readonly _type: "https://in-toto.io/Statement/v1";
  readonly subject: readonly ResourceDescriptor[];
  readonly predicateType: "https://slsa.dev/provenance/v1";
  readonly predicate: {
    readonly buildDefinition: {
      readonly buildType: string;
      readonly externalParameters: Readonly<Record<string, JsonValue>>;
      readonly internalParameters: Readonly<Record<string, JsonValue>>;
      readonly resolvedDependencies: readonly ResourceDescriptor[];
    };
    readonly runDetails: {
      readonly builder: { readonly id: string; readonly version: Readonly<Record<string, string>> };
      readonly metadata: {
        readonly invocationId: string;
        readonly startedOn: string;
        readonly finishedOn: string;
      };
      readonly byproducts: readonly ResourceDescriptor[];
    };
  };
}

/** The key of a set: the same artifacts have the same one. */
export function imageSetKey(artifacts: readonly Pick<Artifact, "key">[]): string {
  return digestBytes(artifacts.map(({ key }) => key).sort().join("\n"));
}

/**
 * The statement about these artifacts.
 *
 * @param artifacts What boots, kernel and root image among it.
 * @param parts The manifests of what the root image was made of.
 */
export function provenanceStatement(
  artifacts: readonly Pick<Artifact, "name" | "key" | "manifest">[],
  parts: readonly ArtifactManifest[],
): ProvenanceStatement {
  const manifests = artifacts.map(({ manifest }) => manifest);
  const all = [...manifests, ...parts];
  const ends = all.map(({ builtAt }) => Date.parse(builtAt));
  const starts = all.map(({ builtAt, buildMs }) => Date.parse(builtAt) - buildMs);
  return {
    _type: "https://in-toto.io/Statement/v1",
    subject: manifests.flatMap(fileDescriptors),
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {
      buildDefinition: {
        buildType: "urn:gateway:image-set:v1",
        externalParameters: { artifacts: manifests.map(({ name }) => name).sort() },
        internalParameters: Object.fromEntries(
          all.map(({ name, key, inputs, facts }) => [name, { key, inputs, facts: briefly(facts) }]),
        ),
        resolvedDependencies: dependencies(all),
      },
      runDetails: {
        builder: { id: "urn:gateway:local-build", version: builderVersions(all) },
        metadata: {
          invocationId: imageSetKey(artifacts),
          startedOn: new Date(Math.min(...starts)).toISOString(),
          finishedOn: new Date(Math.max(...ends)).toISOString(),
        },
        byproducts: parts.flatMap(fileDescriptors),
      },
    },
  };
}

function fileDescriptors({ name, files }: ArtifactManifest): ResourceDescriptor[] {
  return Object.entries(files).map(([file, { sha256 }]) => ({
    name: `${name}/${file}`,
    digest: { sha256 },
  }));
}

/** Facts without the list of packages, which are dependencies of their own. */
function briefly(facts: ArtifactManifest["facts"]): Record<string, JsonValue> {
  const { packages: _packages, packageSha256: _digests, ...rest } = facts;
  return rest;
}

function dependencies(manifests: readonly ArtifactManifest[]): ResourceDescriptor[] {
  const found: ResourceDescriptor[] = [];
  for (const { name, inputs, facts, builder } of manifests) {
    // What the build really used: it is another than the pinned one when Debian has dropped that.
    const { sourcePackage, sourceVersion, sourceSha256, packages, packageSha256, lockFiles } =
      facts;
    if (typeof sourcePackage === "string") {
      found.push({
        uri: debianPurl(sourcePackage, String(sourceVersion)),
        digest: { sha256: String(sourceSha256) },
      });
    }
    if (inputs.options && inputs.arch) {
      found.push({ name: `${name}: options`, digest: { sha256: inputs.options } });
    }
    const { source = "" } = inputs;
    if (/^[0-9a-f]{64}$/.test(source)) {
      found.push({ name: `${name}: sources`, digest: { sha256: source } });
    }
    for (const [file, sha256] of Object.entries((lockFiles ?? {}) as Record<string, string>)) {
      found.push({ name: `${name}: ${file}`, digest: { sha256 } });
    }
    const digests = (packageSha256 ?? {}) as Record<string, string>;
    for (const [one, version] of Object.entries((packages ?? {}) as Record<string, string>)) {
      const sha256 = digests[one];
      found.push({ uri: debianPurl(one, version), ...(sha256 && { digest: { sha256 } }) });
    }
    const commit = builder?.gitCommit;
    if (commit) {
      found.push({ name: `${name}: gateway`, digest: { gitCommit: commit.replace("-dirty", "") } });
    }
  }
  return unique(found);
}

/** The purl of a Debian package; `+` and `:` of a version are escaped as the format asks. */
export function debianPurl(name: string, version: string): string {
  return `pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}`;
}

function unique(list: readonly ResourceDescriptor[]): ResourceDescriptor[] {
  return [...new Map(list.map((one) => [JSON.stringify(one), one])).values()];
}

/** Versions of all builders; parts that were built by different ones name each. */
function builderVersions(manifests: readonly ArtifactManifest[]): Record<string, string> {
  const versions = new Map<string, Set<string>>();
  const add = (name: string, version: string) =>
    versions.set(name, (versions.get(name) ?? new Set()).add(version));
  for (const { builder } of manifests) {
    if (!builder) continue;
    add("gateway", builder.gateway);
    add("runtime", builder.runtime);
    add("host", builder.host);
    for (const [tool, version] of Object.entries(builder.tools)) add(tool, version);
  }
  return Object.fromEntries([...versions].sort().map(([name, set]) => [name, [...set].join(", ")]));
}

/** The manifests of the root image's parts that are still in the store. */
async function partManifests(
  store: ArtifactStore,
  root: Pick<Artifact, "manifest">,
): Promise<ArtifactManifest[]> {
  const parts = Object.entries((root.manifest.facts.parts ?? {}) as Record<string, string>);
  const found = await Promise.all(parts.map(async ([name, key]) => {
    const text = await Deno.readTextFile(store.manifestPath(name, key)).catch(() => "null");
    return JSON.parse(text) as ArtifactManifest | null;
  }));
  return found.filter((manifest) => manifest !== null);
}

/** The folder with one folder per set. */
export function setsDir(store: ArtifactStore): string {
  return join(store.root, "artifacts", "sets");
}

/** Writes the statement unless it is there as it should be, signed where there is a key. Returns its path. */
export async function ensureProvenance(
  store: ArtifactStore,
  artifacts: readonly Artifact[],
  options: { readonly sign?: boolean } = {},
): Promise<string> {
  const root = artifacts.find(({ name }) => name === "root")!;
  const statement = provenanceStatement(artifacts, await partManifests(store, root));
  const path = join(setsDir(store), imageSetKey(artifacts).slice(0, 16), "provenance.json");
  const text = JSON.stringify(statement, null, 2) + "\n";
  const there = await Deno.readTextFile(path).catch(() => "") === text;
  if (there && !options.sign) return path;
  await Deno.mkdir(join(path, ".."), { recursive: true });
  await store.signText(path, text);
  await writeFileAtomic(path, text, 0o644);
  return path;
}
