/**
 * The bill of materials of a root image as an SPDX 2.3 document: the Debian packages that its dpkg knows, and the Go
 * modules that its programs and those of its container images name in their build info.
 * It must not read anything but the tree that becomes the image, so that it cannot tell of what is not in it.
 *
 * @module
 */
import { join, relative } from "@std/path";
import * as v from "valibot";
import type { Arch } from "../../vm/base/arch.ts";
import type { JsonValue } from "../../vm/base/event.ts";
import { run } from "../../vm/base/process.ts";
import { type BuildContext, canonicalJson, digestBytes } from "../../vm/store/artifact.ts";
import { GO_TOOL } from "../../vm/store/go_build.ts";
import { sourceDateEpoch } from "../pins/lock.ts";

/** One Go program of the image. */
export interface GoProgramParts {
  /** Where it is: a path of the image, or `IMAGE:PATH` in a container image. */
  readonly path: string;
  readonly goVersion: string;
  /** The main module and its dependencies, replacements resolved. */
  readonly modules: readonly { readonly path: string; readonly version: string }[];
}

/** One Debian package. */
export interface DebianPackage {
  readonly name: string;
  readonly version: string;
  readonly arch: string;
  /** Of its archive, where it is known. */
  readonly sha256?: string;
}

/** The installed packages of a dpkg status file. */
export function debianPackages(status: string): DebianPackage[] {
  const field = (paragraph: string, name: string) =>
    new RegExp(`^${name}: (.+)$`, "m").exec(paragraph)?.[1] ?? "";
  return status.split("\n\n")
    .filter((paragraph) => field(paragraph, "Status").endsWith(" installed"))
    .map((paragraph) => ({
      name: field(paragraph, "Package"),
      version: field(paragraph, "Version"),
      arch: field(paragraph, "Architecture"),
    }));
}

const Module = v.object({ Path: v.string(), Version: v.optional(v.string()) });
const BuildInfo = v.object({
  GoVersion: v.string(),
  // Debian builds some programs without modules: then there is a main one without a name.
  Main: v.optional(v.partial(Module)),
  Deps: v.optional(v.array(v.object({ ...Module.entries, Replace: v.optional(Module) }))),
});

/** What `go version -m -json` says of a program. */
export function goProgram(path: string, json: string): GoProgramParts {
  const { GoVersion, Main, Deps = [] } = v.parse(BuildInfo, JSON.parse(json));
  // What a module was replaced by is what was compiled.
  const all = [Main ?? {}, ...Deps.map((dep) => dep.Replace ?? dep)];
  const modules = all.flatMap(({ Path, Version = "" }) =>
    Path === undefined ? [] : [{ path: Path, version: Version }]
  );
  return { path, goVersion: GoVersion, modules };
}

/** The document. The same parts give the same text. */
export function spdxDocument(
  parts: {
    readonly arch: Arch;
    readonly packages: readonly DebianPackage[];
    readonly programs: readonly GoProgramParts[];
  },
): JsonValue {
  const packages = new Map<string, Record<string, JsonValue>>();
  const relationships: JsonValue[] = [];
  const relate = (spdxElementId: string, relationshipType: string, relatedSpdxElement: string) =>
    relationships.push({ spdxElementId, relationshipType, relatedSpdxElement });
  const add = (id: string, name: string, version: string, purl?: string, sha256?: string) => {
    packages.set(id, spdxPackage(id, name, version, purl, sha256));
    return id;
  };
  const image = add("SPDXRef-root-image", "gateway root image", "");
  relate("SPDXRef-DOCUMENT", "DESCRIBES", image);
  for (const { name, version, arch, sha256 } of parts.packages) {
    const purl = `pkg:deb/debian/${encodeURIComponent(name)}@${
      encodeURIComponent(version)
    }?arch=${arch}`;
    relate(image, "CONTAINS", add(spdxId("deb", name, arch), name, version, purl, sha256));
  }
  for (const { path, goVersion, modules } of parts.programs) {
    const program = add(spdxId("program", path), path, "");
    relate(image, "CONTAINS", program);
    const std = { path: "stdlib", version: goVersion.replace(/^go/, "") };
    for (const module of [std, ...modules]) {
      const version = module.version === "(devel)" ? "" : module.version;
      const at = version === "" ? "" : `@${encodeURIComponent(version)}`;
      const purl = `pkg:golang/${module.path.split("/").map(encodeURIComponent).join("/")}${at}`;
      const id = add(spdxId("go", module.path, version), module.path, version, purl);
      relate(program, "STATIC_LINK", id);
    }
  }
  const list = [...packages.values()];
  const content = digestBytes(canonicalJson([list, relationships]));
  return {
    spdxVersion: "SPDX-2.3",
    dataLicense: "CC0-1.0",
    SPDXID: "SPDXRef-DOCUMENT",
    name: `gateway-root-${parts.arch}`,
    documentNamespace: `urn:gateway:sbom:${content}`,
    creationInfo: {
      created: new Date(sourceDateEpoch * 1000).toISOString().replace(".000", ""),
      creators: ["Tool: gateway"],
    },
    packages: list,
    relationships,
  };
}

