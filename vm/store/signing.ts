/**
 * Ed25519 keys of the user's and signatures over manifests, by WebCrypto. One key pair signs here; any number of public
 * keys are trusted. While none is, nothing is asked of a signature.
 * It must not decide what is signed, or what happens to what is refused.
 *
 * @module
 */
import { join } from "@std/path";
import * as v from "valibot";
import { digestBytes } from "../base/digest.ts";
import { writeFileAtomic } from "../base/durable.ts";
import { GatewayError, usageError } from "../base/error.ts";
import { ensurePrivateDir, exists, xdgConfigHome } from "../base/layout.ts";

const SignatureFile = v.object({
  schemaVersion: v.literal(1),
  algorithm: v.literal("ed25519"),
  keyId: v.string(),
  /** Of the signed file, so that a mismatch can name both digests. */
  sha256: v.string(),
  signature: v.string(),
});

/** How a file stands to the trusted keys. */
export type SignatureState =
  | { readonly state: "signed"; readonly keyId: string }
  | { readonly state: "unsigned" | "untrusted" | "invalid"; readonly why: string };

/** The keys there are; ids are the first 16 digits of the public key's sha256. */
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
  trusted: join(dir, "trusted"),
});

/**
 * Makes the key pair that signs here: PKCS #8 and SPKI in PEM, the secret one 0600 in a folder of 0700.
 *
 * @throws GatewayError `usage` when there is one already: what it signed would be refused from then on.
 */
export async function makeSigningKey(
  dir: string = keysDir(),
): Promise<{ id: string; publicPath: string }> {
  const at = paths(dir);
  if (await exists(at.secret)) {
    throw usageError(
      "Cannot make a signing key",
      `"${at.secret}" is there already`,
      "use it, or move it away first: what it has signed will need a new signature",
    );
  }
  await ensurePrivateDir(dir);
  const pair = await crypto.subtle.generateKey("Ed25519", true, [
    "sign",
    "verify",
  ]) as CryptoKeyPair;
  const spki = new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey));
  const pkcs8 = new Uint8Array(await crypto.subtle.exportKey("pkcs8", pair.privateKey));
  await writeFileAtomic(at.public, pem("PUBLIC KEY", spki), 0o644);
  await writeFileAtomic(at.secret, pem("PRIVATE KEY", pkcs8), 0o600);
  return { id: keyId(spki), publicPath: at.public };
}

/**
 * Trusts a public key: from now on only what it, or another trusted one, has signed boots.
 *
 * @throws GatewayError `usage` when the file holds no ed25519 public key.
 */
export async function trustKey(file: string, dir: string = keysDir()): Promise<string> {
  const spki = await readPublic(file);
  await ensurePrivateDir(dir);
  await ensurePrivateDir(paths(dir).trusted);
  await writeFileAtomic(
    join(paths(dir).trusted, `${keyId(spki)}.pub`),
    pem("PUBLIC KEY", spki),
    0o644,
  );
  return keyId(spki);
}

/** No longer trusts a key. @throws GatewayError `usage` when it was not trusted. */
export async function distrustKey(id: string, dir: string = keysDir()): Promise<void> {
  const { trusted } = await listKeys(dir);
  if (!trusted.includes(id)) {
    throw usageError(
      `Cannot stop trusting the key "${id}"`,
      trusted.length === 0 ? "no key is trusted" : `the trusted ones are ${trusted.join(", ")}`,
      "run `gateway keys list`",
    );
  }
  await Deno.remove(join(paths(dir).trusted, `${id}.pub`));
}

/** What keys there are. */
export async function listKeys(dir: string = keysDir()): Promise<KeyList> {
  const at = paths(dir);
  const signing = await exists(at.public) && await exists(at.secret)
    ? keyId(await readPublic(at.public))
    : null;
  return { signing, trusted: [...(await trustedKeys(dir)).keys()], dir };
}

