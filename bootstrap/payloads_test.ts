import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { payloadFolder } from "../tests/fakes/payload_folder.ts";
import { GatewayError } from "../vm/error.ts";
import { sourcePath } from "../vm/source.ts";
import {
  BUILT_IN,
  defaultPayload,
  DEMO,
  loadPayload,
  offerDemo,
  payloadSource,
} from "./payloads.ts";

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
  assertEquals((await loadPayload(DEMO)).name, DEMO);
  assertEquals((await loadPayload(await payloadFolder())).name, "hello");
  const missing = join(await Deno.makeTempDir(), "missing");
  assertEquals((await assertRejects(() => loadPayload(missing), GatewayError)).exitCode, 1);
});

Deno.test("openshell is the default once it is pinned; until then it says so and offers demo", async () => {
  const lock = JSON.parse(
    await Deno.readTextFile(sourcePath("rootfs/payloads/openshell/lock.json")),
  );
  const pinned = [lock.chart.digest, ...lock.images.map((one: { digest: unknown }) => one.digest)]
    .every((digest) => digest !== null);
  const { source, why } = await defaultPayload();
  if (pinned) {
    assertEquals([source, why], [BUILT_IN[1], undefined]);
    assertEquals((await loadPayload(BUILT_IN[1])).name, BUILT_IN[1]);
    return;
  }
  assertEquals(source, DEMO);
  assertMatch(why!, /^the payload is demo: openshell has no digest for its chart, gateway, /);
  const error = await assertRejects(() => loadPayload(BUILT_IN[1]), GatewayError);
  assertEquals(error.code, "not-supported");
  assertMatch(error.fix, /^pass --payload demo, or /);
});

Deno.test("offerDemo() adds the payload that needs no registry to a failed pull of openshell alone", () => {
  const error = new GatewayError({
    code: "registry-unreachable",
    ...{ what: "Cannot pull", why: "no answer", fix: "run it again" },
  });
  const { fix } = offerDemo("openshell", error) as GatewayError;
  assertEquals(fix, "run it again; or pass --payload demo, which needs no registry");
  assertEquals(offerDemo("/a/folder", error), error);
  const other = new Error("another");
  assertEquals(offerDemo("openshell", other), other);
});
