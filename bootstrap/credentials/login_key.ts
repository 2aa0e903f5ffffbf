/**
 * The RSA key with which an instance's cluster signs service account tokens once it goes on from another instance's memory:
 * made on the host, where it takes a tenth of a second and not several under emulation.
 * It must not sign anything itself.
 *
 * @module
 */
import { createPrivateKey, generateKeyPair } from "node:crypto";
import { promisify } from "node:util";
import { ensureFileIn } from "./files.ts";

const FILE = "token.key";
const BITS = 2048;

/**
 * Gives the stored key or makes one: PKCS #8, PEM. Secret. The folder is 0700 and its file 0600. The caller holds the
 * instance's lock.
 *
 * @throws GatewayError `disk-full`.
 */
export async function ensureLoginKey(dir: string): Promise<string> {
  const sound = (pem: string) => (isSound(pem) ? pem : undefined);
  return await ensureFileIn(dir, FILE, sound, async () => {
    const { privateKey } = await promisify(generateKeyPair)("rsa", { modulusLength: BITS });
    return privateKey.export({ type: "pkcs8", format: "pem" }) as string;
  });
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
