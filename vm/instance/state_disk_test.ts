import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../base/error.ts";
import { which } from "../base/process.ts";
import { ensureStateDisk, inspectStateDisk, STATE_LABEL } from "./state_disk.ts";

async function inFolder(fn: (path: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await fn(join(dir, "state.img"));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** The two fields of an ext4 superblock that tell whose disk it is. */
function superblock(label: string): Uint8Array {
  const head = new Uint8Array(8192);
  head.set([0x53, 0xef], 1024 + 0x38);
  head.set(new TextEncoder().encode(label), 1024 + 0x78);
  return head;
}

Deno.test("ensureStateDisk() makes a sparse private disk that both sides take as ours", () =>
  inFolder(async (path) => {
    const made = await ensureStateDisk(path, 256);
    // Without mkfs.ext4 on this host the guest formats it.
    assertEquals(made, which("mkfs.ext4") ? "ours" : "empty");
    const info = await Deno.stat(path);
    assertEquals([info.size, info.mode! & 0o777], [256 << 20, 0o600]);
    assert(info.blocks! * 512 < 64 << 20, `${info.blocks} blocks`);
    assertEquals(await ensureStateDisk(path, 256), made);
  }));

Deno.test("ensureStateDisk() takes a file of holes as empty, and zeros that were written as foreign", () =>
  inFolder(async (path) => {
    await Deno.writeFile(path, new Uint8Array(0));
    await Deno.truncate(path, 1 << 20);
    assertEquals(await ensureStateDisk(path, 1), "empty");
    await Deno.writeFile(path, new Uint8Array(128 << 10));
    await assertRejects(() => ensureStateDisk(path, 1), GatewayError);
  }));

Deno.test("ensureStateDisk() takes a disk with our label and leaves it as it is", () =>
  inFolder(async (path) => {
    await Deno.writeFile(path, superblock(STATE_LABEL));
    assertEquals(await ensureStateDisk(path, 1), "ours");
    assertEquals((await Deno.stat(path)).size, 8192);
  }));

for (
  const [what, bytes] of [
    ["another file system's label", superblock("my-photos")],
    ["bytes that are no file system", new TextEncoder().encode("dear diary")],
  ] as const
) {
  Deno.test(`ensureStateDisk() refuses a disk with ${what} and leaves it as it is`, () =>
    inFolder(async (path) => {
      await Deno.writeFile(path, bytes);
      const error = await assertRejects(() => ensureStateDisk(path, 64), GatewayError);
      assertEquals(error.code, "state-disk-foreign");
      assertEquals(await Deno.readFile(path), bytes.slice());
      assertEquals(await inspectStateDisk(path), "foreign");
    }));
}
