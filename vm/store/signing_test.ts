import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../base/error.ts";
import { run } from "../base/process.ts";
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
    assertEquals([error.code, error.exitCode], ["key-exists", 1]);
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
    const [begin, end] = [text.indexOf("\n"), text.indexOf("\n-----END")];
    for (let at = begin; at < end; at += 5) {
      // Whatever is white space is none of the signature.
      if (text[at] === "\n") continue;
      await flip(`${file}.sig`, at);
      const { state } = await checkIn(keys, file);
      assert(state !== "signed" && state !== "unsigned", `byte ${at}: ${state}`);
      await Deno.writeFile(`${file}.sig`, good);
    }
  }));

Deno.test("a signature is one that ssh-keygen verifies by hand, and one that it made counts", () =>
  withKey(async ({ keys, file, id }) => {
    await trustKey(join(keys, "signing.pub"), keys);
    const bytes = await Deno.readFile(file);
    const who = ["-I", "gateway", "-n", "gateway-manifest", "-s", `${file}.sig`];
    const args = ["-Y", "verify", "-f", join(keys, "allowed_signers"), ...who];
    const { stdout } = await run("ssh-keygen", { args, stdin: bytes });
    assertStringIncludes(
      stdout,
      `Good "gateway-manifest" signature for gateway with ED25519 key ${id}`,
    );
    const sign = (namespace: string) =>
      run("ssh-keygen", {
        args: ["-Y", "sign", "-f", join(keys, "signing.key"), "-n", namespace],
        stdin: bytes,
      });
    await Deno.writeTextFile(`${file}.sig`, (await sign("gateway-manifest")).stdout);
    assertEquals(await checkIn(keys, file), { state: "signed", keyId: id });
    await Deno.writeTextFile(`${file}.sig`, (await sign("file")).stdout);
    assertEquals((await checkIn(keys, file)).state, "invalid");
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
  withKey(async ({ dir, keys, file }) => {
    const other = join(dir, "other");
    const { id: otherId } = await makeSigningKey(other);
    await trustKey(join(other, "signing.pub"), keys);
    const blobOf = async (path: string) =>
      Uint8Array.fromBase64((await Deno.readTextFile(path)).split(" ")[1]!);
    const lines = (await Deno.readTextFile(`${file}.sig`)).split("\n");
    const end = lines.indexOf("-----END SSH SIGNATURE-----");
    const signature = Uint8Array.fromBase64(lines.slice(1, end).join(""));
    // Behind SSHSIG, the version and the key's length.
    signature.set(await blobOf(join(other, "signing.pub")), 14);
    const text = [lines[0], signature.toBase64(), ...lines.slice(end)].join("\n");
    await Deno.writeTextFile(`${file}.sig`, text);
    const found = await checkIn(keys, file);
    assert(found.state === "invalid");
    assertStringIncludes(found.why, `is not the key ${otherId}'s signature`);
  }));

Deno.test("trustKey() refuses a secret key, another kind of key and a file that is none", () =>
  withKey(async ({ dir, keys }) => {
    const other = join(dir, "rsa.pub");
    const args = ["-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", join(dir, "rsa")];
    await run("ssh-keygen", { args });
    for (const file of [join(keys, "signing.key"), other, join(dir, "none")]) {
      const error = await assertRejects(() => trustKey(file, keys), GatewayError);
      assertEquals(error.code, "usage");
    }
    assertEquals((await listKeys(keys)).trusted, []);
  }));

Deno.test("Trust.load() refuses a line that is no trusted key, and the keys of an older gateway", () =>
  withKey(async ({ keys }) => {
    await trustKey(join(keys, "signing.pub"), keys);
    const file = join(keys, "allowed_signers");
    const good = await Deno.readTextFile(file);
    for (const line of [good.replace("gateway-manifest", "file"), good.replace("AAAA", "AAAB")]) {
      await Deno.writeTextFile(file, `${good}${line}`);
      const error = await assertRejects(() => Trust.load(keys), GatewayError);
      assertEquals([error.code, error.why.startsWith("line 2 of")], ["signature-invalid", true]);
    }
    await Deno.writeTextFile(file, good);
    await Deno.mkdir(join(keys, "trusted"));
    const error = await assertRejects(() => Trust.load(keys), GatewayError);
    assertEquals(error.code, "signature-invalid");
    assertStringIncludes(error.fix, "gateway keys make");
  }));

Deno.test("signFile() refuses a key that is none of OpenSSH's, and asks nobody for a passphrase", () =>
  withKey(async ({ keys, file }) => {
    const bytes = await Deno.readFile(file);
    const secret = join(keys, "signing.key");
    await run("ssh-keygen", { args: ["-q", "-p", "-P", "", "-N", "passphrase", "-f", secret] });
    const locked = await assertRejects(() => signFile(file, bytes, keys), GatewayError);
    assertStringIncludes(locked.fix, "ssh-keygen -y -f");
    await Deno.writeTextFile(secret, "-----BEGIN PRIVATE KEY-----\n");
    const former = await assertRejects(() => signFile(file, bytes, keys), GatewayError);
    assertEquals([former.code, former.exitCode], ["key-missing", 1]);
  }));

Deno.test("signFile() without a key leaves no signature of an older file behind", () =>
  withKey(async ({ keys, file }) => {
    await Deno.remove(join(keys, "signing.key"));
    assertEquals(await signFile(file, await Deno.readFile(file), keys), false);
    await assertRejects(() => Deno.stat(`${file}.sig`), Deno.errors.NotFound);
  }));
