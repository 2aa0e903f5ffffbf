/**
 * Images and charts of registries as artifacts: a reference with its digest is pulled by ocipull (go-containerregistry)
 * into one file, which the store keeps like anything built. What is asked for decides the key, never where it came from.
 * And the digest of a reference that has none yet.
 * It must not choose what is pulled, nor put a credential anywhere but into ocipull's standard input.
 *
 * @module
 */
import { join } from "@std/path";
import { type Arch, type HostPlatform, thisHost } from "../../vm/base/arch.ts";
import { type ErrorCode, GatewayError } from "../../vm/base/error.ts";
import type { JsonValue, Span } from "../../vm/base/event.ts";
import { run } from "../../vm/base/process.ts";
import {
  type ArtifactStore,
  type BuildContext,
  digestBytes,
  type Recipe,
} from "../../vm/store/artifact.ts";
import { guestGoRecipe } from "../pins/programs.ts";

/** What is pulled: `ref` as people write it, `digest` of the index or manifest it stands for. */
export interface Pinned {
  /** Such as "ghcr.io/x/y:1.2". */
  readonly ref: string;
  /** "sha256:" and 64 hexadecimal digits. */
  readonly digest: string;
}

/** How registries are reached; it decides no bytes. Secret. */
export interface PullAccess {
  /** k3s's registries.yaml as plain JSON, or nothing. */
  readonly registries: JsonValue;
  /** Certificates of authorities that are trusted beside the host's. */
  readonly caFiles: readonly string[];
  /** How the user calls what holds the settings, for what an error tells to do. */
  readonly settings: string;
}

/** What ocipull says at its end. */
export interface PullResult {
  /** Digest of the manifest for the architecture. */
  readonly manifest: string;
  /** Size of all blobs. */
  readonly bytes: number;
  /** Of them, what came over the network now. */
  readonly fetched: number;
  /** What pods may call the image. */
  readonly names?: readonly string[];
  /** Of the bytes, what the cache of blobs does not have; of the question for a size only. */
  readonly missing?: number;
}

/** What the names of all pulled artifacts start with. */
export const PULLED_PREFIX = "pulled-";

const DIGEST_PATTERN = /^sha256:[0-9a-f]{64}$/;

/** The archive's name in the artifact of an image. */
export const IMAGE_FILE = "image.tar";
/** The archive's name in the artifact of a chart. */
export const CHART_FILE = "chart.tgz";

/** The ocipull of a host: of this one by default. */
export function pullerRecipe({ os, arch }: HostPlatform = thisHost()): Promise<Recipe> {
  return guestGoRecipe({
    name: "ocipull",
    label: "OCI image puller",
    dir: "ocipull",
    programs: [{ pkg: ".", output: "ocipull" }],
    arch,
    goos: os,
  });
}

/** What the two recipes share. */
export interface PulledOptions extends Pinned {
  readonly access: PullAccess;
  /** The host's ocipull. */
  readonly puller: Recipe;
  /** Passed on when ocipull has to be built. */
  readonly assumeYes: boolean;
}

/**
 * A recipe that leaves image.tar, an OCI archive with the one image for the architecture, named by its reference and
 * by its digest. @throws GatewayError `usage` for a digest that is none.
 */
export function pulledImageRecipe(options: PulledOptions & { readonly arch: Arch }): Recipe {
  return pulledRecipe({ ...options, kind: "image" });
}

/** A recipe that leaves chart.tgz. @throws GatewayError `usage` for a digest that is none. */
export function pulledChartRecipe(options: PulledOptions): Recipe {
  return pulledRecipe({ ...options, kind: "chart" });
}

type Asked = PulledOptions & { readonly kind: "image" | "chart"; readonly arch?: Arch };
type Kind = Asked["kind"] | "digest" | "size";

