/**
 * Signatures over manifests, made and checked by OpenSSH: a key pair of ssh-keygen signs here, and any number of public keys
 * is trusted in a file of its `allowed_signers` form, so that everybody can check a signature without gateway. While no
 * key is trusted, nothing is asked of a signature.
 * It must not decide what is signed, or what happens to what is refused.
 *
 * @module
 */
import { join } from "@std/path";
import { digestBytes } from "../base/digest.ts";
import { writeFileAtomic } from "../base/durable.ts";
import { GatewayError, usageError } from "../base/error.ts";
import { ensurePrivateDir, exists, xdgConfigHome } from "../base/layout.ts";
import { run, type RunResult } from "../base/process.ts";

/** What a signature is for: one that was made for something else does not count. */
const NAMESPACE = "gateway-manifest";
/** Who signs, in `allowed_signers`. */
const IDENTITY = "gateway";
const KEY_TYPE = "ssh-ed25519";
const TIMEOUT_MS = 30_000;

/** How a file stands to the trusted keys. */
export type SignatureState =
  | { readonly state: "signed"; readonly keyId: string }
  | { readonly state: "unsigned" | "untrusted" | "invalid"; readonly why: string };

/** The keys there are; ids are fingerprints as `ssh-keygen -l` prints them. */
export interface KeyList {
  /** Of the key that signs here; null when there is none. */
  readonly signing: string | null;
  /** Public keys whose signatures count, in order. */
  readonly trusted: readonly string[];
  /** The folder they are in. */
  readonly dir: string;
}

/** Where the keys are: `$XDG_CONFIG_HOME/gateway/keys`. */
export function keysDir(): string {
  return join(xdgConfigHome(), "gateway", "keys");
}

const paths = (dir: string) => ({
  secret: join(dir, "signing.key"),
  public: join(dir, "signing.pub"),
  trusted: join(dir, "allowed_signers"),
  /** The folder of trusted keys before 30 November 2026. */
  formerlyTrusted: join(dir, "trusted"),
});

/**
 * Makes the key pair that signs here, the secret one 0600 in a folder of 0700.
 *
 * @throws GatewayError `key-exists` when there is one already: what it signed would be refused from then on.
 */
export async function makeSigningKey(
  dir: string = keysDir(),
): Promise<{ id: string; publicPath: string }> {
  const at = paths(dir);
  if (await exists(at.secret)) {
    throw new GatewayError({
      code: "key-exists",
      what: "Cannot make a signing key",
      why: `"${at.secret}" is there already`,
      fix: "use it, or move it away first: what it has signed will need a new signature",
    });
  }
  await ensurePrivateDir(dir);
  const place = await Deno.makeTempDir({ dir, prefix: "new-" });
  try {
    const file = join(place, "key");
    await sshKeygen({
      args: ["-q", "-t", "ed25519", "-N", "", "-C", IDENTITY, "-f", file],
      what: "Cannot make a signing key",
    });
    const publicKey = await Deno.readTextFile(`${file}.pub`);
    await writeFileAtomic(at.public, publicKey, 0o644);
    await writeFileAtomic(at.secret, await Deno.readTextFile(file), 0o600);
    return { id: parsePublic(publicKey)!.id, publicPath: at.public };
  } finally {
    await Deno.remove(place, { recursive: true });
  }
}

/**
 * Trusts a public key: from now on only what it, or another trusted one, has signed boots.
 *
 * @throws GatewayError `usage` when the file holds no ed25519 public key.
 */
export async function trustKey(file: string, dir: string = keysDir()): Promise<string> {
  const key = await readPublic(file);
  await ensurePrivateDir(dir);
  const keys = await trustedKeys(dir);
  keys.set(key.id, key);
  await writeTrusted(dir, keys);
  return key.id;
}

/** No longer trusts a key. @throws GatewayError `usage` when it was not trusted. */
export async function distrustKey(id: string, dir: string = keysDir()): Promise<void> {
  const keys = await trustedKeys(dir);
  if (!keys.delete(id)) {
    const trusted = [...keys.keys()];
    throw usageError(
      `Cannot stop trusting the key "${id}"`,
      trusted.length === 0 ? "no key is trusted" : `the trusted ones are ${trusted.join(", ")}`,
      "run `gateway keys list`",
    );
  }
  await writeTrusted(dir, keys);
}

