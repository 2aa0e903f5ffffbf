/**
 * The files behind a state disk, read by the real qemu-img: overlays, links, and what must not be taken for a plain disk.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { QEMU_IMG_TOOL } from "../bootstrap/saved/golden_disk.ts";
import { GatewayError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";
import { ensureTools } from "../vm/base/host_tools.ts";
import { exists } from "../vm/base/layout.ts";
import { run } from "../vm/base/process.ts";
import {
  chainFiles,
  overlayOn,
  PLAIN_DISK,
  readDiskChain,
  saveDiskChain,
  shareFile,
} from "../vm/instance/disk_chain.ts";
import { emptyOverlay } from "../vm/instance/qcow2.ts";
import { sweep } from "../vm/instance/saved_state.ts";

const signal = new AbortController().signal;
await ensureTools([QEMU_IMG_TOOL], { span: silentSpan(), signal, assumeYes: true });

async function withDirs(fn: (one: string, two: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    for (const name of ["one", "two"]) await Deno.mkdir(join(dir, name));
    await fn(join(dir, "one"), join(dir, "two"));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("overlayOn() puts an empty, private file over the disk and changes no record", () =>
  withDirs(async (dir) => {
    await Deno.writeTextFile(join(dir, "state.img"), "x".repeat(4096));
    const chain = await overlayOn(dir, PLAIN_DISK, 64);
    assertEquals(chain.below, [PLAIN_DISK.head]);
    const info = await Deno.stat(join(dir, chain.head.name));
    assertEquals(info.mode! & 0o777, 0o600);
    assert(info.size < 300_000, `${info.size} bytes`);
    assertEquals(await readDiskChain(dir), PLAIN_DISK);
    await saveDiskChain(dir, chain);
    assertEquals(await readDiskChain(dir), chain);
  }));

Deno.test("emptyOverlay() makes what qemu-img finds whole, of any size that a disk can have", () =>
  withDirs(async (dir) => {
    const below = { name: "base.qcow2", format: "qcow2" } as const;
    // The last one has a table of the first level that is longer than one cluster.
    for (const bytes of [1 << 20, (1 << 30) + 512, 8 * 1024 ** 3, 5 * 1024 ** 4]) {
      const base = ["create", "-q", "-f", "qcow2", join(dir, below.name), `${bytes}`];
      await run("qemu-img", { args: base });
      await Deno.writeFile(join(dir, "over.qcow2"), emptyOverlay(below, bytes));
      await run("qemu-img", { args: ["check", "-q", join(dir, "over.qcow2")] });
      const { stdout } = await run("qemu-img", {
        args: ["info", "--output=json", join(dir, "over.qcow2")],
      });
      const info = JSON.parse(stdout);
      assertEquals(
        [info["virtual-size"], info["backing-filename"], info["backing-filename-format"]],
        [bytes, below.name, below.format],
      );
    }
  }));

Deno.test("a guest sees the file below through an overlay, and writes to the overlay alone", () =>
  withDirs(async (dir) => {
    await Deno.writeFile(join(dir, "state.img"), new Uint8Array(8 << 20).fill(0x5a));
    const { head } = await overlayOn(dir, PLAIN_DISK, 8);
    const qemuIo = (...commands: string[]) =>
      run("qemu-io", {
        args: ["-f", "qcow2", ...commands.flatMap((one) => ["-c", one]), join(dir, head.name)],
      });
    await qemuIo("read -P 0x5a 0 8M", "write -P 0x11 1M 64k", "write -P 0x22 8388096 512");
    await qemuIo("read -P 0x11 1M 64k", "read -P 0x5a 7M 1048064", "read -P 0x22 8388096 512");
    await run("qemu-img", { args: ["check", "-q", join(dir, head.name)] });
    const base = await Deno.readFile(join(dir, "state.img"));
    assert(base.every((byte) => byte === 0x5a));
  }));

Deno.test("a chain that is linked into another folder is whole there, and the overlays differ", () =>
  withDirs(async (one, two) => {
    await run("qemu-img", { args: ["create", "-q", "-f", "raw", join(one, "state.img"), "8M"] });
    const first = await overlayOn(one, PLAIN_DISK, 8);
    for (const name of chainFiles(first)) await shareFile(join(one, name), join(two, name), signal);
    const [left, right] = [await overlayOn(one, first, 8), await overlayOn(two, first, 8)];
    assert(left.head.name !== right.head.name);
    for (const [dir, chain] of [[one, left], [two, right]] as const) {
      const { stdout } = await run("qemu-img", {
        args: ["info", "--backing-chain", "--output=json", join(dir, chain.head.name)],
      });
      const files = JSON.parse(stdout).map((one: { filename: string }) => one.filename);
      assertEquals(files, chainFiles(chain).map((name) => join(dir, name)));
    }
    assertEquals((await Deno.stat(join(two, "state.img"))).nlink, 2);
  }));

Deno.test("readDiskChain() refuses a state.img that others share when its record is gone", () =>
  withDirs(async (one, two) => {
    await Deno.writeTextFile(join(one, "state.img"), "x");
    await shareFile(join(one, "state.img"), join(two, "state.img"), signal);
    const error = await assertRejects(() => readDiskChain(two), GatewayError);
    assertEquals(error.code, "instance-schema");
  }));

Deno.test("readDiskChain() refuses a state.img below an overlay that was written when its record is gone", () =>
  withDirs(async (dir) => {
    await Deno.writeTextFile(join(dir, "state.img"), "x".repeat(4096));
    const chain = await overlayOn(dir, PLAIN_DISK, 64);
    // What a snapshot leaves that was killed before its record.
    assertEquals(await readDiskChain(dir), PLAIN_DISK);
    const args = ["-f", "qcow2", "-c", "write 1M 64k", join(dir, chain.head.name)];
    await run("qemu-io", { args });
    const error = await assertRejects(() => readDiskChain(dir), GatewayError);
    assertEquals(error.code, "instance-schema");
    assert(error.why.endsWith(`a guest has written to "${chain.head.name}"`));
    await assertRejects(() => sweep({ dir }), GatewayError);
    assertEquals(await exists(join(dir, chain.head.name)), true);
  }));

Deno.test("shareFile() is content with a link that is there, and names a file that is gone", () =>
  withDirs(async (one, two) => {
    await Deno.writeTextFile(join(one, "a"), "x");
    for (let at = 0; at < 2; at++) await shareFile(join(one, "a"), join(two, "a"), signal);
    const error = await assertRejects(
      () => shareFile(join(one, "b"), join(two, "b"), signal),
      GatewayError,
    );
    assertEquals([error.code, error.why], ["artifact-corrupt", `"${join(one, "b")}" is gone`]);
  }));

Deno.test("a file that is shared with another file system gets no holes that it did not have", () =>
  withDirs(async (one) => {
    const other = await Deno.makeTempDir({ dir: "/dev/shm" });
    try {
      await Deno.writeFile(join(one, "ram.layer"), new Uint8Array(1024 * 1024));
      await Deno.truncate(await emptyFile(join(one, "state.img")), 1024 * 1024);
      const taken = async (name: string) => {
        await shareFile(join(one, name), join(other, name), signal);
        return (await Deno.stat(join(other, name))).blocks! * 512;
      };
      assertEquals(await taken("ram.layer"), 1024 * 1024);
      assertEquals(await taken("state.img"), 0);
    } finally {
      await Deno.remove(other, { recursive: true });
    }
  }));

async function emptyFile(path: string): Promise<string> {
  await Deno.writeFile(path, new Uint8Array());
  return path;
}
