/**
 * The key pair with which a payload's service signs its own tokens: Ed25519, made once for an instance that asks for it.
 * It must not sign anything itself.
 *
 * @module
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync } from "node:crypto";
import { join } from "@std/path";
import { digestBytes } from "../../vm/base/digest.ts";
import { ensureFileIn, readTextIfThere, replaceDirectory } from "./files.ts";

/** The keys as OpenShell's server reads them. Holds a secret. */
export interface JwtKeys {
  /** PKCS #8, PEM. Secret. */
  readonly signingPem: string;
  /** SubjectPublicKeyInfo, PEM. */
  readonly publicPem: string;
  /** Names the key in a token's head: the first 16 bytes of the public key's sha256, hexadecimal. */
  readonly kid: string;
}

const FILE = "signing.pem";

/**
 * Gives the stored keys, or makes them. The folder is 0700 and its file 0600. The caller holds the instance's lock.
 *
 * @throws GatewayError `disk-full`.
 */
export async function ensureJwt(dir: string): Promise<JwtKeys> {
  return await ensureFileIn(dir, FILE, describe, () => {
    const { privateKey } = generateKeyPairSync("ed25519");
    return privateKey.export({ type: "pkcs8", format: "pem" }) as string;
  });
}

/**
 * Takes over the keys of the instance whose memory goes on here: the service holds them, and what it has signed stays good.
 * Undefined where that instance has none.
 *
 * @throws GatewayError `disk-full`.
 */
export async function takeJwt(from: string, dir: string): Promise<JwtKeys | undefined> {
  const stored = await readTextIfThere(join(from, FILE));
  const keys = stored === undefined ? undefined : describe(stored);
  if (keys) await replaceDirectory(dir, { [FILE]: { data: keys.signingPem } });
  return keys;
}

/** The set that belongs to a signing key; undefined for a text that is none. */
function describe(signingPem: string): JwtKeys | undefined {
  try {
    const signing = createPrivateKey(signingPem);
    if (signing.asymmetricKeyType !== "ed25519") return undefined;
    const open = createPublicKey(signing);
    const der = open.export({ type: "spki", format: "der" }) as Uint8Array;
    return {
      signingPem,
      publicPem: open.export({ type: "spki", format: "pem" }) as string,
      kid: digestBytes(der).slice(0, 32),
    };
  } catch {
    // What a key parser says could quote the key.
    return undefined;
  }
}
