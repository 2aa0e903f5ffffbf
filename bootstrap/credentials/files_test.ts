import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { readTextIfThere, recoverDirectory, removeIfThere, replaceDirectory } from "./files.ts";

async function withTemporary(fn: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "gateway-files-" });
  try {
    await fn(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function names(dir: string): string[] {
  return [...Deno.readDirSync(dir)].map((entry) => entry.name).sort();
}

Deno.test("replaceDirectory() leaves only the new files with private modes when a set was there", () =>
  withTemporary(async (base) => {
    const dir = join(base, "set");
    await replaceDirectory(dir, { a: { data: "1" }, b: { data: "2" } });
    await replaceDirectory(dir, { a: { data: "3" }, c: { data: "4", mode: 0o644 } });
    assertEquals(names(dir), ["a", "c"]);
    assertEquals(names(base), ["set"]);
    assertEquals(await Deno.readTextFile(join(dir, "a")), "3");
    const mode = (path: string) => Deno.statSync(path).mode! & 0o777;
    assertEquals([mode(dir), mode(join(dir, "a")), mode(join(dir, "c"))], [0o700, 0o600, 0o644]);
  }));

Deno.test("replaceDirectory() keeps the old set when a write fails", () =>
  withTemporary(async (base) => {
    const dir = join(base, "set");
    await replaceDirectory(dir, { a: { data: "1" } });
    await assertRejects(() => replaceDirectory(dir, { "no/such": { data: "2" } }));
    assertEquals(await Deno.readTextFile(join(dir, "a")), "1");
    assertEquals(names(base), ["set"]);
  }));

Deno.test("recoverDirectory() puts the old set back when the swap was cut between its renames", () =>
  withTemporary(async (base) => {
    const dir = join(base, "set");
    await Deno.mkdir(`${dir}.old`);
    await Deno.writeTextFile(join(`${dir}.old`, "a"), "1");
    await Deno.mkdir(`${dir}.new`);
    await recoverDirectory(dir);
    assertEquals(names(base), ["set"]);
    assertEquals(await Deno.readTextFile(join(dir, "a")), "1");
  }));

Deno.test("recoverDirectory() drops the old set when the new one is in place", () =>
  withTemporary(async (base) => {
    const dir = join(base, "set");
    await Deno.mkdir(`${dir}.old`);
    await Deno.mkdir(dir);
    await recoverDirectory(dir);
    assertEquals(names(base), ["set"]);
  }));

Deno.test("readTextIfThere() and removeIfThere() take absence as an answer", () =>
  withTemporary(async (base) => {
    assertEquals(await readTextIfThere(join(base, "x")), undefined);
    assertEquals(await removeIfThere(join(base, "x")), false);
    await Deno.writeTextFile(join(base, "x"), "text");
    assertEquals(await readTextIfThere(join(base, "x")), "text");
    assertEquals(await removeIfThere(join(base, "x")), true);
  }));
