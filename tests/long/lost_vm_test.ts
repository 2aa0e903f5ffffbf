/**
 * What a cluster has left on its disk when it ends in the middle of things: its VM is killed, or it is stopped while a
 * snapshot is made. Each start after it boots.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { appears, reach } from "../kills/moments.ts";
import { Client } from "../vm/client.ts";
import { freePort, TestHome, withEvidence } from "../vm/harness.ts";
import { unnamedStateFiles } from "../vm/instance_files.ts";

const SIZE = ["--memory", "3072", "--cpus", "2"];
const UP_TIMEOUT_MS = 20 * 60_000;

Deno.test("a cluster that ends in the middle of things", async (t) => {
  await using home = await TestHome.make();
  const client = new Client(home);
  const dirOf = (name: string) => join(home.home, "data/gateway/instances", name);
  const step = (name: string, fn: () => Promise<void>) =>
    t.step(name, () => withEvidence(home, "default", fn));
  const up = (...words: string[]) =>
    home.ok(["up", "--detach", ...words], { timeoutMs: UP_TIMEOUT_MS });
  const kubectl = (...words: string[]) => home.call(["kubectl", "--", ...words]);

  await step("has the objects of before its last flush after its VM was killed", async () => {
    await up("--port", `${freePort()}:30051`, ...SIZE);
    assertEquals((await kubectl("create", "configmap", "flushed")).code, 0);
    await client.sh("sync");
    // This one may be gone: the database does not flush each change (docs/architecture.md).
    assertEquals((await kubectl("create", "configmap", "latest")).code, 0);
    const vmm = (await client.status()).processes.find(({ role }) => role === "vmm")!;
    Deno.kill(vmm.pid, "SIGKILL");
    await home.allEnded();
    await up();
    assert(await client.answers());
    assertEquals((await kubectl("get", "configmap", "flushed")).code, 0);
    // And goes on to take new ones.
    assertEquals((await kubectl("create", "configmap", "after")).code, 0);
  });

  await step("has what was flushed after `down` while a snapshot was made", async () => {
    await client.sh("echo flushed >/root/note; sync");
    const seen = appears(/^disk-\w+\.qcow2$/).arm({ home, dirOf, standIn: undefined });
    await using asking = await home.start(["snapshot", "create", "half"]);
    await reach(seen, () => undefined, 60_000);
    await home.ok(["down"], { timeoutMs: 120_000 });
    const { code } = await asking.exited;
    const listed = JSON.parse((await home.ok(["snapshot", "list", "--json"])).stdout);
    assertEquals(listed.map(({ name }: { name: string }) => name), code === 0 ? ["half"] : []);
    assertEquals(await unnamedStateFiles(dirOf("default")), []);
    await up();
    assertEquals(await client.sh("cat /root/note"), "flushed\n");
    assert(await client.answers());
  });
});
