/**
 * Pinning OpenShell on first use: what the program's own lock file names without a digest is asked of the registries once
 * and noted in a folder of the user's, by which every later pull goes.
 * It must not change what was noted once, nor write into the program's own folder.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { isMap, isSeq, parseDocument } from "yaml";
import { pullerRecipe, resolveDigest } from "../../rootfs/images/pulled.ts";
import { digestBytes } from "../../vm/base/digest.ts";
import { renameDurable, writeFileAtomic } from "../../vm/base/durable.ts";
import { describeError, GatewayError } from "../../vm/base/error.ts";
import { dataDir, ensurePrivateDir, exists } from "../../vm/base/layout.ts";
import { sourcePath } from "../../vm/base/source.ts";
import { together } from "../../vm/base/together.ts";
import { ArtifactStore } from "../../vm/store/artifact.ts";
import { downloadText } from "../images/download.ts";
import { pullAccess } from "../images/ensure.ts";
import { PARSE_OPTIONS } from "../yaml/kube_yaml.ts";
import type { PrepareOptions } from "./prepare.ts";
import { readPayload, SPEC_FILE } from "./read.ts";

const LOCK_FILE = "lock.json";

/** Where OpenShell's payload lies as it came with the program. */
export const OPENSHELL_DIR = sourcePath("rootfs/payloads/openshell");

/** How it is pinned. */
export interface PinOptions extends PrepareOptions {
  /** The payload as it came with the program; a test has a copy that leads elsewhere. */
  readonly builtIn?: string;
}

/** A chart or image, with `sha256:…` of its index or manifest once it is known. */
interface PinnedRef {
  readonly name: string;
  readonly ref: string;
  readonly digest: string | null;
}

/** A file of a release page, with the sum of its bytes once it is known. */
interface PinnedFile {
  readonly name: string;
  readonly url: string;
  readonly sha256: string | null;
}

interface Lock {
  readonly schemaVersion: number;
  /** When the digests were asked for; the program's own file has none. */
  readonly noted?: string;
  readonly chart: PinnedRef;
  readonly images: readonly PinnedRef[];
  readonly manifests: readonly PinnedFile[];
}

/** What lacks a digest, by name; empty when all of it is pinned. */
export async function missingPins(dir: string = OPENSHELL_DIR): Promise<string[]> {
  const lock = await readLock(dir);
  return [
    ...[{ ...lock.chart, name: "chart" }, ...lock.images].filter(({ digest }) => digest === null),
    ...lock.manifests.filter(({ sha256 }) => sha256 === null),
  ].map(({ name }) => name);
}

/**
 * The folder of a payload that is pinned whole: the program's own, else the one of this user; undefined without either.
 *
 * @throws GatewayError `payload-invalid` for a folder of the user's that was changed.
 */
export async function pinnedFolder(builtIn: string = OPENSHELL_DIR): Promise<string | undefined> {
  if ((await missingPins(builtIn)).length === 0) return builtIn;
  const dir = await notedFolder(builtIn);
  if (!await exists(dir)) return undefined;
  try {
    await checkNoted(dir);
  } catch (error) {
    throw new GatewayError({
      code: "payload-invalid",
      what: `Cannot use the pinned payload "${dir}"`,
      why: describeError(error),
      fix: "remove that folder; the next start pins it anew",
      cause: error,
    });
  }
  return dir;
}

/**
 * Pins it, unless that was done before; gives the folder. Two that do it at once end with one folder.
 *
 * @throws GatewayError as a pull; `image-unknown` for a manifest that is none; as {@linkcode pinnedFolder}.
 */
export async function pinOpenshell(options: PinOptions): Promise<string> {
  const { builtIn = OPENSHELL_DIR, span } = options;
  const there = await pinnedFolder(builtIn);
  if (there !== undefined) return there;
  const dir = await span.run("pin openshell", async (s) => {
    const { lock, files } = await ask(await readLock(builtIn), { ...options, span: s });
    return await keep(builtIn, lock, files);
  });
  span.log(`openshell is pinned: what its names stand for now is noted in ${dir}`);
  return dir;
}

async function readLock(dir: string): Promise<Lock> {
  return JSON.parse(await Deno.readTextFile(join(dir, LOCK_FILE)));
}

/** Another version of the program, which names other things, has another folder. */
async function notedFolder(builtIn: string): Promise<string> {
  const texts = [SPEC_FILE, LOCK_FILE].map((name) => Deno.readTextFile(join(builtIn, name)));
  const digest = digestBytes((await Promise.all(texts)).join("\0"));
  return join(dataDir(), "payloads", `openshell-${digest.slice(0, 12)}`);
}

