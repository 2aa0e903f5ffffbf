import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { EventReader } from "./event_reader.ts";

Deno.test("EventReader.read() gives each record once, when all of its line is there", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const path = join(dir, "events.jsonl");
    const reader = new EventReader(path);
    assertEquals(await reader.read(), []);
    const record = {
      t: 1,
      kind: "log",
      name: "up",
      id: 1,
      parent: null,
      message: "grüße",
    } as const;
    const line = new TextEncoder().encode(JSON.stringify(record) + "\n");
    // Cut within a character of two bytes.
    const cut = line.indexOf(0xc3) + 1;
    const append = (bytes: Uint8Array) => Deno.writeFile(path, bytes, { append: true });
    await append(line.subarray(0, cut));
    assertEquals(await reader.read(), []);
    await append(line.subarray(cut));
    await append(line);
    assertEquals(await reader.read(), [record, record]);
    assertEquals(await reader.read(), []);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
