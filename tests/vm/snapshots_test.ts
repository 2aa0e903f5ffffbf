// deno-lint-ignore-file no-console
/**
 * Saved states of a real cluster: snapshots, forks, sleep, and what must survive when somebody is killed in between.
 * One restored instance walks through everything, since a restore is cheap.
 *
 * @module
 */
import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { run } from "../../vm/base/process.ts";
import { pause, waitFor } from "../../vm/base/wait.ts";
import { parseVmSpec } from "../../vm/machine/spec.ts";
import { qemuArgv } from "../../vm/qemu/argv.ts";
import { appears, type Moment, reach, step as begins } from "../kills/moments.ts";
import { Client } from "./client.ts";
import { renewedByItself } from "./cluster_certificates.ts";
import { freePort, TestHome, withEvidence } from "./harness.ts";
import { HostServices } from "./host_services.ts";
import { atRest, leaveFree, runRecord } from "./instance_files.ts";
import { PLAIN } from "./plain_service.ts";
import { assertNoCommonWords, drawWords } from "./random_words.ts";

const SIZE = ["--memory", "3072", "--cpus", "2"];
const UP_TIMEOUT_MS = 20 * 60_000;

Deno.test("snapshots, forks and sleep of a cluster", async (t) => {
  const home = await TestHome.makeOddlyNamed();
  const client = new Client(home);
  await using services = new HostServices(home);
  const port = freePort();
  const dirOf = (name: string) => join(home.home, "data/gateway/instances", name);
  const step = (name: string, fn: () => Promise<void>) =>
    t.step(name, () => withEvidence(home, "default", fn));
  const snapshots = async (): Promise<string[]> =>
    JSON.parse((await home.ok(["snapshot", "list", "--json"])).stdout)
      .map((one: { name: string }) => one.name);
  const vmmPid = async () =>
    (await client.status()).processes.find(({ role }) => role === "vmm")!.pid;

  await step("a new instance goes on from the golden state", async () => {
    await home.ok(["up", "--detach", "--port", `${port}:30051`, ...SIZE], {
      timeoutMs: UP_TIMEOUT_MS,
    });
    assert(await client.answers());
    const events = await home.events("default");
    assert(events.some(({ message }) => message === 'going on from "golden"'));
  });

  await step("vm.json is exactly the machine that runs, its memory included", async () => {
    const path = join(dirOf("default"), "vm.json");
    const spec = parseVmSpec(await Deno.readTextFile(path), path);
    const pid = await vmmPid();
    const words = async (name: string) =>
      (await Deno.readTextFile(`/proc/${pid}/${name}`)).split("\0").slice(0, -1);
    const [program, ...args] = await words("cmdline");
    const accelerator = args.join().includes("tcg") ? "tcg" : "kvm";
    assertEquals(args, qemuArgv(spec, { program: program!, accelerator }));
    // It was restored.
    assert(spec.incoming !== null && spec.ram !== null && spec.ram.layers.length > 0);
    const layers = `GATEWAY_RAM_LAYERS=${spec.ram.layers.join("\n")}`;
    assert((await words("environ")).includes(layers), layers);
  });

  await step("a snapshot keeps memory and disk, and restore brings both back", async () => {
    await client.sh("echo before >/root/note; echo before >/dev/shm/note; sync");
    const pods = await client.settledPods();
    await home.ok(["snapshot", "create", "base"]);
    await home.ok(["host-service", "add", services.spec]);
    await client.sh("echo after >/root/note; echo after >/dev/shm/note; sync");
    await home.ok(["kubectl", "--", "delete", "pods", "-n", "openshell", "--all", "--wait=false"]);
    await home.ok(["snapshot", "restore", "base"], { timeoutMs: 60_000 });
    assertEquals(await client.sh("cat /root/note /dev/shm/note"), "before\nbefore\n");
    assertEquals(await client.pods(), pods);
    await services.assertOpen();
    assertEquals(await client.nodeReady(), "True");
    assert(await client.answers());
  });

  await step(
    "after a restore the clock is right and connections that were open are cut",
    async () => {
      // A session that only waits for the other side, which is gone after the restore.
      await using held = await home.start(["exec", "--", "sh", "-c", "echo held; sleep 600"]);
      await held.says("held");
      const peers = async () =>
        (await client.sh("ss -Htn state established '( sport = :22 )' | awk '{print $4}'"))
          .trim().split("\n");
      const before = await peers();
      await home.ok(["snapshot", "create", "open"]);
      await home.ok(["snapshot", "restore", "open"], { timeoutMs: 60_000 });
      await waitFor({
        what: "the end of a connection that was open",
        probe: async () => !(await peers()).some((peer) => before.includes(peer)) || undefined,
        timeoutMs: 10_000,
        intervalMs: 300,
      });
      assert((await held.exited).code !== 0);
      const offset = await client.clockOffset();
      assert(Math.abs(offset) < 50, `${offset} ms off`);
      await home.ok(["snapshot", "rm", "open"]);
      assertEquals(await snapshots(), ["base"]);
    },
  );

  await step("bad names and names that are taken are told", async () => {
    for (
      const [args, code, words] of [
        [["snapshot", "create", "base"], 1, "there is one of that name"],
        [["snapshot", "create", "../x"], 2, "only a-z, 0-9, - _ and . are allowed"],
        [["snapshot", "create", "gateway-fork-1"], 2, "gateway's own"],
        [["snapshot", "restore", "nope"], 1, "it has only base"],
        [["snapshot", "rm", "nope"], 1, "it has only base"],
        [["snapshot", "create", "x", "--name", "nope"], 1, "there is only default"],
        [["fork", "default", "default"], 2, "there is an instance of that name"],
        [["fork", "default", "a", "a"], 2, "the names have to differ"],
        [["fork", "default", "a", "--port", `${port}:30051`], 1, "holds it"],
      ] as const
    ) {
      const result = await home.call(args);
      assertEquals(result.code, code, `${args.join(" ")}: ${result.stderr}`);
      assertStringIncludes(result.stderr, words);
    }
  });

  await step(
    "twenty forks at once work, or are refused with the reason before any starts",
    async () => {
      const names = Array.from({ length: 20 }, (_, at) => `many-${at}`);
      const { code, stderr } = await home.call(["fork", "default", ...names], {
        timeoutMs: 600_000,
      });
      const listed = JSON.parse((await home.ok(["list", "--json"])).stdout);
      if (code === 0) {
        assertEquals(listed.length, 21);
        for (const name of names) await home.ok(["rm", "--force", name], { timeoutMs: 120_000 });
        return;
      }
      assertStringIncludes(stderr, 'Cannot fork "default" to 20 clones');
      assert(/cores hold|MiB are available/.test(stderr), stderr);
      assertEquals(listed.length, 1);
    },
  );

  await step("two forks run beside their source, each with an identity of its own", async () => {
    await home.ok(["kubectl", "--", "apply", "-f", "-"], { stdin: PLAIN });
    const wait = ["kubectl", "--", "wait", "--for=condition=Available", "--timeout=120s"];
    await home.ok([...wait, "-n", "openshell", "deployment/plain"], { timeoutMs: 150_000 });
    const uid = async (app: string, name: string) => {
      const pods = await client.kubectlJson(["get", "pods", "-n", "openshell", "-l", app], name);
      return pods.items.filter((pod: { metadata: { deletionTimestamp?: string } }) =>
        pod.metadata.deletionTimestamp === undefined
      ).map((pod: { metadata: { uid: string } }) => pod.metadata.uid).join(" ");
    };
    const apps = ["app.kubernetes.io/name=gateway-demo", "app=plain"] as const;
    const [demo, plain] = await Promise.all(apps.map((app) => uid(app, "default")));
    const drawing = await drawWords(client);
    const { stderr } = await home.ok(["fork", "default", "left", "right"], {
      timeoutMs: UP_TIMEOUT_MS,
    });
    await services.closedToClones(stderr, ["left", "right"]);
    await assertNoCommonWords(home, client, drawing);
    // The service that reloads its certificates keeps its pod, the other gets a new one.
    assertEquals(await uid(apps[0], "left"), demo);
    assertNotEquals(await uid(apps[1], "left"), plain);
    assertEquals(await uid(apps[1], "default"), plain);
    const names = ["default", "left", "right"];
    const own = async (read: (name: string) => Promise<string>) => {
      const values = await Promise.all(names.map(read));
      assertEquals(new Set(values).size, 3, values.join(" | "));
    };
    await own((name) => client.sh("cat /etc/machine-id", name));
    await own((name) => client.sh("hostname", name));
    await own((name) => client.sh("head -c 32 /dev/urandom | od -An -tx1", name));
    await own((name) => Deno.readTextFile(join(dirOf(name), "pki/ca.crt")));
    await own((name) =>
      Deno.readTextFile(join(dirOf(name), "ssh/known_hosts")).then((text) => text.split(" ")[2]!)
    );
    await own(async (name) => (await client.status(name)).endpoint);
    for (const name of names) assert(await client.answers(name), name);
    const [source, left] = [await client.status(), await client.status("left")];
    const crossed = await client.curl({ ...left, clientFiles: source.clientFiles });
    assert(crossed.code !== 0, "the source's client is let in by its fork");
    assertEquals(await client.sh("cat /root/note", "left"), "before\n");
    await client.sh("echo left >/root/note", "left");
    assertEquals(await client.sh("cat /root/note", "right"), "before\n");
  });

  await step("a fork can be suspended, and goes on when its source is gone", async () => {
    await home.ok(["suspend", "left"]);
    await home.ok(["rm", "--force", "right"], { timeoutMs: 120_000 });
    await home.ok(["resume", "left"], { timeoutMs: 60_000 });
    assertEquals(await client.sh("cat /root/note", "left"), "left\n");
    assert(await client.answers("left"));
    await services.assertOpen("left");
    await home.ok(["rm", "--force", "left"], { timeoutMs: 120_000 });
    assert(await client.answers());
  });

  await step("a VMM that was stopped for a while has the right clock within seconds", async () => {
    const pid = await vmmPid();
    Deno.kill(pid, "SIGSTOP");
    await pause(4000);
    Deno.kill(pid, "SIGCONT");
    await pause(2000);
    const offset = await client.clockOffset();
    assert(Math.abs(offset) < 50, `${offset} ms off`);
    const events = await home.events("default");
    assert(events.some(({ message }) => message?.includes("the guest stood still")));
    assert(await client.answers());
  });

  await step("a network process that hangs is replaced, and the guest goes on", async () => {
    const pods = await client.settledPods();
    const status = await client.status();
    const gvproxy = status.processes.find(({ role }) => role === "gvproxy")!.pid;
    Deno.kill(gvproxy, "SIGSTOP");
    await waitFor({
      what: "another gvproxy",
      probe: async () => {
        const now = await client.status();
        const pid = now.processes.find(({ role }) => role === "gvproxy")?.pid;
        return (pid !== undefined && pid !== gvproxy && (await client.answers())) || undefined;
      },
      timeoutMs: 60_000,
      intervalMs: 500,
    });
    assertEquals(await client.pods(), pods);
    await services.assertOpen();
  });

  await step(
    "a full disk while a snapshot is made leaves the source running and no snapshot",
    async () => {
      if (Deno.uid() !== 0) return console.log("left out: mounting a small file system needs root");
      const small = join(home.home, "small");
      await Deno.mkdir(small);
      await run("mount", { args: ["-t", "tmpfs", "-o", "size=4g", "tmpfs", small] });
      const env = { XDG_DATA_HOME: small };
      try {
        await home.ok(
          ["up", "--detach", "--name", "small", "--port", `${freePort()}:30051`, ...SIZE],
          { env, timeoutMs: UP_TIMEOUT_MS },
        );
        const sh = (script: string) =>
          home.ok(["exec", "--name", "small", "--", "sh", "-c", script], { env });
        await leaveFree(small, 400);
        // More than is left there, and in the guest it is nothing but changed memory.
        await sh("dd if=/dev/urandom of=/dev/shm/fill bs=1M count=600 2>/dev/null");
        const { code, stderr } = await home.call(["snapshot", "create", "big", "--name", "small"], {
          env,
        });
        assertEquals(code, 1, stderr);
        assertStringIncludes(stderr, "no space left");
        const list = await home.ok(["snapshot", "list", "--name", "small", "--json"], { env });
        assertEquals(JSON.parse(list.stdout), []);
        const layers = [...Deno.readDirSync(join(small, "gateway/instances/small"))]
          .filter(({ name }) => name.endsWith(".layer"));
        assertEquals(layers.length, 1, "the half-written memory is left");
        await sh("rm /dev/shm/fill; echo alive");
        // The guest's own writes wait for space, and none is lost.
        await leaveFree(small, 16);
        const writing = sh(
          "dd if=/dev/urandom of=/root/more bs=1M count=64 conv=fsync 2>/dev/null; wc -c </root/more",
        );
        const events = join(small, "gateway/instances/small/events.jsonl");
        await waitFor({
          what: "the warning that the disk is full",
          probe: async () =>
            (await Deno.readTextFile(events)).includes("the host's disk is full") || undefined,
          timeoutMs: 60_000,
          intervalMs: 250,
        });
        await leaveFree(small, 400);
        assertEquals((await writing).stdout.trim(), String(64 * 1024 * 1024));
      } finally {
        await home.call(["rm", "--force", "small"], { env, timeoutMs: 120_000 });
        await run("umount", { args: ["-l", small], check: false });
      }
    },
  );

  await step(
    "two starts of one suspended instance at once: one goes on, the other is refused",
    async () => {
      await home.ok(["suspend"]);
      const both = await Promise.all([1, 2].map(() => home.call(["up", "--detach"])));
      const codes = both.map(({ code }) => code).sort();
      assertEquals(codes, [0, 1], both.map(({ stderr }) => stderr).join("\n"));
      assertStringIncludes(both.map(({ stderr }) => stderr).join(""), "running already");
      assert(await client.answers());
    },
  );

  for (const [who, verb, moment] of KILLS) {
    await step(`kill -9 of the ${who} in ${verb.join(" ")} when ${moment.name}`, async () => {
      const seen = moment.arm({ home, dirOf, standIn: undefined });
      await using asking = await home.start(verb);
      let over = false;
      void asking.exited.then(() => over = true);
      await reach(seen, () => over ? asking.text() : undefined, 120_000);
      const { supervisor } = await runRecord(dirOf("default"));
      try {
        if (who === "command") asking.signal("SIGKILL");
        else if (supervisor) Deno.kill(supervisor.pid, "SIGKILL");
      } catch {
        // It was done already: the shortest case of all.
      }
      await asking.exited;
      // What a command asked for before it was killed is still being done, or about to begin.
      if (who === "command") {
        await pause(2000);
        await atRest(home);
      }
      // Whatever is listed is whole.
      for (const name of await snapshots()) {
        await home.ok(["snapshot", "restore", name], { timeoutMs: 90_000 });
        assert(await client.answers(), name);
        if (name !== "base") await home.ok(["snapshot", "rm", name]);
      }
      for (const { name } of JSON.parse((await home.ok(["list", "--json"])).stdout)) {
        if (name !== "default") await home.ok(["rm", "--force", name], { timeoutMs: 120_000 });
      }
      assertEquals(await snapshots(), ["base"]);
    });
  }

  await step("a snapshot of an instance whose VMM died says so and is not listed", async () => {
    Deno.kill(await vmmPid(), "SIGKILL");
    const { code, stderr } = await home.call(["snapshot", "create", "dead"]);
    assertEquals(code, 1);
    assertNotEquals(stderr, "");
    await waitFor({
      what: "the end of the run",
      probe: async () =>
        (await client.status().catch(() => undefined))?.state !== "running" || undefined,
      timeoutMs: 20_000,
      intervalMs: 300,
    });
    assertEquals(await snapshots(), ["base"]);
  });

  await step("certificates are valid when a snapshot is 400 days old", async () => {
    const faked = { LD_PRELOAD: FAKETIME, FAKETIME: "+400d", FAKETIME_DONT_FAKE_MONOTONIC: "1" };
    await home.ok(["snapshot", "restore", "base"], { timeoutMs: 180_000, env: faked });
    const days = (Number(await client.sh("date +%s")) * 1000 - Date.now()) / 86_400_000;
    assert(days > 399 && days < 401, `the guest is ${days} days ahead`);
    const nodes = await home.ok(["exec", "--", "kubectl", "get", "nodes", "--no-headers"]);
    assertStringIncludes(nodes.stdout, " Ready ");
    await renewedByItself(client);
    await home.ok(["down"], { timeoutMs: 120_000 });
  });

  await step(
    "a resumed guest uses certificates that were made while it was suspended",
    async () => {
      await home.ok(["snapshot", "restore", "base"], { timeoutMs: 180_000 });
      await home.ok(["suspend"]);
      await Deno.remove(join(dirOf("default"), "pki"), { recursive: true });
      // READY is told only when the service shows a certificate of the new authority.
      await home.ok(["resume"], { timeoutMs: 180_000 });
      assert(await client.answers());
    },
  );

  await step("rm takes a suspended state and snapshots along", async () => {
    await home.ok(["suspend"]);
    await home.ok(["rm", "default"], { timeoutMs: 120_000 });
    await home.assertClean();
    assertEquals(await Deno.stat(dirOf("default")).then(() => "there", () => "gone"), "gone");
  });

  await home[Symbol.asyncDispose]();
});

/** Debian's package libfaketime; tests/run.ts installs it. */
const FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/**
 * Who is killed, in what, and when: one of each kind. tests/kills/table.ts has all points; tests/kill_table_test.ts tries
 * them without VMs, tests/long in VMs.
 */
const KILLS: readonly (readonly ["command" | "supervisor", readonly string[], Moment])[] = [
  ["command", ["snapshot", "create", "half"], appears(/^ram-\w+\.layer$/)],
  ["supervisor", ["snapshot", "create", "half"], appears(/^ram-\w+\.layer$/)],
  ["supervisor", ["snapshot", "restore", "base"], begins("guest up")],
  ["command", ["fork", "default", "half-fork"], appears(/^instance\.json$/, "half-fork")],
  ["supervisor", ["fork", "default", "half-fork"], appears(/^snapshots\/gateway-fork-/)],
];