/** What keys there are. */
export async function listKeys(dir: string = keysDir()): Promise<KeyList> {
  const at = paths(dir);
  const signing = await exists(at.public) && await exists(at.secret)
    ? (await readPublic(at.public)).id
    : null;
  return { signing, trusted: [...(await trustedKeys(dir)).keys()], dir };
}

/** The trusted public keys by id. A line that holds none is refused, not skipped. */
async function trustedKeys(dir: string): Promise<Map<string, PublicKey>> {
  const { trusted, formerlyTrusted } = paths(dir);
  if (await exists(formerlyTrusted)) {
    throw unknownTrust(
      `"${formerlyTrusted}" holds keys of an older gateway, which did not yet use OpenSSH's`,
      "remove that folder and `signing.key` beside it, then run `gateway keys make`, `sign` and `trust` again",
    );
  }
  const keys = new Map<string, PublicKey>();
  if (!await exists(trusted)) return keys;
  const lines = (await Deno.readTextFile(trusted)).split("\n");
  for (const [at, line] of lines.entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const key = line.startsWith(SIGNER) ? parsePublic(line.slice(SIGNER.length)) : undefined;
    if (key === undefined) {
      throw unknownTrust(
        `line ${at + 1} of "${trusted}" is not as gateway writes it`,
        "take the line out, then run `gateway keys trust` with the file of that key",
      );
    }
    keys.set(key.id, key);
  }
  return keys;
}

const SIGNER = `${IDENTITY} namespaces="${NAMESPACE}" `;

async function writeTrusted(dir: string, keys: ReadonlyMap<string, PublicKey>): Promise<void> {
  const lines = [...keys.values()].map(({ line }) => `${SIGNER}${line}\n`);
  await writeFileAtomic(paths(dir).trusted, lines.join(""), 0o644);
}

function unknownTrust(why: string, fix: string): GatewayError {
  return new GatewayError({
    ...{ code: "signature-invalid", what: "Cannot tell which keys are trusted" },
    ...{ why, fix },
  });
}

/** A set of trusted keys, read once. */
export class Trust {
  readonly #keys: ReadonlyMap<string, PublicKey>;
  readonly #dir: string;

  private constructor(keys: ReadonlyMap<string, PublicKey>, dir: string) {
    this.#keys = keys;
    this.#dir = dir;
  }

  /** Reads who is trusted. @throws GatewayError `signature-invalid` when that cannot be told. */
  static async load(dir: string = keysDir()): Promise<Trust> {
    return new Trust(await trustedKeys(dir), dir);
  }

  /** Whether any key is trusted, and so signatures are asked for. */
  get active(): boolean {
    return this.#keys.size > 0;
  }

