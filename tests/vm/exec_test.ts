/**
 * `gateway --exec` on real VMs: streams and exit codes pass unchanged, and nothing is left behind.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { digestBytes } from "../../vm/base/digest.ts";
import { TestHome } from "./harness.ts";

Deno.test("--exec", async (t) => {
  await using home = await TestHome.make();

  await t.step("gives 0 for /bin/true and leaves nothing", async () => {
    const { stdout, stderr } = await home.ok(["--exec", "/bin/true"], { timeoutMs: 75 * 60_000 });
    assertEquals([stdout, stderr.replace(/^\[.*\n/gm, "")], ["", ""]);
    await home.assertClean();
  });

  await t.step("keeps stdout, stderr and the exit code apart", async () => {
    const script = 'printf "out"; printf "err" >&2; exit 7';
    const result = await home.call(["--exec", "/bin/sh", "-c", script]);
    assertEquals([result.code, result.stdout, result.stderr], [7, "out", "err"]);
  });

  await t.step("passes a mebibyte of random bytes through unchanged", async () => {
    const bytes = new Uint8Array(1 << 20);
    for (let at = 0; at < bytes.length; at += 65536) {
      crypto.getRandomValues(bytes.subarray(at, at + 65536));
    }
    const result = await home.ok(["--exec", "/bin/cat"], { stdin: bytes });
    assertEquals(digestBytes(result.stdoutBytes), digestBytes(bytes));
  });

  await t.step("passes arguments unchanged, empty and odd ones too", async () => {
    const words = ["", "a b", "'", '"', "$HOME", "\n", "ü", "--flag", "*"];
    const { stdout } = await home.ok(["--exec", "/usr/bin/printf", "<%s>", ...words]);
    assertEquals(stdout, words.map((word) => `<${word}>`).join(""));
  });

  await t.step(
    "gives 127 for a program that is not there, 126 for one that cannot run",
    async () => {
      const missing = await home.call(["--exec", "/nope"]);
      assertEquals(missing.code, 127);
      assertStringIncludes(missing.stderr, "/nope");
      assertEquals((await home.call(["--exec", "/etc/passwd"])).code, 126);
    },
  );

  await t.step("gives 128 and the signal's number for a command that a signal ends", async () => {
    assertEquals((await home.call(["--exec", "/bin/sh", "-c", "kill -9 $$"])).code, 137);
  });

  await t.step("runs our kernel, with no way in or out unless --net asks for it", async () => {
    const script = "uname -r; ls /sys/class/net";
    const { stdout } = await home.ok(["--exec", "/bin/sh", "-c", script]);
    assertMatch(stdout, /^\d+\.\d+\.\d+-gateway/);
    assert(!stdout.includes("eth0"));
    const net = await home.ok([
      ...["--net", "gvproxy", "--exec", "/bin/sh", "-c"],
      "ip -4 -o addr show eth0; cat /etc/resolv.conf",
    ]);
    assertStringIncludes(net.stdout, "192.168.127.2/24");
    assertStringIncludes(net.stdout, "nameserver 192.168.127.1");
  });

  await t.step(
    "gives the guest no way to the host's loopback or to gvproxy's own interface",
    async () => {
      using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const { port } = listener.addr as Deno.NetAddr;
      let reached = false;
      void listener.accept().then((conn) => {
        reached = true;
        conn.close();
      }, () => {});
      const script = [
        `for to in 192.168.127.254/${port} 192.168.127.1/${port} 192.168.127.1/80 192.168.127.254/80; do`,
        'nc -w 3 "${to%/*}" "${to#*/}" </dev/null >/dev/null 2>&1 && echo "open $to"',
        "done; echo done",
      ].join("\n");
      const { stdout } = await home.ok([
        ...["--net", "gvproxy", "--exec", "/usr/bin/busybox", "ash", "-c", script],
      ]);
      assertEquals([stdout, reached], ["done\n", false]);
    },
  );

  await t.step("ends with 130 and leaves nothing after Ctrl-C", async () => {
    await using gateway = await home.start(["--exec", "/bin/sh", "-c", "echo up; sleep 600"]);
    await gateway.says("up\n");
    gateway.signal("SIGINT");
    assertEquals((await gateway.exited).code, 130);
    await home.assertClean();
  });

  await t.step("says so when the VM dies under it, and leaves nothing", async () => {
    await using gateway = await home.start(["--exec", "/bin/sh", "-c", "echo up; sleep 600"]);
    await gateway.says("up\n");
    const vm = home.processes().find((line) => line.includes("qemu-system"))!;
    Deno.kill(Number(vm.split(" ")[0]), "SIGKILL");
    assertEquals((await gateway.exited).code, 1);
    assertStringIncludes(gateway.text(), "it ended (SIGKILL)");
    await home.assertClean();
  });

  await t.step("takes its VM along when it is killed, and the next one its folders", async () => {
    {
      await using gateway = await home.start([
        "--exec",
        "/bin/sh",
        "-c",
        "echo up; sleep 600",
      ]);
      await gateway.says("up\n");
      gateway.signal("SIGKILL");
      await gateway.exited;
    }
    await home.allEnded(30_000);
    assert((await home.leftovers()).length > 0, "it left no folder to be taken away");
    await home.ok(["--exec", "/bin/true"]);
    await home.assertClean();
  });
});