function pulledRecipe(asked: Asked): Recipe {
  const { kind, ref, digest, arch } = asked;
  if (!DIGEST_PATTERN.test(digest)) {
    throw new GatewayError({
      code: "usage",
      what: `Cannot pull the ${kind} "${ref}"`,
      why: digest === "" ? "it has no digest" : `its digest "${digest}" is none`,
      fix: "name it with the sha256 digest of its index or manifest",
    });
  }
  const output = kind === "image" ? IMAGE_FILE : CHART_FILE;
  return {
    name: `${PULLED_PREFIX}${slug(ref)}`,
    label: `${kind} ${ref}`,
    // The first number is of the archive's form.
    inputs: { form: "1", kind, ref, digest, ...(arch && { platform: `linux/${arch}` }) },
    outputs: [output],
    tools: [],
    build: async (ctx) => await pull(asked, join(ctx.outDir, output), ctx),
  };
}

/** A file name that tells the reference, and differs for each. */
function slug(ref: string): string {
  const all = ref.replace(/@.*$/, "").replaceAll(/[^A-Za-z0-9.]+/g, "-");
  // Its end tells the most; a word that was cut would be another name.
  const words = all.length <= 60 ? all : all.slice(-60).replace(/^[^-]*-(?=.)/, "");
  return `${words.replace(/^[-.]+/, "")}-${digestBytes(ref).slice(0, 8)}`;
}

/** Generous: whoever has a slow line still gets a large image; a line that brings nothing ends much earlier. */
const PULL_TIMEOUT_MS = 3 * 60 * 60_000;

async function pull(
  asked: Asked,
  output: string,
  ctx: BuildContext,
): Promise<Record<string, JsonValue>> {
  const { manifest, bytes, names } = await ask({ ...asked, output }, {
    ...ctx,
    what: `Cannot pull the ${asked.kind} "${asked.ref}"`,
    timeoutMs: PULL_TIMEOUT_MS,
  });
  return { manifest, bytes, ...(names && { names }) };
}

/** A registry that is slower than this with a few kilobytes is as good as none. */
const RESOLVE_TIMEOUT_MS = 60_000;

/**
 * The digest that a reference's tag stands for now, from the registry or a mirror of it; nothing is kept.
 *
 * @throws GatewayError as a pull.
 */
export async function resolveDigest(
  ref: string,
  options: Omit<PulledOptions, "ref" | "digest"> & {
    readonly store: ArtifactStore;
    readonly span: Span;
    readonly signal: AbortSignal;
  },
): Promise<string> {
  const asked = { ...options, kind: "digest", ref, digest: "", output: "" } as const;
  const what = `Cannot find out the digest of "${ref}"`;
  const how = { ...options, what, timeoutMs: RESOLVE_TIMEOUT_MS };
  try {
    return (await ask(asked, how)).manifest;
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== "timeout") throw error;
    const told = { kind: "unreachable", why: error.why };
    throw pullError(asked, told, { ...how, cache: options.store.root });
  }
}

/** A look that takes longer would hold up the pull itself. */
const SIZE_TIMEOUT_MS = 20_000;

/**
 * How many bytes a pull would download now; only manifests are requested.
 *
 * @throws GatewayError as a pull, or `timeout`.
 */
export async function downloadBytes(
  options: PulledOptions & {
    readonly arch: Arch;
    readonly store: ArtifactStore;
    readonly span: Span;
    readonly signal: AbortSignal;
  },
): Promise<number> {
  const what = `Cannot find out the size of "${options.ref}"`;
  const asked = { ...options, kind: "size", output: "" } as const;
  return (await ask(asked, { ...options, what, timeoutMs: SIZE_TIMEOUT_MS })).missing ?? 0;
}

