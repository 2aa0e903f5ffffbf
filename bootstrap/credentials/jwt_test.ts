import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { sign, verify } from "node:crypto";
import { join } from "@std/path";
import { tempDir } from "../../tests/fakes/temp_dir.ts";
import { ensureJwt, takeJwt } from "./jwt.ts";

Deno.test("ensureJwt() makes a pair that signs, names its key, and keeps it privately", async () => {
  const dir = join(await tempDir(), "jwt");
  const keys = await ensureJwt(dir);
  const data = new TextEncoder().encode("a token");
  assertEquals(verify(null, data, keys.publicPem, sign(null, data, keys.signingPem)), true);
  assertMatch(keys.kid, /^[0-9a-f]{32}$/);
  assertEquals(await ensureJwt(dir), keys);
  const mode = (await Deno.stat(join(dir, "signing.pem"))).mode! & 0o777;
  assertEquals([(await Deno.stat(dir)).mode! & 0o777, mode], [0o700, 0o600]);
});

Deno.test("ensureJwt() makes another pair for another instance, and for a file that is none", async () => {
  const top = await tempDir();
  const one = await ensureJwt(join(top, "one"));
  assertNotEquals((await ensureJwt(join(top, "two"))).kid, one.kid);
  await Deno.writeTextFile(join(top, "one/signing.pem"), "cut");
  assertNotEquals((await ensureJwt(join(top, "one"))).kid, one.kid);
  assertEquals(await Deno.readTextFile(join(top, "one.damaged/signing.pem")), "cut");
});

Deno.test("takeJwt() takes another instance's keys over, and leaves its own where that has none", async () => {
  const top = await tempDir();
  const [source, clone] = [join(top, "source"), join(top, "clone")];
  const own = await ensureJwt(clone);
  assertEquals(await takeJwt(join(top, "none"), clone), undefined);
  assertEquals(await ensureJwt(clone), own);
  const keys = await ensureJwt(source);
  assertEquals(await takeJwt(source, clone), keys);
  assertEquals(await ensureJwt(clone), keys);
});
