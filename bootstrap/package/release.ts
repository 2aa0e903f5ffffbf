/**
 * `deno task release`: dist/release with a file for each target, Debian packages, Homebrew's formula, papers, digests and
 * their signature; and its check, as a user would make it. Equal sources give equal bytes.
 * It must not publish anything, nor print.
 *
 * @module
 */
import { basename, dirname, join } from "@std/path";
import { digestFile } from "../../vm/base/digest.ts";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { signFile, Trust } from "../../vm/store/signing.ts";
import { makeDeb } from "./deb.ts";
import { packForEmbedding } from "./embed.ts";
import { formulaText } from "./formula.ts";
import { HEADER_BYTES } from "./header.ts";
import { findRuntimeFault } from "./mac_signer.ts";
import { makeOneFile } from "./one_file.ts";
import { ownSource, programSbom, releaseProvenance } from "./papers.ts";
import { type PartOptions, pinnedRuntime, platformOf, type Target, TARGETS } from "./runtime.ts";

/** How {@linkcode makeRelease} may act. */
export interface ReleaseOptions {
  /** Made anew. */
  readonly dir: string;
  /** Every target by default. */
  readonly targets?: readonly Target[];
  /** Where its files will be downloadable, an https address; without one there is no formula. */
  readonly base?: string;
  /** Put what a start needs into every file. */
  readonly embed: boolean;
  /** How what has to be got or built first may be. */
  readonly parts: PartOptions;
  /** Where the signing key is; the user's own folder by default. */
  readonly keysDir?: string;
}

const SUMS = "SHA256SUMS";

/**
 * Makes the folder, and returns the names of its files. What was in its place goes when all is made.
 *
 * @throws GatewayError `usage` for an address that Homebrew would not take, or as a build.
 */
export async function makeRelease(options: ReleaseOptions): Promise<string[]> {
  // A bad address is told before anything is made.
  if (options.base !== undefined) await formulaText({}, options.base);
  const { dir } = options;
  const parent = dirname(dir);
  await Deno.mkdir(parent, { recursive: true });
  const work = await Deno.makeTempDir({ dir: parent, prefix: ".release-" });
  try {
    await Deno.chmod(work, 0o755);
    const files = await fill(work, options);
    await Deno.remove(dir, { recursive: true }).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
    await Deno.rename(work, dir);
    return files;
  } catch (error) {
    await Deno.remove(work, { recursive: true });
    throw error;
  }
}

async function fill(dir: string, options: ReleaseOptions): Promise<string[]> {
  const { targets = TARGETS, base, embed, parts } = options;
  const { signal } = parts;
  const source = await ownSource(signal);
  const made: Partial<Record<Target, string>> = {};
  const sha256 = new Map<string, string>();
  const add = async (path: string) => {
    sha256.set(basename(path), await digestFile(path));
  };
  for (const target of targets) {
    const path = join(dir, `gateway-${target}`);
    const packed = embed ? await packForEmbedding(platformOf(target), parts) : [];
    await makeOneFile(path, signal, packed, await pinnedRuntime(target, parts));
    made[target] = path;
    await add(path);
    const { os, arch } = platformOf(target);
    if (os === "linux") await add(await makeDeb(path, arch, signal));
  }
  const write = async (name: string, text: string) => {
    await writeFileAtomic(join(dir, name), text, 0o644);
    await add(join(dir, name));
  };
  const json = (value: unknown) => JSON.stringify(value, null, 2) + "\n";
  if (base !== undefined) await write("gateway.rb", await formulaText(made, base));
  await write("sbom.spdx.json", json(await programSbom(targets, source)));
  await write("provenance.json", json(await releaseProvenance(sha256, targets, source)));
  const sums = [...sha256].map(([name, digest]) => `${digest}  ${name}\n`).join("");
  await write(SUMS, sums);
  const signed = await signFile(join(dir, SUMS), new TextEncoder().encode(sums), options.keysDir);
  return [...sha256.keys(), ...signed ? [`${SUMS}.sig`] : []];
}

/**
 * Looks at a release as a user would: nothing is missing, nothing was added, every digest is right, a trusted key has signed
 * the list, and the Mac's file is signed as macOS wants it. Returns who signed it, or why that was not asked.
 *
 * @throws GatewayError `artifact-corrupt` or `signature-invalid` with what is wrong.
 */
export async function checkRelease(dir: string, keysDir?: string): Promise<string> {
  const path = join(dir, SUMS);
  const text = await Deno.readTextFile(path).catch(() => {
    throw broken(dir, `there is no ${SUMS} in it`);
  });
  const trust = await Trust.load(keysDir);
  const signature = await trust.check(path, new TextEncoder().encode(text));
  if (trust.active && signature.state !== "signed") {
    const fix = "get the release again, or trust the key that signed it: `gateway keys trust FILE`";
    const what = `Cannot trust the release in "${dir}"`;
    throw new GatewayError({ code: "signature-invalid", what, why: signature.why, fix });
  }
  const listed = new Map(
    text.trimEnd().split("\n").map((line) => {
      const [, sha256, name] = /^([0-9a-f]{64}) {2}([\w.-]+)$/.exec(line) ?? [];
      if (!sha256 || !name) throw broken(dir, `${SUMS} has a line that is no digest of a file`);
      return [name, sha256] as const;
    }),
  );
  for await (const { name } of Deno.readDir(dir)) {
    if (!listed.has(name) && ![SUMS, `${SUMS}.sig`].includes(name)) {
      throw broken(dir, `"${name}" is not in ${SUMS}`);
    }
  }
  for (const [name, sha256] of listed) await checkFile(dir, name, sha256);
  if (signature.state === "signed") return `signed by ${signature.keyId}, which is trusted`;
  return `whether it is signed was not asked: no key is trusted here (gateway keys trust FILE)`;
}

async function checkFile(dir: string, name: string, sha256: string): Promise<void> {
  const path = join(dir, name);
  const found = await digestFile(path).catch(() => undefined);
  if (found === undefined) throw broken(dir, `"${name}" is missing`);
  if (found !== sha256) throw broken(dir, `"${name}" has sha256 ${found} instead of ${sha256}`);
  if (!name.startsWith("gateway-darwin-")) return;
  const fault = await findRuntimeFault(path, HEADER_BYTES);
  if (fault !== undefined) throw broken(dir, `the runtime in "${name}": ${fault}`);
}

function broken(dir: string, why: string): GatewayError {
  return new GatewayError({
    code: "artifact-corrupt",
    what: `Cannot use the release in "${dir}"`,
    why,
    fix: "get it again",
  });
}