  /** Whether what is signed here is trusted here. */
  async signsHere(): Promise<boolean> {
    const { signing } = await listKeys(this.#dir);
    return signing !== null && this.#keys.has(signing);
  }

  /** How the bytes of a file stand to the signature beside it. */
  async check(path: string, bytes: Uint8Array): Promise<SignatureState> {
    const signaturePath = `${path}.sig`;
    const text = await Deno.readTextFile(signaturePath).catch(() => undefined);
    if (text === undefined) return { state: "unsigned", why: `there is no "${signaturePath}"` };
    const parsed = parseSignature(text);
    if (!parsed) {
      return { state: "invalid", why: `"${signaturePath}" is no signature of OpenSSH's` };
    }
    const { keyId, sha256 } = parsed;
    const found = digestBytes(bytes);
    if (sha256 !== undefined && found !== sha256) {
      return {
        state: "invalid",
        why: `"${path}" has sha256 ${found} and "${signaturePath}" is for ${sha256}`,
      };
    }
    if (!this.#keys.has(keyId)) {
      return {
        state: "untrusted",
        why: `"${signaturePath}" is by the key ${keyId}, which is not trusted`,
      };
    }
    const { code } = await sshKeygen({
      args: [
        ...["-Y", "verify", "-f", paths(this.#dir).trusted, "-I", IDENTITY],
        ...["-n", NAMESPACE, "-s", signaturePath],
      ],
      stdin: bytes,
      what: `Cannot check the signature of "${path}"`,
      check: false,
    });
    if (code === 0) return { state: "signed", keyId };
    return {
      state: "invalid",
      why: `"${signaturePath}" is not the key ${keyId}'s signature of sha256 ${found}`,
    };
  }
}

/** Signs a file's bytes into `PATH.sig`; false, and no signature left, when there is no key here. */
export async function signFile(
  path: string,
  bytes: Uint8Array,
  dir: string = keysDir(),
): Promise<boolean> {
  const at = paths(dir);
  if (!await exists(at.secret)) {
    await Deno.remove(`${path}.sig`).catch(() => {});
    return false;
  }
  if (!/^-----BEGIN OPENSSH PRIVATE KEY-----/.test(await Deno.readTextFile(at.secret))) {
    throw new GatewayError({
      code: "key-missing",
      what: `Cannot sign "${path}"`,
      why: `"${at.secret}" does not hold an ed25519 key of OpenSSH's`,
      fix: "move it away, then run `gateway keys make`",
    });
  }
  const { stdout } = await sshKeygen({
    args: ["-Y", "sign", "-f", at.secret, "-n", NAMESPACE],
    stdin: bytes,
    what: `Cannot sign "${path}"`,
    fix: `see what \`ssh-keygen -y -f ${at.secret}\` says of the key`,
  });
  // OpenSSH reads no further than the end of the signature; the line lets a mismatch name both digests.
  await writeFileAtomic(`${path}.sig`, `${stdout}sha256 ${digestBytes(bytes)}\n`, 0o644);
  return true;
}

/** Runs it without questions to anybody. */
function sshKeygen(
  options: {
    readonly args: readonly string[];
    readonly what: string;
    readonly fix?: string;
    readonly stdin?: Uint8Array;
    readonly check?: boolean;
  },
): Promise<RunResult> {
  const env = { SSH_ASKPASS_REQUIRE: "never" };
  return run("ssh-keygen", { ...options, env, timeoutMs: TIMEOUT_MS });
}

/** A public key in OpenSSH's form. */
interface PublicKey {
  readonly id: string;
  /** Type and blob, without a comment. */
  readonly line: string;
}

/** What {@linkcode signFile} writes; without its last line what ssh-keygen does. */
const SIGNATURE =
  /^-----BEGIN SSH SIGNATURE-----\n([\s\S]+?)\n-----END SSH SIGNATURE-----\n(?:sha256 ([0-9a-f]{64})\n)?$/;

/** Whose signature it is, and of what by its own words; undefined for what is none. The form is OpenSSH's PROTOCOL.sshsig. */
function parseSignature(text: string): { keyId: string; sha256: string | undefined } | undefined {
  const [, body, sha256] = SIGNATURE.exec(text) ?? [];
  const blob = body === undefined ? undefined : fromBase64(body);
  if (blob === undefined || new TextDecoder().decode(blob.subarray(0, 6)) !== "SSHSIG") {
    return undefined;
  }
  const size = blob.length < 14 ? 0 : new DataView(blob.buffer).getUint32(10);
  const key = blob.subarray(14, 14 + size);
  return { keyId: keyId(key), sha256 };
}

function keyId(blob: Uint8Array): string {
  const digest = Uint8Array.fromHex(digestBytes(blob));
  return `SHA256:${digest.toBase64({ omitPadding: true })}`;
}

function parsePublic(text: string): PublicKey | undefined {
  const [type, body = ""] = text.trim().split(/\s+/);
  const blob = type === KEY_TYPE ? fromBase64(body) : undefined;
  // Two strings, each behind its length: the type, and 32 bytes.
  const start = `\0\0\0\x0b${KEY_TYPE}\0\0\0\x20`;
  if (blob?.length !== start.length + 32) return undefined;
  if (new TextDecoder().decode(blob.subarray(0, start.length)) !== start) return undefined;
  return { id: keyId(blob), line: `${type} ${body}` };
}

async function readPublic(file: string): Promise<PublicKey> {
  const text = await Deno.readTextFile(file).catch(() => "");
  const key = parsePublic(text);
  if (key) return key;
  throw usageError(
    `Cannot use the key "${file}"`,
    text === "" ? "it cannot be read" : "it holds no ed25519 public key of OpenSSH's",
    "name the signing.pub that `gateway keys make` wrote",
  );
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.fromBase64(text);
  } catch {
    return undefined;
  }
}
