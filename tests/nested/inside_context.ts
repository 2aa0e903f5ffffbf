/**
 * What the product's own VMs do not use but KrunContext offers: folders by virtio-fs, one of them read-only, and vsock
 * ports in both directions, in a real guest.
 *
 * @module
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { run } from "../../vm/base/process.ts";
import { settleWithin, waitFor } from "../../vm/base/wait.ts";
import type { Bench } from "../conformance/guest.ts";

/** Where the outer disk has this case's files. */
const FILES = "/gateway/context";

/** Boots the guest of context_child.ts and plays its host. */
export async function contextGuest(bench: Bench, library: string): Promise<void> {
  const dir = await Deno.makeTempDir();
  for (const name of ["shared", "fixed"]) await Deno.mkdir(`${dir}/${name}`);
  await Deno.copyFile(`${FILES}/initrd`, `${dir}/initrd`);
  await Deno.copyFile(`${FILES}/guest_vsock`, `${dir}/fixed/guest_vsock`);
  await Deno.chmod(`${dir}/fixed/guest_vsock`, 0o755);
  await Deno.writeTextFile(`${dir}/shared/from-host`, "written by the host\n");
  using listener = Deno.listen({ transport: "unix", path: `${dir}/out.sock` });
  const child = run(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-check", "/gateway/context_child.js"]
      .concat(library, bench.kernelPath, dir),
    check: false,
    timeoutMs: bench.timeoutMs,
  });
  try {
    const talk = Promise.all([takeCall(listener), child.then(() => {})]);
    await settleWithin(talk, { what: "the guest's end", timeoutMs: bench.timeoutMs });
    const { code, stderr } = await child;
    const screen = await Deno.readTextFile(`${dir}/console`);
    assertEquals(code, 0, stderr + screen);
    assertStringIncludes(screen, "SHARED written by the host");
    assertStringIncludes(screen, "FIXED is read-only");
    assertStringIncludes(screen, "OUT the host answers");
    assertStringIncludes(screen, "IN the host calls");
    assertEquals(await Deno.readTextFile(`${dir}/shared/from-guest`), "written by the guest\n");
    assertEquals([...Deno.readDirSync(`${dir}/fixed`)].map(({ name }) => name), ["guest_vsock"]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }

  /** Answers the guest's call and then calls it. */
  async function takeCall(listener: Deno.UnixListener): Promise<void> {
    using called = await listener.accept();
    assertEquals(await line(called), "the guest calls\n");
    await called.write(new TextEncoder().encode("the host answers\n"));
    using call = await waitFor({
      what: "the socket of the guest's port",
      probe: () =>
        Deno.connect({ transport: "unix", path: `${dir}/in.sock` }).catch(() => undefined),
      timeoutMs: 10_000,
      intervalMs: 50,
    });
    await call.write(new TextEncoder().encode("the host calls\n"));
    assertEquals(await line(call), "the guest answers\n");
  }
}

const TELL = `exec >/work/told
echo "limit $(ulimit -n)"
echo "folder $(pwd)"
echo "word $WORD"
exit 7
`;

/** Boots the guest of init_child.ts; `stock` is a folder with libkrun and the stock libkrunfw. */
export async function initGuest(bench: Bench, library: string, firmware: string): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    for (const name of ["bin", "dev", "proc", "sys", "tmp", "work"]) {
      await Deno.mkdir(`${dir}/root/${name}`, { recursive: true });
    }
    await Deno.copyFile("/bin/busybox", `${dir}/root/bin/busybox`);
    await Deno.writeTextFile(`${dir}/root/work/tell.sh`, TELL);
    const { code, stderr } = await run(Deno.execPath(), {
      args: ["run", "-A", "--quiet", "--no-check", "/gateway/init_child.js"]
        .concat(library, firmware, dir),
      check: false,
      timeoutMs: bench.timeoutMs,
    });
    const screen = await Deno.readTextFile(`${dir}/console`).catch(() => "");
    const told = await Deno.readTextFile(`${dir}/root/work/told`).catch(() => "");
    assertEquals(told, "limit 1234\nfolder /work\nword given\n", stderr + screen);
    assertEquals(code, 7, stderr + screen);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function line(conn: Deno.Conn): Promise<string> {
  const bytes = new Uint8Array(128);
  return new TextDecoder().decode(bytes.subarray(0, await conn.read(bytes) ?? 0));
}
