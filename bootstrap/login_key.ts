/**
 * The RSA key with which an instance's cluster signs service account tokens once it goes on from another instance's memory:
 * made on the host, where it takes a tenth of a second and not several under emulation.
 * It must not sign anything itself.
 *
 * @module
 */
import { createPrivateKey, generateKeyPair } from "node:crypto";
import { promisify } from "node:util";
import { join } from "@std/path";
import { readTextIfThere, recoverDirectory, replaceDirectory, setAside } from "./files.ts";

const FILE = "token.key";
const BITS = 2048;

/**
 * Gives the stored key or makes one: PKCS #8, PEM. Secret. The folder is 0700 and its file 0600. The caller holds the
 * instance's lock.
 *
 * @throws GatewayError `disk-full`.
 */
export async function ensureLoginKey(dir: string): Promise<string> {
  await recoverDirectory(dir);
  const stored = await readTextIfThere(join(dir, FILE));
  if (stored !== undefined && isSound(stored)) return stored;
  if (stored !== undefined) await setAside(dir);
  const { privateKey } = await promisify(generateKeyPair)("rsa", { modulusLength: BITS });
  const made = privateKey.export({ type: "pkcs8", format: "pem" }) as string;
  await replaceDirectory(dir, { [FILE]: { data: made } });
  return made;
}

function isSound(pem: string): boolean {
  try {
    const { asymmetricKeyType, asymmetricKeyDetails } = createPrivateKey(pem);
    return asymmetricKeyType === "rsa" && (asymmetricKeyDetails?.modulusLength ?? 0) >= BITS;
  } catch {
    // What a key parser says could quote the key.
    return false;
  }
}
