import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { createPrivateKey } from "node:crypto";
import { join } from "@std/path";
import { tempDir } from "../../tests/fakes/temp_dir.ts";
import { ensureLoginKey } from "./login_key.ts";

Deno.test("ensureLoginKey() makes an RSA key once, and anew when it cannot be used", async () => {
  const dir = join(await tempDir(), "login");
  const first = await ensureLoginKey(dir);
  assertEquals(createPrivateKey(first).asymmetricKeyDetails?.modulusLength, 2048);
  assertEquals(Deno.statSync(dir).mode! & 0o777, 0o700);
  assertEquals(Deno.statSync(join(dir, "token.key")).mode! & 0o777, 0o600);
  assertEquals(await ensureLoginKey(dir), first);
  await Deno.writeTextFile(join(dir, "token.key"), "noise");
  const second = await ensureLoginKey(dir);
  assertNotEquals(second, first);
  assertEquals(await Deno.readTextFile(join(`${dir}.damaged`, "token.key")), "noise");
  assert(second.startsWith("-----BEGIN PRIVATE KEY-----"));
});
