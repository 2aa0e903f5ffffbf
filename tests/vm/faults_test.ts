/**
 * Signals and crashes at every stage of a start, on real VMs: nothing stays behind, the next start works, and what was
 * written and synced is there.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { exists } from "../../vm/base/layout.ts";
import { spawnChild } from "../../vm/base/process.ts";
import { waitFor } from "../../vm/base/wait.ts";
import { type Background, freePort, TestHome, withEvidence } from "./harness.ts";

const home = await TestHome.make();
const UP = [
  "up",
  "--port",
  `${freePort()}:30051`,
  "--memory",
  "2048",
  "--cpus",
  "2",
  "--no-kube-api",
  // What is tried here is a boot; snapshots_test.ts has the same for a restore.
  "--cold",
];

/** Ctrl-C as soon as the step is told; each is a station of the straight line. */
const STAGES = [
  "artifacts",
  "choose vmm",
  "pki",
  "payload",
  "start gvproxy",
  "start vm",
  "guest up",
  "guest: init",
  "guest: state",
  "expose ports",
  "service ready",
  "guest: cluster-start",
];

/** Waits until commands run in the guest. */
async function reachable(): Promise<void> {
  await waitFor({
    what: "a guest that runs commands",
    probe: async () => (await home.call(["exec", "--", "true"])).code === 0 || undefined,
    timeoutMs: 120_000,
    intervalMs: 500,
  });
}

function pidOf(program: string): number {
  const line = home.processes().find((text) => text.split(" ")[1]!.endsWith(program));
  assert(line, `no ${program} in ${home.processes().join("\n")}`);
  return Number(line.split(" ")[0]);
}

Deno.test("Ctrl-C and crashes", async (t) => {
  const step = (name: string, fn: () => Promise<void>) =>
    t.step(name, () => withEvidence(home, "default", fn));

  for (const stage of STAGES) {
    await step(`Ctrl-C at "${stage}" ends with 130 and leaves nothing running`, async () => {
      await using gateway = await home.start(UP);
      await gateway.says(`] ${stage}`);
      gateway.signal("SIGINT");
      assertEquals((await gateway.exited).code, 130, gateway.text());
      await home.assertClean();
    });
  }

  const crashes: readonly (readonly [string, (gateway: Background) => void, string])[] = [
    ["the VMM", () => Deno.kill(pidOf("qemu-system-x86_64"), "SIGKILL"), "it ended (SIGKILL)"],
    ["gvproxy", () => Deno.kill(pidOf("gvproxy"), "SIGKILL"), "gvproxy ended (SIGKILL)"],
    ["the supervisor", (gateway) => gateway.signal("SIGKILL"), ""],
  ];
  for (const [what, kill, words] of crashes) {
    await step(`after kill -9 of ${what} the next up works and synced data is there`, async () => {
      const note = crypto.randomUUID();
      {
        await using gateway = await home.start(UP);
        await gateway.says("] guest: cluster-start");
        await reachable();
        await home.ok(["exec", "--", "sh", "-c", `echo ${note} >/root/note && sync`]);
        kill(gateway);
        assert((await gateway.exited).code !== 0);
        assertStringIncludes(gateway.text(), words);
      }
      await using gateway = await home.start(UP);
      await gateway.says("] guest: cluster-start");
      await reachable();
      const { stdout } = await home.ok(["exec", "--", "cat", "/root/note"]);
      assertEquals(stdout.trim(), note);
      gateway.signal("SIGTERM");
      await gateway.exited;
      await home.assertClean();
    });
  }

  // The guest is not up yet, so it could not see that its host is gone.
  for (const stage of ["start gvproxy", "start vm", "guest up", "guest: init"]) {
    await step(`kill -9 of the supervisor at "${stage}" leaves nothing running`, async () => {
      await using gateway = await home.start(UP);
      await gateway.says(`] ${stage}`);
      gateway.signal("SIGKILL");
      await gateway.exited;
      await home.allEnded();
      await home.ok(["down"]);
      await home.assertClean();
    });
  }

  await step("a supervisor that is killed takes its guest and its network with it", async () => {
    await using gateway = await home.start(UP);
    await gateway.says("] guest: cluster-start");
    gateway.signal("SIGKILL");
    await gateway.exited;
    await home.allEnded(90_000);
    assertEquals(JSON.parse((await home.ok(["list", "--json"])).stdout)[0].state, "crashed");
    await home.ok(["down"]);
    await home.assertClean();
  });

  await step("poweroff in the guest stops the cluster and unmounts cleanly", async () => {
    await using gateway = await home.start(UP);
    await gateway.says("] guest: cluster-start");
    await reachable();
    await home.call(["exec", "--", "poweroff"]);
    await gateway.exited;
    const stopped = (await home.events("default")).find((record) => record.name === "stopped");
    assertEquals(stopped?.attrs?.state, "clean");
    await home.assertClean();
  });

  await step("status --argv prints a script that boots the stopped instance by hand", async () => {
    const script = (await home.ok(["status", "--argv"])).stdout;
    const dir = join(home.home, "data/gateway/instances/default");
    const spec = JSON.parse(await Deno.readTextFile(join(dir, "vm.json")));
    const { socketPath } = spec.consolePorts[0];
    await using machine = spawnChild("sh", { args: ["-c", script], env: home.env, ownGroup: true });
    const console = join(dir, "console.log");
    const stillRuns = new AbortController();
    void machine.exited.then(() => stillRuns.abort(new Error("the script ended")));
    await waitFor({
      what: "the cluster's start on the guest's console",
      probe: async () => {
        // Until the VMM has made it, the console is that of the start before.
        if (!await exists(socketPath)) return undefined;
        return /gateway: [\d.]+ cluster-start/.test(await Deno.readTextFile(console)) || undefined;
      },
      timeoutMs: 120_000,
      signal: stillRuns.signal,
    });
    using control = await Deno.connect({ transport: "unix", path: socketPath });
    await control.write(new TextEncoder().encode("r1 poweroff\n"));
    assertEquals((await machine.exited).code, 0);
    assertStringIncludes(await Deno.readTextFile(console), "stopped");
    await home.allEnded();
  });

  await step("a state disk with somebody else's data is refused and left as it is", async () => {
    const dir = join(home.home, "data/gateway/instances/default");
    const record = await Deno.readTextFile(join(dir, "disk.json")).catch(() => undefined);
    const disk = join(dir, record ? JSON.parse(record).head.name : "state.img");
    await Deno.remove(disk);
    await Deno.writeTextFile(disk, "dear diary".repeat(1000));
    const { code, stderr } = await home.call(UP);
    assertEquals(code, 1);
    assertStringIncludes(stderr, "it holds data that gateway did not write");
    assertEquals(await Deno.readTextFile(disk), "dear diary".repeat(1000));
    await home.assertClean();
  });

  await home[Symbol.asyncDispose]();
});
