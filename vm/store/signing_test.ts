import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../base/error.ts";
import { distrustKey, listKeys, makeSigningKey, signFile, Trust, trustKey } from "./signing.ts";

/** A folder with a signed file, and the key's own folder. */
async function withKey(
  body: (at: { dir: string; keys: string; file: string; id: string }) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    const keys = join(dir, "keys");
    const { id } = await makeSigningKey(keys);
    const file = join(dir, "manifest.json");
    await Deno.writeTextFile(file, '{"a": 1}\n');
    assertEquals(await signFile(file, await Deno.readFile(file), keys), true);
    await body({ dir, keys, file, id });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const checkIn = async (keys: string, file: string) =>
  await (await Trust.load(keys)).check(file, await Deno.readFile(file));

async function flip(file: string, at: number): Promise<void> {
  const bytes = await Deno.readFile(file);
  bytes[at]! ^= 1;
  await Deno.writeFile(file, bytes);
}

Deno.test("makeSigningKey() writes a secret key for its owner only, and never a second one", () =>
  withKey(async ({ keys, id }) => {
    assertEquals((await Deno.stat(join(keys, "signing.key"))).mode! & 0o777, 0o600);
    assertEquals((await Deno.stat(keys)).mode! & 0o777, 0o700);
    const before = await Deno.readTextFile(join(keys, "signing.key"));
    const error = await assertRejects(() => makeSigningKey(keys), GatewayError);
    assertEquals(error.code, "usage");
    assertEquals(await Deno.readTextFile(join(keys, "signing.key")), before);
    assertEquals(await listKeys(keys), { signing: id, trusted: [], dir: keys });
  }));

Deno.test("Trust.check() takes the signature of a trusted key", () =>
  withKey(async ({ keys, file, id }) => {
    await trustKey(join(keys, "signing.pub"), keys);
    assertEquals(await checkIn(keys, file), { state: "signed", keyId: id });
    const trust = await Trust.load(keys);
    assertEquals([trust.active, await trust.signsHere()], [true, true]);
    await distrustKey(id, keys);
    assertEquals((await Trust.load(keys)).active, false);
    await assertRejects(() => distrustKey(id, keys), GatewayError, "no key is trusted");
  }));

Deno.test("Trust.check() names both digests when the file was changed", () =>
  withKey(async ({ keys, file }) => {
    await trustKey(join(keys, "signing.pub"), keys);
    await flip(file, 3);
    const found = await checkIn(keys, file);
    assert(found.state === "invalid");
    const digests = found.why.match(/[0-9a-f]{64}/g)!;
    assertEquals([new Set(digests).size, found.why.includes(file)], [2, true]);
  }));

Deno.test("Trust.check() refuses every flipped byte of the signature file", () =>
  withKey(async ({ keys, file }) => {
    await trustKey(join(keys, "signing.pub"), keys);
    const good = await Deno.readFile(`${file}.sig`);
    const text = new TextDecoder().decode(good);
    const end = text.indexOf('"', text.indexOf('"signature": "') + 14);
    for (let at = text.indexOf('"keyId"'); at < end; at += 5) {
      await flip(`${file}.sig`, at);
      const { state } = await checkIn(keys, file);
      assert(state !== "signed" && state !== "unsigned", `byte ${at}: ${state}`);
      await Deno.writeFile(`${file}.sig`, good);
    }
  }));

Deno.test("Trust.check() refuses the key of somebody else and a file without a signature", () =>
  withKey(async ({ dir, keys, file, id }) => {
    const other = join(dir, "other");
    await makeSigningKey(other);
    await trustKey(join(other, "signing.pub"), keys);
    const found = await checkIn(keys, file);
    assert(found.state === "untrusted");
    assertStringIncludes(found.why, id);
    await Deno.remove(`${file}.sig`);
    assertEquals((await checkIn(keys, file)).state, "unsigned");
  }));

Deno.test("Trust.check() refuses a signature that was relabelled as the trusted key's", () =>
  withKey(async ({ dir, keys, file, id }) => {
    const other = join(dir, "other");
    const { id: otherId } = await makeSigningKey(other);
    await trustKey(join(other, "signing.pub"), keys);
    const signature = await Deno.readTextFile(`${file}.sig`);
    await Deno.writeTextFile(`${file}.sig`, signature.replace(id, otherId));
    const found = await checkIn(keys, file);
    assert(found.state === "invalid");
    assertStringIncludes(found.why, `is not the key ${otherId}'s signature`);
  }));

Deno.test("trustKey() refuses a secret key, another kind of key and a file that is none", () =>
  withKey(async ({ dir, keys }) => {
    const other = join(dir, "rsa.pub");
    const pair = await crypto.subtle.generateKey("X25519", true, ["deriveBits"]) as CryptoKeyPair;
    const spki = new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey)).toBase64();
    await Deno.writeTextFile(
      other,
      `-----BEGIN PUBLIC KEY-----\n${spki}\n-----END PUBLIC KEY-----\n`,
    );
    for (const file of [join(keys, "signing.key"), other, join(dir, "none")]) {
      const error = await assertRejects(() => trustKey(file, keys), GatewayError);
      assertEquals(error.code, "usage");
    }
    assertEquals((await listKeys(keys)).trusted, []);
  }));

Deno.test("Trust.load() refuses a trusted key under another's name", () =>
  withKey(async ({ keys, id }) => {
    await trustKey(join(keys, "signing.pub"), keys);
    const folder = join(keys, "trusted");
    await Deno.rename(join(folder, `${id}.pub`), join(folder, `${"0".repeat(16)}.pub`));
    const error = await assertRejects(() => Trust.load(keys), GatewayError);
    assertEquals(error.code, "signature-invalid");
  }));

Deno.test("signFile() without a key leaves no signature of an older file behind", () =>
  withKey(async ({ keys, file }) => {
    await Deno.remove(join(keys, "signing.key"));
    assertEquals(await signFile(file, await Deno.readFile(file), keys), false);
    await assertRejects(() => Deno.stat(`${file}.sig`), Deno.errors.NotFound);
  }));