/** Holds a folder against its own lock file. @throws Error in words for people. */
async function checkNoted(dir: string): Promise<void> {
  const missing = await missingPins(dir);
  if (missing.length > 0) throw new Error(`it has no digest for ${missing.join(", ")}`);
  for (const { name, sha256 } of (await readLock(dir)).manifests) {
    const found = digestBytes(await Deno.readFile(join(dir, name)));
    if (found !== sha256) throw new Error(`${name} has sha256 ${found} instead of ${sha256}`);
  }
}

/** Asks for all that is missing at once; the first failure ends the others. */
async function ask(
  lock: Lock,
  options: PinOptions,
): Promise<{ readonly lock: Lock; readonly files: Readonly<Record<string, string>> }> {
  const { store = new ArtifactStore(), span, assumeYes, config, builtIn = OPENSHELL_DIR } = options;
  const hostCa = config?.network?.hostCa;
  const access = await pullAccess({ span, hostCa });
  const puller = await pullerRecipe();
  if ([lock.chart, ...lock.images].some(({ digest }) => digest === null)) {
    // Once, so that those below find it.
    await store.ensure(puller, options);
  }
  const pin = (one: PinnedRef) => async (signal: AbortSignal): Promise<PinnedRef> => {
    if (one.digest !== null) return one;
    const how = { access, puller, assumeYes, store, span, signal };
    return { ...one, digest: await resolveDigest(one.ref, how) };
  };
  const get = (one: PinnedFile) => async (signal: AbortSignal) => ({
    one,
    text: one.sha256 === null
      ? await downloadText(one.url, { signal, hostCa })
      : await Deno.readTextFile(join(builtIn, one.name)),
  });
  const [chart, images, fetched] = await together<
    [PinnedRef, PinnedRef[], { readonly one: PinnedFile; readonly text: string }[]]
  >([
    pin(lock.chart),
    (signal) => together(lock.images.map(pin), { signal }),
    (signal) => together(lock.manifests.map(get), { signal }),
  ], options);
  const manifests = fetched.map(({ one, text }) => ({ ...one, sha256: digestBytes(text) }));
  const files = Object.fromEntries(fetched.map(({ one, text }) => [one.name, text]));
  return { lock: { ...lock, noted: new Date().toISOString(), chart, images, manifests }, files };
}

/** Writes the folder whole beside its place, looks whether it is a payload, and puts it there. */
async function keep(
  builtIn: string,
  lock: Lock,
  files: Readonly<Record<string, string>>,
): Promise<string> {
  const dir = await notedFolder(builtIn);
  await ensurePrivateDir(dirname(dir));
  const temporary = `${dir}.tmp-${crypto.randomUUID().slice(0, 8)}`;
  await Deno.mkdir(temporary, { mode: 0o700 });
  try {
    const spec = withDigests(await Deno.readTextFile(join(builtIn, SPEC_FILE)), lock);
    const all = { ...files, [SPEC_FILE]: spec, [LOCK_FILE]: `${JSON.stringify(lock, null, 2)}\n` };
    for (const [name, text] of Object.entries(all)) {
      await writeFileAtomic(join(temporary, name), text);
    }
    await checkReadable(temporary, lock);
    await renameDurable(temporary, dir).catch(async (error) => {
      // Another start was first; what it noted counts.
      if (await pinnedFolder(builtIn) === undefined) throw error;
    });
    return dir;
  } finally {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
  }
}

/** Nothing but the manifests came as a text from elsewhere. */
async function checkReadable(dir: string, { manifests }: Lock): Promise<void> {
  await readPayload(dir).catch((error) => {
    if (!(error instanceof GatewayError)) throw error;
    throw new GatewayError({
      code: "image-unknown",
      what: `Cannot use what came from ${manifests.map(({ url }) => `"${url}"`).join(" and ")}`,
      why: error.why,
      fix: "find out which server answers there",
      cause: error,
    });
  });
}

/** payload.yaml with the digests of its lock file and with its own comments. */
function withDigests(text: string, { chart, images }: Lock): string {
  const document = parseDocument(text, PARSE_OPTIONS);
  const fill = (list: string, key: string, { ref, digest }: PinnedRef) => {
    const entries = document.get(list);
    const entry = isSeq(entries)
      ? entries.items.find((one) => isMap(one) && one.get(key) === ref)
      : undefined;
    if (!isMap(entry)) throw new Error(`${SPEC_FILE} does not name ${ref}`);
    entry.set("digest", digest);
  };
  fill("charts", "oci", chart);
  for (const image of images) fill("images", "ref", image);
  return document.toString({ lineWidth: 0 });
}
