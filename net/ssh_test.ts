/**
 * The instance's ssh files and argument lists; what OpenSSH makes of them is in tests/ssh_test.ts.
 *
 * @module
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { join } from "@std/path";
import { exists } from "../vm/base/layout.ts";
import {
  ensureSsh,
  makeEd25519Key,
  scpArgs,
  shellQuote,
  sshArgs,
  sshConfigPath,
  writeSshConfig,
} from "./ssh.ts";

async function withDir(test: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "gw" });
  try {
    await test(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const mode = async (path: string) => ((await Deno.stat(path)).mode! & 0o777).toString(8);

Deno.test("ensureSsh() makes keys that only their owner can read, and keeps them", async () => {
  await withDir(async (dir) => {
    const sshDir = join(dir, "ssh");
    const first = await ensureSsh(sshDir);
    assertEquals(await mode(sshDir), "700");
    for (const name of ["id_ed25519", "ssh_host_ed25519_key"]) {
      assertEquals(await mode(join(sshDir, name)), "600");
    }
    assertEquals(Object.keys(first.payload).sort(), [
      "authorized_keys",
      "ssh_host_ed25519_key",
      "ssh_host_ed25519_key.pub",
    ]);
    assert(first.payload.authorized_keys!.startsWith("ssh-ed25519 AAAA"));
    assert(!Object.values(first.payload).includes(await Deno.readTextFile(`${sshDir}/id_ed25519`)));
    assertEquals(await ensureSsh(sshDir), first);
  });
});

for (const what of ["", "-----BEGIN OPENSSH PRIVATE KEY-----\n", "cut", "another's"]) {
  Deno.test(`ensureSsh() does not hand out a key of ${JSON.stringify(what)}`, async () => {
    await withDir(async (dir) => {
      const path = join(dir, "ssh_host_ed25519_key");
      const first = await ensureSsh(dir);
      const whole = await Deno.readTextFile(path);
      const text = what === "another's"
        ? makeEd25519Key("x").privateKey
        : what === "cut"
        ? whole.replace(/.{8}\n(?=-----END)/, "\n")
        : what;
      await Deno.writeTextFile(path, text);
      const second = await ensureSsh(dir);
      assertNotEquals(second.payload["ssh_host_ed25519_key"], text);
      assertNotEquals(second.payload["ssh_host_ed25519_key"], whole);
      assertEquals(second.payload.authorized_keys, first.payload.authorized_keys);
      assertEquals(await Deno.readTextFile(`${path}.damaged`), text);
      assertEquals(await ensureSsh(dir), second);
    });
  });
}

Deno.test("ensureSsh() makes a pair anew when half of it is missing", async () => {
  await withDir(async (dir) => {
    const first = await ensureSsh(dir);
    await Deno.remove(join(dir, "id_ed25519.pub"));
    const second = await ensureSsh(dir);
    assertNotEquals(second.payload.authorized_keys, first.payload.authorized_keys);
    assertEquals(
      second.payload["ssh_host_ed25519_key"],
      first.payload["ssh_host_ed25519_key"],
    );
  });
});

Deno.test("makeEd25519Key() pads the private part to whole blocks when the comment varies", () => {
  for (let length = 0; length < 16; length++) {
    const { privateKey } = makeEd25519Key("x".repeat(length));
    const body = privateKey.split("\n").slice(1, -2).join("");
    const blob = Uint8Array.from(atob(body), (c) => c.charCodeAt(0));
    const view = new DataView(blob.buffer);
    let at = 15; // "openssh-key-v1" and its NUL
    for (let i = 0; i < 3; i++) at += 4 + view.getUint32(at);
    assertEquals(view.getUint32(at), 1);
    at += 4;
    at += 4 + view.getUint32(at);
    assertEquals(view.getUint32(at) % 8, 0);
    assertEquals(at + 4 + view.getUint32(at), blob.length);
  }
});

Deno.test("writeSshConfig() pins the host key to the port when it writes the files", async () => {
  await withDir(async (dir) => {
    const { payload } = await ensureSsh(dir);
    const options = { sshDir: dir, name: "dev", port: 4711 };
    const path = await writeSshConfig(options);
    assertEquals(path, sshConfigPath(dir));
    const known = await Deno.readTextFile(join(dir, "known_hosts"));
    const key = payload["ssh_host_ed25519_key.pub"]!.split(" ")[1];
    assertEquals(known, `[127.0.0.1]:4711 ssh-ed25519 ${key}\n`);
    const lines = (await Deno.readTextFile(path)).split("\n").map((line) => line.trim());
    for (
      const line of [
        "Host dev",
        "Port 4711",
        "StrictHostKeyChecking yes",
        "IdentitiesOnly yes",
        "BatchMode yes",
        "ForwardAgent no",
        `ControlPath "${join(dir, "mux")}"`,
      ]
    ) assert(lines.includes(line), line);
  });
});

Deno.test("writeSshConfig() names no folder that the end of a run removes", async () => {
  await withDir(async (dir) => {
    await ensureSsh(dir);
    const path = await writeSshConfig({ sshDir: dir, name: "dev", port: 1 });
    const paths = (await Deno.readTextFile(path)).matchAll(/"(\/[^"]*)"/g);
    assertEquals([...paths].filter(([, path]) => !path!.startsWith(`${dir}/`)), []);
  });
});

Deno.test("writeSshConfig() removes the socket of an earlier run's connection", async () => {
  await withDir(async (dir) => {
    await ensureSsh(dir);
    await Deno.writeTextFile(join(dir, "mux"), "");
    await writeSshConfig({ sshDir: dir, name: "dev", port: 1 });
    assertEquals(await exists(join(dir, "mux")), false);
  });
});

Deno.test("writeSshConfig() shares no connection when ssh's own suffix would not fit into its socket's path", async () => {
  await withDir(async (top) => {
    // "/mux" fits into 103 bytes, "/mux." and 16 more do not.
    const dir = join(top, "x".repeat(90 - top.length));
    await ensureSsh(dir);
    const path = await writeSshConfig({ sshDir: dir, name: "dev", port: 1 });
    const text = await Deno.readTextFile(path);
    assertEquals([text.includes("ControlPath none"), text.includes("ControlMaster")], [
      true,
      false,
    ]);
  });
});

Deno.test("sshArgs() gives a terminal only when asked and one quoted command when there are words", () => {
  assertEquals(sshArgs("/c", "dev", []), ["-F", "/c", "dev"]);
  assertEquals(sshArgs("/c", "dev", [], { tty: true }), ["-F", "/c", "-tt", "dev"]);
  assertEquals(sshArgs("/c", "dev", ["uname", "-a"]), [
    "-F",
    "/c",
    "-T",
    "dev",
    "--",
    "trap : HUP INT QUIT TERM; exec 9>&2 2>/dev/null; (exec 2>&9 9>&-; exec 'uname' '-a'); exit $?",
  ]);
});

Deno.test("scpArgs() keeps a host path local when it has a colon", () => {
  assertEquals(scpArgs("/c", "a b", "dev:/root/"), ["-F", "/c", "-q", "--", "a b", "dev:/root/"]);
  assertEquals(scpArgs("/c", "dev:x:y", "X:y", { recursive: true }).slice(3), [
    "-r",
    "--",
    "dev:x:y",
    "./X:y",
  ]);
  assertEquals(scpArgs("/c", "/a:b", "dev:c").at(-2), "/a:b");
});

Deno.test("shellQuote() quotes every word, so that none is a keyword or an assignment", () => {
  assertEquals(shellQuote(["if", "A=1", "", "it's"]), `'if' 'A=1' '' 'it'\\''s'`);
});
