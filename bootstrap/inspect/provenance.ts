/**
 * `gateway provenance`: which files an instance runs from, whether they are what their manifests say, whether this
 * version of gateway makes them so (stock) or not (custom), and who signed them.
 * It must not change or build anything.
 *
 * @module
 */
import { basename, dirname, join } from "@std/path";
import { GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { exists } from "../../vm/base/layout.ts";
import {
  type InstanceState,
  type InstanceView,
  requireInstance,
} from "../../vm/instance/instance.ts";
import { parseVmSpec } from "../../vm/machine/spec.ts";
import {
  type ArtifactManifest,
  ArtifactStore,
  digestFile,
  type Recipe,
  recipeKey,
} from "../../vm/store/artifact.ts";
import type { SignatureState } from "../../vm/store/signing.ts";
import { storedArtifacts } from "../../vm/store/stored.ts";
import { type ProvenanceStatement, setsDir } from "../artifacts/statement.ts";
import { stockRecipes } from "./start_artifacts.ts";

/** One file that an instance runs from. */
export interface RunningFile {
  /** What it is to the VM. */
  readonly role: "kernel" | "root image" | "network" | "memory library";
  /** Absolute. */
  readonly path: string;
  /** The digest it was written with; null for a file that is not of the store. */
  readonly expected: string | null;
  /** The digest it has now; null when it is gone. */
  readonly found: string | null;
  /** `stock`: this version of gateway makes it so from its pinned sources. */
  readonly origin: "stock" | "custom";
  /** Why it is custom; "" for stock. */
  readonly why: string;
  /** How its manifest is signed; null for a file without one. */
  readonly signature: SignatureState | null;
  /** How it was made; null when nobody knows. */
  readonly manifest: ArtifactManifest | null;
}

/** `gateway provenance --json`. */
export interface ProvenanceReport {
  readonly instance: string;
  /** A running instance runs from these files now; another one did at its last start. */
  readonly state: InstanceState;
  /** The VMM of this run; null when it does not run. */
  readonly vmm: string | null;
  /** Whether every file is still what it was written as. */
  readonly intact: boolean;
  readonly files: readonly RunningFile[];
  /** The file with the in-toto statement of this image set; null when there is none. */
  readonly provenance: string | null;
  /** What it says. */
  readonly statement: ProvenanceStatement | null;
  /** The SPDX document of the root image; null when there is none. */
  readonly sbom: string | null;
}

/**
 * Gathers the report.
 *
 * @throws GatewayError `instance-unknown`, `instance-stopped` when it was never started.
 */
export async function instanceProvenance(
  name: string,
  options: { readonly span: Span; readonly signal: AbortSignal; readonly store?: ArtifactStore },
): Promise<ProvenanceReport> {
  const { store = new ArtifactStore() } = options;
  const view = await requireInstance(name);
  const running = await runningPaths(view);
  const recipes = await stockRecipes(store, { ...options, config: view.config });
  const manifests = (await storedArtifacts(store)).map(({ manifest }) => manifest);
  const files = await Promise.all(
    running.map(([role, path]) => describeFile(store, role, path, manifests, recipes)),
  );
  const found = await findStatement(store, files);
  const root = files.find(({ role }) => role === "root image")?.manifest;
  const sbom = root?.files["sbom.spdx.json"];
  return {
    instance: name,
    state: view.state,
    vmm: view.state === "running" ? view.run?.vmmDescription ?? null : null,
    intact: files.every(({ expected, found }) => found !== null && found === expected),
    files,
    provenance: found?.path ?? null,
    statement: found?.statement ?? null,
    sbom: sbom ? store.blobPath(sbom.sha256, "sbom.spdx.json") : null,
  };
}

/** What the VM was started with, and the program that is its network while it runs. */
async function runningPaths(view: InstanceView): Promise<[RunningFile["role"], string][]> {
  const { vmFile } = view.paths;
  if (!await exists(vmFile)) {
    throw new GatewayError({
      code: "instance-stopped",
      what: `Cannot tell what the instance "${view.config.name}" runs`,
      why: "it was never started",
      fix: `run \`gateway up --name ${view.config.name}\` first`,
    });
  }
  const spec = parseVmSpec(await Deno.readTextFile(vmFile), vmFile);
  const root = spec.disks.find(({ serial }) => serial === "root");
  const found: [RunningFile["role"], string][] = [["kernel", spec.kernel.path]];
  if (root) found.push(["root image", root.path]);
  const pid = view.state === "running" ? view.run?.gvproxy?.pid : undefined;
  const program = pid === undefined
    ? undefined
    : await Deno.readLink(`/proc/${pid}/exe`).catch(() => undefined);
  if (program) found.push(["network", program]);
  const library = view.state === "running" ? await preloaded(view.run?.vmm?.pid) : undefined;
  if (library) found.push(["memory library", library]);
  return found;
}

/** The library of ours that holds the guest's memory in layers; it is in QEMU's process. */
async function preloaded(pid: number | undefined): Promise<string | undefined> {
  if (pid === undefined) return undefined;
  const text = await Deno.readTextFile(`/proc/${pid}/environ`).catch(() => "");
  const variable = "GATEWAY_RAM_LIBRARY=";
  return text.split("\0").find((pair) => pair.startsWith(variable))?.slice(variable.length);
}

async function describeFile(
  store: ArtifactStore,
  role: RunningFile["role"],
  path: string,
  manifests: readonly ArtifactManifest[],
  recipes: readonly Recipe[],
): Promise<RunningFile> {
  const digest = basename(dirname(path));
  const expected = /^[0-9a-f]{64}$/.test(digest) ? digest : null;
  const found = await digestFile(path).catch(() => null);
  const own = manifests.filter((one) => one.files[basename(path)]?.sha256 === digest);
  const keys = new Set(recipes.map(recipeKey));
  const manifest = own.find(({ key }) => keys.has(key)) ?? own[0] ?? null;
  const why = whyCustom(manifest, recipes);
  return {
    role,
    path,
    expected,
    found,
    origin: why === "" ? "stock" : "custom",
    why,
    signature: manifest && await store.signatureOf(manifest),
    manifest,
  };
}

/** Why a file is not what this version of gateway makes from its pinned sources; "" when it is. */
export function whyCustom(
  manifest: Pick<ArtifactManifest, "name" | "key" | "inputs" | "facts"> | null,
  recipes: readonly Recipe[],
): string {
  if (!manifest) return "it has no manifest";
  const stock = recipes.find(({ name }) => name === manifest.name);
  if (!stock) return `this version makes no ${manifest.name}`;
  if (recipeKey(stock) !== manifest.key) {
    const names = new Set([...Object.keys(stock.inputs), ...Object.keys(manifest.inputs)]);
    const others = [...names].filter((one) => stock.inputs[one] !== manifest.inputs[one]);
    return `made from other inputs than this version's: ${others.sort().join(", ") || "outputs"}`;
  }
  if (manifest.facts.sourcePinned === false) {
    return `made from ${manifest.facts.sourceVersion}, since the pinned source was gone`;
  }
  return "";
}

/** The newest statement that has all of these files among its subjects. */
async function findStatement(
  store: ArtifactStore,
  files: readonly RunningFile[],
): Promise<{ readonly path: string; readonly statement: ProvenanceStatement } | undefined> {
  const all: { path: string; statement: ProvenanceStatement }[] = [];
  const dirs = await Array.fromAsync(Deno.readDir(setsDir(store))).catch(() => []);
  for (const { name } of dirs) {
    const path = join(setsDir(store), name, "provenance.json");
    const text = await Deno.readTextFile(path).catch(() => "null");
    const statement: ProvenanceStatement | null = JSON.parse(text);
    const subjects = new Set(statement?.subject.map(({ digest }) => digest?.sha256));
    if (statement && files.every(({ expected }) => subjects.has(expected ?? ""))) {
      all.push({ path, statement });
    }
  }
  const finished = (one: typeof all[0]) => one.statement.predicate.runDetails.metadata.finishedOn;
  return all.sort((a, b) => (finished(a) < finished(b) ? 1 : -1))[0];
}

/** The report for people. */
export function provenanceText(report: ProvenanceReport): string {
  const lines = [
    `${report.instance} ${report.state === "running" ? "runs" : `(${report.state}) last ran`} from`,
  ];
  for (const file of report.files) {
    const { manifest, signature } = file;
    const rows: [string, string | undefined][] = [
      ["file", file.path],
      ["sha256", file.found ?? "none: the file is gone"],
      ["expected", file.found === file.expected ? undefined : file.expected ?? "nothing known"],
      ["signature", signatureWords(signature)],
      ["built", manifest ? builtWords(manifest) : undefined],
      ["kernel", manifest?.facts.kernelRelease as string | undefined],
      ["source", sourceWords(manifest)],
    ];
    const origin = file.origin === "stock" ? "stock" : `custom: ${file.why}`;
    lines.push("", `${file.role}   ${origin}`);
    for (const [label, value] of rows) if (value) lines.push(`  ${label.padEnd(10)} ${value}`);
  }
  lines.push("", `vmm          ${report.vmm ?? "not running"}`);
  lines.push(`provenance   ${report.provenance ?? "none: written by the next start"}`);
  lines.push(`sbom         ${report.sbom ?? "none: this image was built before there was one"}`);
  if (!report.intact) lines.push("", "NOT INTACT: a file is not what it was written as");
  return lines.join("\n");
}

function signatureWords(signature: SignatureState | null): string | undefined {
  if (signature === null) return undefined;
  if (signature.state === "signed") return `by the trusted key ${signature.keyId}`;
  return signature.state === "unsigned" ? "none" : `${signature.state}: ${signature.why}`;
}

function builtWords({ builtAt, buildMs, builder }: ArtifactManifest): string {
  const seconds = (buildMs / 1000).toFixed(1);
  const by = builder
    ? ` by gateway ${builder.gateway}, commit ${builder.gitCommit ?? "unknown"}`
    : "";
  return `${builtAt} in ${seconds} s${by}`;
}

function sourceWords(manifest: ArtifactManifest | null): string | undefined {
  const { sourcePackage, sourceVersion, packages, cluster } = manifest?.facts ?? {};
  if (sourcePackage) return `${sourcePackage} ${sourceVersion}`;
  if (!packages) return undefined;
  const from = (cluster as { source?: string } | undefined)?.source ?? "unknown";
  return `${
    Object.keys(packages as Record<string, string>).length
  } Debian packages; cluster ${from}`;
}
