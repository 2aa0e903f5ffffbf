import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { payloadFolder } from "../../tests/fakes/payload_folder.ts";
import { tempDir } from "../../tests/fakes/temp_dir.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { BUILT_IN, defaultPayload, DEMO, loadPayload, offerDemo, payloadSource } from "./choose.ts";
import { missingPins } from "./pins.ts";

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
  const missing = join(await tempDir(), "missing");
  assertEquals((await assertRejects(() => loadPayload(missing), GatewayError)).exitCode, 1);
});

/** Runs with a data folder and a proxy of its own; nobody answers there. */
async function withoutNetwork(fn: () => Promise<void>): Promise<void> {
  const home = await Deno.makeTempDir();
  const proxy = "http://127.0.0.1:1";
  const values = { XDG_DATA_HOME: home, XDG_CONFIG_HOME: home, HTTPS_PROXY: proxy, NO_PROXY: "" };
  const before = Object.keys(values).map((name) => [name, Deno.env.get(name)] as const);
  for (const [name, value] of Object.entries(values)) Deno.env.set(name, value);
  try {
    await fn();
  } finally {
    for (const [name, value] of before) {
      value === undefined ? Deno.env.delete(name) : Deno.env.set(name, value);
    }
    await Deno.remove(home, { recursive: true });
  }
}

const pinned = (await missingPins()).length === 0;

Deno.test("defaultPayload() is openshell where this version has its digests, else demo with the reason", async () => {
  const { source, why } = await defaultPayload();
  if (pinned) return assertEquals([source, why], [BUILT_IN[1], undefined]);
  assertEquals([source, why], [
    DEMO,
    "the payload is demo: this version does not have the digests of openshell; " +
    "--payload openshell pulls and pins it",
  ]);
});

Deno.test("defaultPayload() is what GATEWAY_PAYLOAD names", async () => {
  Deno.env.set("GATEWAY_PAYLOAD", DEMO);
  try {
    assertEquals(await defaultPayload(), { source: DEMO, why: undefined });
    Deno.env.set("GATEWAY_PAYLOAD", "nothing");
    const error = await assertRejects(() => defaultPayload(), GatewayError);
    assertEquals(error.code, "usage");
  } finally {
    Deno.env.delete("GATEWAY_PAYLOAD");
  }
});

Deno.test("loadPayload() refuses openshell that is not pinned, and says both ways out", async () => {
  await withoutNetwork(async () => {
    if (pinned) return assertEquals((await loadPayload(BUILT_IN[1])).name, BUILT_IN[1]);
    const error = await assertRejects(() => loadPayload(BUILT_IN[1]), GatewayError);
    assertEquals(error.code, "not-supported");
    assertMatch(error.why, /^it has no digest for its chart, gateway, .*agent-sandbox\.yaml$/);
    assertMatch(error.fix, /`gateway build payload openshell`.*--payload demo/);
  });
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
