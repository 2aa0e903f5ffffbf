import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { payloadFolder } from "../tests/fakes/payload_folder.ts";
import { GatewayError } from "../vm/error.ts";
import { BUILT_IN, loadPayload, payloadSource } from "./payloads.ts";

Deno.test("payloadSource() takes names as they are and folders by their absolute path", () => {
  assertEquals(payloadSource("demo"), "demo");
  assertEquals(payloadSource("/a/b/"), "/a/b");
  assertEquals(payloadSource("./demo"), join(Deno.cwd(), "demo"));
  assertEquals(payloadSource("."), Deno.cwd());
});

Deno.test("payloadSource() refuses other words and says how a folder is written", () => {
  const { exitCode, fix } = assertThrows(() => payloadSource("hello"), GatewayError);
  assertEquals([exitCode, fix], [
    ...[2, "pass --payload demo, or --payload ./hello for a folder"],
  ]);
});

Deno.test("loadPayload() reads a built-in payload, and a folder", async () => {
  assertEquals((await loadPayload(BUILT_IN[0])).name, "demo");
  assertEquals((await loadPayload(await payloadFolder())).name, "hello");
  const missing = join(await Deno.makeTempDir(), "missing");
  assertEquals((await assertRejects(() => loadPayload(missing), GatewayError)).exitCode, 1);
});

Deno.test("loadPayload() refuses a built-in payload without digests, and offers the one that works", async () => {
  const { code, what, why, fix } = await assertRejects(
    () => loadPayload("openshell"),
    GatewayError,
  );
  assertEquals([code, what, fix], [
    ...["payload-invalid", 'Cannot use the payload "openshell"'],
    "pin what it lacks as docs/openshell.md says, or pass --payload demo",
  ]);
  assertMatch(why, /^payload\.yaml:\d+:5: charts\[0\]\.digest: it is null/);
});
