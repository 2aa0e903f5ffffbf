import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../../vm/base/error.ts";
import { packPayload, PAYLOAD_BYTES, quoteShell, renderEnv, writePayload } from "./payload_disk.ts";

const PARTS = {
  env: { GW_MODE: "cluster", GW_HOSTNAME: "gateway" },
  ssh: {
    ssh_host_ed25519_key: "SECRET\n",
    "ssh_host_ed25519_key.pub": "ssh-ed25519 AAAA\n",
    authorized_keys: "ssh-ed25519 BBBB\n",
  },
  manifests: { "10-b.yaml": "b: 1\n", "00-a.yaml": "a: ü\n" },
  exec: { argv: ["/bin/echo", "a b", ""], env: { B: "2", A: "1=1" }, cwd: "/tmp" },
};

interface Found {
  name: string;
  mode: string;
  owner: string;
  mtime: number;
  magic: string;
  text: string;
}

/** Reads a ustar archive by its format's offsets, apart from the library that wrote it. */
function list(tar: Uint8Array): Found[] {
  const decoder = new TextDecoder();
  const field = (at: number, length: number) =>
    decoder.decode(tar.subarray(at, at + length)).replace(/[\0 ]+$/, "");
  const found: Found[] = [];
  for (let at = 0; tar[at] !== 0;) {
    const sizeBytes = parseInt(field(at + 124, 12), 8);
    found.push({
      name: field(at, 100),
      mode: (parseInt(field(at + 100, 8), 8) & 0o777).toString(8),
      owner: [field(at + 108, 8), field(at + 116, 8)].map((text) => parseInt(text, 8)).join(":"),
      mtime: parseInt(field(at + 136, 12), 8),
      magic: field(at + 257, 6),
      text: decoder.decode(tar.subarray(at + 512, at + 512 + sizeBytes)),
    });
    at += 512 + Math.ceil(sizeBytes / 512) * 512;
  }
  return found;
}

Deno.test("packPayload() gives every part its name, mode and bytes in a fixed order", async () => {
  const found = list(await packPayload(PARTS));
  assertEquals(found.map(({ name, mode, text }) => [name, mode, text]), [
    ["env", "600", "GW_HOSTNAME='gateway'\nGW_MODE='cluster'\n"],
    ["ssh/authorized_keys", "644", "ssh-ed25519 BBBB\n"],
    ["ssh/ssh_host_ed25519_key", "600", "SECRET\n"],
    ["ssh/ssh_host_ed25519_key.pub", "644", "ssh-ed25519 AAAA\n"],
    ["manifests/00-a.yaml", "600", "a: ü\n"],
    ["manifests/10-b.yaml", "600", "b: 1\n"],
    ["exec/argv", "600", "/bin/echo\0a b\0\0"],
    ["exec/env", "600", "A=1=1\0B=2\0"],
    ["exec/cwd", "600", "/tmp\0"],
  ]);
  assertEquals(
    new Set(found.map((f) => `${f.magic} ${f.owner} ${f.mtime}`)),
    new Set(["ustar 0:0 0"]),
  );
});

Deno.test("packPayload() gives the same bytes when the same parts come in another order", async () => {
  const reversed = <T>(object: Record<string, T>) =>
    Object.fromEntries(Object.entries(object).reverse());
  const other = {
    env: reversed(PARTS.env),
    ssh: reversed(PARTS.ssh),
    manifests: reversed(PARTS.manifests),
    exec: { ...PARTS.exec, env: reversed(PARTS.exec.env) },
  };
  assertEquals(await packPayload(other), await packPayload(PARTS));
  assertNotEquals(await packPayload({ env: PARTS.env }), await packPayload(PARTS));
});

Deno.test("writePayload() makes a disk of one size whatever is in it, and refuses more", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const path = join(dir, "payload.tar");
    const write = (length: number) =>
      writePayload(path, { env: {}, manifests: { "a.yaml": "x".repeat(length) } });
    for (const length of [1, 900_000, 16 * 1024 * 1024]) {
      await write(length);
      const { size, mode, blocks } = await Deno.stat(path);
      assertEquals([size, mode! & 0o777], [PAYLOAD_BYTES, 0o600]);
      // Only what is in it takes place.
      assertEquals(blocks! * 512 < length + 1024 * 1024, true);
    }
    const error = await assertRejects(() => write(PAYLOAD_BYTES), GatewayError);
    assertEquals(error.code, "payload-invalid");
    assertEquals((await Deno.stat(path)).size, PAYLOAD_BYTES);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

for (const name of ["../x", "a/b", "", ".hidden", "-rf", "x".repeat(81), "ü", "a\0b"]) {
  Deno.test(`packPayload() refuses a file named ${JSON.stringify(name.slice(0, 12))}`, async () => {
    const error = await assertRejects(
      () => packPayload({ env: {}, manifests: { [name]: "" } }),
      GatewayError,
    );
    assertEquals(error.code, "bug");
  });
}

Deno.test("packPayload() refuses a NUL in an argument and a program that is not named", async () => {
  const attempt = async (argv: string[]) =>
    (await assertRejects(() => packPayload({ env: {}, exec: { argv } }), GatewayError)).code;
  assertEquals(await attempt(["a", "b\0c"]), "usage");
  assertEquals(await attempt([]), "bug");
});

Deno.test("quoteShell() closes and opens its quotes around each single quote", () => {
  assertEquals(quoteShell(""), "''");
  assertEquals(quoteShell("plain"), "'plain'");
  assertEquals(quoteShell("it's"), `'it'\\''s'`);
  assertEquals(quoteShell('$(id) `id` \\ " \n * ~'), "'$(id) `id` \\ \" \n * ~'");
  assertThrows(() => quoteShell("a\0b"), GatewayError);
});

Deno.test("renderEnv() refuses what is no upper-case shell name", () => {
  for (const name of ["a", "1A", "A-B", "A B", "A;id", "", "A\nB"]) {
    assertThrows(() => renderEnv({ [name]: "" }), GatewayError);
  }
  assertEquals(renderEnv({ GW_2: "x" }), "GW_2='x'\n");
});

Deno.test("writePayload() replaces the file whole with mode 0600", async () => {
  const dir = await Deno.makeTempDir({ prefix: "gateway-payload-" });
  try {
    const path = join(dir, "payload.tar");
    await Deno.writeTextFile(path, "old", { mode: 0o644 });
    await writePayload(path, PARTS);
    const info = await Deno.stat(path);
    assertEquals(info.mode! & 0o777, 0o600);
    assertEquals(info.size % 512, 0);
    assertEquals([...Deno.readDirSync(dir)].length, 1);
    assert(list(await Deno.readFile(path)).length > 0);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
