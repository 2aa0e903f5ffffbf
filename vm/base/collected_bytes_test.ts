import { assertEquals } from "@std/assert";
import { CollectedBytes } from "./collected_bytes.ts";

Deno.test("CollectedBytes copies chunks together and does not keep them", () => {
  const collected = new CollectedBytes(100_000);
  const sent = new Uint8Array(10_000).map((_, at) => at % 251);
  const chunk = new Uint8Array(1);
  for (const byte of sent) {
    chunk[0] = byte;
    assertEquals(collected.add(chunk), true);
  }
  assertEquals(collected.bytes, sent);
});

Deno.test("CollectedBytes takes up to its limit, and nothing of a chunk that is too much", () => {
  const collected = new CollectedBytes(5);
  const added = ["abc", "def", "de", "g"].map((text) =>
    collected.add(new TextEncoder().encode(text))
  );
  assertEquals([added, collected.text()], [[true, false, true, false], "abcde"]);
});