/** One package of a document. */
export function spdxPackage(
  id: string,
  name: string,
  version: string,
  purl?: string,
  sha256?: string,
): Record<string, JsonValue> {
  const locator = {
    referenceCategory: "PACKAGE-MANAGER",
    referenceType: "purl",
    referenceLocator: purl ?? "",
  };
  return {
    SPDXID: id,
    name,
    ...(version === "" ? {} : { versionInfo: version }),
    downloadLocation: "NOASSERTION",
    filesAnalyzed: false,
    licenseConcluded: "NOASSERTION",
    licenseDeclared: "NOASSERTION",
    copyrightText: "NOASSERTION",
    ...(sha256 && { checksums: [{ algorithm: "SHA256", checksumValue: sha256 }] }),
    ...(purl === undefined ? {} : { externalRefs: [locator] }),
  };
}

/** An identifier, which may hold letters, digits, dots and dashes; the digest keeps two names apart that look alike then. */
export function spdxId(kind: string, ...names: readonly string[]): string {
  const name = names.filter((one) => one !== "").join("-");
  return `SPDXRef-${kind}-${name.replaceAll(/[^A-Za-z0-9.-]+/g, "-")}-${
    digestBytes(name).slice(0, 8)
  }`;
}

/** Writes the document of the tree to the file. Returns how much is in it. */
export async function writeSbom(
  tree: string,
  file: string,
  { arch, packageSha256 }: {
    readonly arch: Arch;
    readonly packageSha256: Readonly<Record<string, string>>;
  },
  ctx: BuildContext,
): Promise<{ readonly sbomDebian: number; readonly sbomGoPrograms: number }> {
  const status = await Deno.readTextFile(join(tree, "var/lib/dpkg/status"));
  const packages = debianPackages(status).map((one) => ({
    ...one,
    sha256: packageSha256[one.name],
  }));
  const layers = join(ctx.workDir, "layers");
  await unpackImages(join(tree, "usr/lib/gateway/images"), layers, ctx);
  const programs = [
    ...await goPrograms(tree, (path) => `/${path}`, ctx),
    ...await goPrograms(layers, (path) => path.replace("/", ":/"), ctx),
  ];
  await Deno.remove(layers, { recursive: true });
  await Deno.writeTextFile(
    file,
    JSON.stringify(spdxDocument({ arch, packages, programs }), null, 1) + "\n",
  );
  return { sbomDebian: packages.length, sbomGoPrograms: programs.length };
}

/** Unpacks the layers of every image archive, each image into a folder of its name. */
async function unpackImages(dir: string, to: string, ctx: BuildContext): Promise<void> {
  await Deno.remove(to, { recursive: true }).catch(() => {});
  await Deno.mkdir(to, { recursive: true });
  const options = { signal: ctx.signal, timeoutMs: 120_000, logPath: ctx.logPath };
  for await (const { name } of Deno.readDir(dir)) {
    const layout = join(to, `${name}.layout`);
    const root = join(to, name.replace(/\.tar$/, ""));
    for (const path of [layout, root]) await Deno.mkdir(path);
    await run("tar", { ...options, args: ["-xf", join(dir, name), "-C", layout] });
    for (const digest of await layerDigests(layout)) {
      const blob = join(layout, "blobs/sha256", digest);
      await run("tar", { ...options, args: ["-xf", blob, "-C", root, "--no-same-owner"] });
    }
    await Deno.remove(layout, { recursive: true });
  }
}

const Manifest = v.object({
  layers: v.optional(v.array(v.object({ digest: v.string() })), []),
  manifests: v.optional(v.array(v.object({ digest: v.string() })), []),
});

/** The layers of an OCI layout, through the manifests its index names. */
async function layerDigests(layout: string, file = "index.json"): Promise<string[]> {
  const { layers, manifests } = v.parse(
    Manifest,
    JSON.parse(await Deno.readTextFile(join(layout, file))),
  );
  const hex = ({ digest }: { digest: string }) => digest.replace(/^sha256:/, "");
  const below = await Promise.all(
    manifests.map((one) => layerDigests(layout, join("blobs/sha256", hex(one)))),
  );
  return [...layers.map(hex), ...below.flat()];
}

/** Every Go program below a folder, by path. */
async function goPrograms(
  top: string,
  name: (path: string) => string,
  ctx: BuildContext,
): Promise<GoProgramParts[]> {
  const go = (args: string[]) =>
    run(GO_TOOL.program, {
      args: ["version", ...args],
      signal: ctx.signal,
      timeoutMs: 120_000,
      env: { GOTOOLCHAIN: "local" },
    });
  const { stdout } = await go([top]);
  const paths = stdout.split("\n").flatMap((line) => /^(\/.+): \S+/.exec(line)?.[1] ?? []);
  const programs: GoProgramParts[] = [];
  for (const path of paths.sort()) {
    // One program under several names is one program.
    if ((await Deno.lstat(path)).isSymlink) continue;
    programs.push(goProgram(name(relative(top, path)), (await go(["-m", "-json", path])).stdout));
  }
  return programs;
}