/** Runs ocipull once. @throws GatewayError for what it tells. */
async function ask(
  asked: Omit<Asked, "kind"> & { readonly kind: Kind; readonly output: string },
  how: Pick<BuildContext, "store" | "span" | "signal"> & {
    readonly what: string;
    readonly timeoutMs: number;
  },
): Promise<PullResult> {
  const { kind, ref, digest, access, output } = asked;
  const { store, span, signal, what, timeoutMs } = how;
  const puller = await store.ensure(asked.puller, { span, signal, assumeYes: asked.assumeYes });
  const request = {
    arch: asked.arch ?? "",
    blobs: join(store.root, "blobs"),
    registries: access.registries ?? {},
    caFiles: access.caFiles,
    kind,
    ref,
    digest,
    output,
  };
  const lines = new LineReader((line) => follow(line, span));
  const { code, stdout } = await run(puller.files["ocipull"]!.path, {
    args: [],
    stdin: JSON.stringify(request),
    onOutput: (text) => lines.push(text),
    signal,
    timeoutMs,
    check: false,
    what,
  });
  const last = parse(stdout.trimEnd().split("\n").at(-1) ?? "");
  if (code === 0 && last?.result) return last.result as PullResult;
  const told = (last?.error ?? { kind: "other", why: `ocipull ended with code ${code}` }) as Told;
  throw pullError(asked, told, { what, cache: store.root });
}

/** A failure as ocipull reports it. */
export interface Told {
  readonly kind: string;
  readonly why: string;
}

/** One line of ocipull; undefined for one that is no JSON. */
function parse(line: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** What happens on the way becomes events. */
function follow(line: string, span: Span): void {
  const said = parse(line);
  if (typeof said?.note === "string") span.log(said.note);
  const progress = said?.progress as { done: number; total: number } | undefined;
  if (progress) span.progress(progress.done, progress.total, "bytes");
}

/** Splits a stream into lines. */
class LineReader {
  #rest = "";

  constructor(private readonly onLine: (line: string) => void) {}

  push(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop()!;
    for (const line of lines) if (line !== "") this.onLine(line);
  }
}

/** The error for a kind of failure that ocipull reports, with its fix. Pure. */
export function pullError(
  asked: Pick<Asked, "digest" | "access"> & { readonly kind: Kind },
  told: Told,
  { what, cache }: { readonly what: string; readonly cache: string },
): GatewayError {
  const { kind, digest, access } = asked;
  const thing = kind === "digest" ? "the tag" : `${digest.slice(0, 19)}…`;
  const fixes: Readonly<Record<string, readonly [ErrorCode, string]>> = {
    "platform": ["image-platform", "name an image, or an index, that has one for the guest"],
    "digest": [
      "image-digest",
      "check which server answers at that address: the content differs from what was requested, and nothing of it was kept",
    ],
    "unauthorized": [
      "registry-denied",
      `log in with a docker-compatible client (~/.docker/config.json), or add it to ${access.settings}`,
    ],
    "not-found": [
      "image-unknown",
      `check that ${thing} exists under that name; a private one may need a login`,
    ],
    "unknown-host": [
      "registry-unreachable",
      `check the name and this host's DNS, or name a mirror in ${access.settings}`,
    ],
    "unreachable": [
      "registry-unreachable",
      "run the command again when the registry answers: what was downloaded is kept, and the pull resumes from there",
    ],
    "tls": [
      "registry-untrusted",
      `name its authority's certificate (configs, tls, ca_file) in ${access.settings}, or pass --host-ca`,
    ],
    "no-space": [
      "disk-full",
      `free some space below ${cache}, or point XDG_CACHE_HOME at a larger disk, and run the command again`,
    ],
    "registries": ["settings-invalid", `correct ${access.settings}`],
    "credentials": ["registry-denied", "check ~/.docker/config.json and its credential helper"],
    "request": ["usage", "correct the reference"],
    "too-large": [
      "image-unknown",
      "check the reference and which registry or mirror answers: no image or chart is that large",
    ],
    "layout": [
      "image-unknown",
      kind === "digest"
        ? "check which server answers at that address"
        : `name the digest of ${kind === "image" ? "an image" : "a chart"}`,
    ],
  };
  const [code, fix] = fixes[told.kind] ?? ["build-failed", "run the command again"];
  return new GatewayError({ code, what, why: told.why, fix });
}
