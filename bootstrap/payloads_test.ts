import { assertEquals, assertRejects, assertThrows } from "@std/assert";
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

Deno.test("loadPayload() reads every built-in payload, and a folder", async () => {
  for (const name of BUILT_IN) assertEquals((await loadPayload(name)).name, name);
  assertEquals((await loadPayload(await payloadFolder())).name, "hello");
  const missing = join(await Deno.makeTempDir(), "missing");
  assertEquals((await assertRejects(() => loadPayload(missing), GatewayError)).exitCode, 1);
});