/** The trusted public keys by id. A file that holds another key than its name says is refused, not skipped. */
async function trustedKeys(dir: string): Promise<Map<string, CryptoKey>> {
  const keys = new Map<string, CryptoKey>();
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(paths(dir).trusted)) names.push(entry.name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  for (const name of names.filter((name) => name.endsWith(".pub")).sort()) {
    const file = join(paths(dir).trusted, name);
    const spki = await readPublic(file);
    if (name !== `${keyId(spki)}.pub`) {
      throw new GatewayError({
        code: "signature-invalid",
        what: "Cannot tell which keys are trusted",
        why: `"${file}" holds the key ${keyId(spki)}`,
        fix: `remove it, then run \`gateway keys trust\` with the right file`,
      });
    }
    keys.set(keyId(spki), await importPublic(spki));
  }
  return keys;
}

/** A set of trusted keys, read once. */
export class Trust {
  readonly #keys: ReadonlyMap<string, CryptoKey>;
  readonly #dir: string;

  private constructor(keys: ReadonlyMap<string, CryptoKey>, dir: string) {
    this.#keys = keys;
    this.#dir = dir;
  }

  /** Reads the folder. */
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
    if (!parsed) return { state: "invalid", why: `"${signaturePath}" is no signature file` };
    const found = digestBytes(bytes);
    if (found !== parsed.sha256) {
      return {
        state: "invalid",
        why: `"${path}" has sha256 ${found} and "${signaturePath}" is for ${parsed.sha256}`,
      };
    }
    const key = this.#keys.get(parsed.keyId);
    if (!key) {
      return {
        state: "untrusted",
        why: `"${signaturePath}" is by the key ${parsed.keyId}, which is not trusted`,
      };
    }
    const good = await crypto.subtle.verify(
      "Ed25519",
      key,
      Uint8Array.from(parsed.bytes),
      Uint8Array.from(bytes),
    );
    if (good) return { state: "signed", keyId: parsed.keyId };
    return {
      state: "invalid",
      why: `"${signaturePath}" is not the key ${parsed.keyId}'s signature of sha256 ${found}`,
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
  const secret = await Deno.readTextFile(at.secret);
  const key = await crypto.subtle.importKey(
    "pkcs8",
    unpem(secret) ?? new Uint8Array(),
    "Ed25519",
    false,
    [
      "sign",
    ],
  ).catch(() => {
    throw usageError(
      `Cannot sign "${path}"`,
      `"${at.secret}" holds no ed25519 key`,
      "move it away, then run `gateway keys make`",
    );
  });
  const signature = await crypto.subtle.sign("Ed25519", key, Uint8Array.from(bytes));
  const file: v.InferOutput<typeof SignatureFile> = {
    schemaVersion: 1,
    algorithm: "ed25519",
    keyId: keyId(await readPublic(at.public)),
    sha256: digestBytes(bytes),
    signature: new Uint8Array(signature).toBase64(),
  };
  await writeFileAtomic(`${path}.sig`, JSON.stringify(file, null, 2) + "\n", 0o644);
  return true;
}

function parseSignature(text: string) {
  try {
    const file = v.parse(SignatureFile, JSON.parse(text));
    return { ...file, bytes: Uint8Array.fromBase64(file.signature) };
  } catch {
    return undefined;
  }
}

function keyId(spki: Uint8Array): string {
  return digestBytes(spki).slice(0, 16);
}

async function readPublic(file: string): Promise<Uint8Array<ArrayBuffer>> {
  const text = await Deno.readTextFile(file).catch(() => "");
  const spki = text.includes("PUBLIC KEY") ? unpem(text) : undefined;
  if (spki && await importPublic(spki).then(() => true, () => false)) return spki;
  throw usageError(
    `Cannot use the key "${file}"`,
    text === "" ? "it cannot be read" : "it holds no ed25519 public key in PEM",
    "name the signing.pub that `gateway keys make` wrote",
  );
}

function importPublic(spki: Uint8Array<ArrayBuffer>): Promise<CryptoKey> {
  return crypto.subtle.importKey("spki", spki, "Ed25519", true, ["verify"]);
}

function pem(label: string, der: Uint8Array): string {
  const lines = der.toBase64().match(/.{1,64}/g)!.join("\n");
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}

function unpem(text: string): Uint8Array<ArrayBuffer> | undefined {
  const body = /-----BEGIN [A-Z ]+-----([\s\S]+?)-----END/.exec(text)?.[1];
  try {
    return body === undefined ? undefined : Uint8Array.fromBase64(body);
  } catch {
    return undefined;
  }
}
