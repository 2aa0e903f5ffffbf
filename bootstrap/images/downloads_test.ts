import { assertEquals } from "@std/assert";
import { downloadText } from "./downloads.ts";

const MIB = 1024 * 1024;

Deno.test("downloadText() names what is to come and its sum", () => {
  assertEquals(
    downloadText([
      { ref: "r.test/a:1", bytes: 80 * MIB },
      { ref: "r.test/here:1", bytes: 0 },
      { ref: "r.test/b:1", bytes: 1200 * MIB },
    ]),
    "to download: 1.3 GiB (r.test/a:1 80.0 MiB, r.test/b:1 1.2 GiB)",
  );
});

Deno.test("downloadText() says that a size is unknown, and nothing where none is known", () => {
  const unknown = { ref: "r.test/b:1", bytes: undefined };
  assertEquals(
    downloadText([{ ref: "r.test/a:1", bytes: MIB }, unknown]),
    "to download: more than 1.0 MiB (r.test/a:1 1.0 MiB, r.test/b:1 of unknown size)",
  );
  assertEquals(downloadText([unknown]), undefined);
  assertEquals(downloadText([{ ref: "r.test/a:1", bytes: 0 }]), undefined);
});
