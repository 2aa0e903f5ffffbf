/**
 * The real gvproxy, built by its recipe through the user's artifact store: it starts, forwards, refuses, and ends with
 * its parent. What a guest can and cannot reach is tested by the Go module's own tests.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { gvproxyConfinementText, startGvproxy } from "../net/gvproxy.ts";
import { gvproxyRecipe } from "../net/gvproxy_recipe.ts";
import { GatewayError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";
import { exists } from "../vm/base/layout.ts";
import { run, which } from "../vm/base/process.ts";
import { processStartTime } from "../vm/base/process_table.ts";
import { waitFor } from "../vm/base/wait.ts";
import type { HostService } from "../vm/instance/instance.ts";
import { ArtifactStore } from "../vm/store/artifact.ts";

const signal = new AbortController().signal;

async function binary(): Promise<string> {
  const artifact = await new ArtifactStore().ensure(await gvproxyRecipe(), {
    span: silentSpan(),
    signal,
    assumeYes: false,
  });
  return artifact.files.gvproxy!.path;
}

async function withProxy(
  test: (gvproxy: Awaited<ReturnType<typeof startGvproxy>>, dir: string) => Promise<void>,
  hostServices: readonly HostService[] = [],
): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "gw" });
  try {
    const options = {
      binary: await binary(),
      socketDir: dir,
      logPath: join(dir, "gvproxy.log"),
      hostServices,
      span: silentSpan(),
      signal,
    };
    await using gvproxy = await startGvproxy(options);
    await test(gvproxy, dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const without = { ignore: which("go") === undefined };

Deno.test("startGvproxy() exposes, lists and unexposes when it runs (skipped without go)", {
  ...without,
}, async () => {
  await withProxy(async ({ client }) => {
    const forward = await client.expose("127.0.0.1:0", "192.168.127.2:22");
    assert(/^127\.0\.0\.1:[1-9]\d+$/.test(forward.local), forward.local);
    assertEquals(await client.list(), [forward]);
    assertEquals((await client.stats()).forwards, 1);
    assertEquals((await client.leases())["192.168.127.2"], "5a:94:ef:e4:0c:ee");
    await client.unexpose(forward.local);
    assertEquals(await client.list(), []);
    const gone = await assertRejects(() => client.unexpose(forward.local), GatewayError);
    assertEquals(gone.code, "port-forward-failed");
  });
});

Deno.test(
  "startGvproxy() opens the host services of its start, and changes them later (skipped without go)",
  {
    ...without,
  },
  async () => {
    const service = { hostPort: 11434, guestPort: 80 };
    await withProxy(async ({ client }) => {
      assertEquals(await client.hostServices(), [service]);
      const other = { hostPort: 8000, guestPort: 443 };
      await client.addHostService(other);
      assertEquals(await client.hostServices(), [service, other]);
      const taken = () => client.addHostService({ hostPort: 1, guestPort: 443 });
      assertEquals((await assertRejects(taken, GatewayError)).code, "port-in-use");
      await client.removeHostService(service);
      assertEquals(await client.hostServices(), [other]);
    }, [service]);
  },
);

Deno.test("startGvproxy() takes an egress, and counts and tells refusals (skipped without go)", {
  ...without,
}, async () => {
  const dir = await Deno.makeTempDir({ prefix: "gw" });
  try {
    await using gvproxy = await startGvproxy({
      ...{ binary: await binary(), socketDir: dir, logPath: join(dir, "gvproxy.log") },
      egress: {
        mode: "none",
        nets: [{ net: "10.0.0.0/8", port: null }, { net: "10.1.2.3/32", port: 443 }],
        hosts: [{ host: "mirror.test", port: 5000 }],
      },
      ...{ span: silentSpan(), signal },
    });
    assertEquals(await gvproxy.client.refused(), { tcp: 0, udp: 0, icmp: 0, dns: 0 });
    const stop = new AbortController();
    const heard = gvproxy.client.refusals(stop.signal).next();
    stop.abort(new Error("heard enough"));
    await assertRejects(() => heard, Error, "heard enough");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("startGvproxy() tells who holds a port when it is taken (skipped without go)", {
  ...without,
}, async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const local = `127.0.0.1:${(listener.addr as Deno.NetAddr).port}`;
  await withProxy(async ({ client }) => {
    const error = await assertRejects(() => client.expose(local, "192.168.127.2:80"), GatewayError);
    assertEquals(error.code, "port-in-use");
    if (Deno.build.os === "linux") assert(error.why.endsWith("holds it"), error.why);
  });
});

Deno.test("startGvproxy() makes private sockets and takes them away (skipped without go)", {
  ...without,
}, async () => {
  let left = "";
  await withProxy(async ({ qemuSocket }, dir) => {
    left = qemuSocket;
    for await (const entry of Deno.readDir(dir)) {
      assertEquals((await Deno.stat(join(dir, entry.name))).mode! & 0o077, 0, entry.name);
    }
    assert(await exists(qemuSocket));
  });
  assertEquals(await exists(left), false);
});

Deno.test(
  "startGvproxy() confines gvproxy, as another user when root starts it (skipped without go)",
  {
    ...without,
  },
  async () => {
    await withProxy(async ({ client, pid }) => {
      const { user, landlock, why } = await client.confinement();
      assert(landlock > 0 || why !== "");
      if (Deno.build.os !== "linux") return;
      assert(gvproxyConfinementText({ user, landlock, why }).startsWith("seccomp"));
      const status = await Deno.readTextFile(`/proc/${pid}/status`);
      const own = Deno.uid()!;
      assertEquals(user, own === 0 && !why.includes("become") ? 65_534 : own);
      assert(status.includes(`Uid:\t${user}\t${user}\t${user}\t${user}\n`), status);
      // None, or the one for forwards from low ports.
      assert(/^CapEff:\t0+(400)?$/m.test(status), status);
      assert(/^NoNewPrivs:\t1$/m.test(status) && /^Seccomp:\t2$/m.test(status), status);
    });
  },
);

Deno.test("startGvproxy() starts again over what a killed one left (skipped without go)", {
  ...without,
}, async () => {
  await withProxy(async (first, dir) => {
    Deno.kill(first.pid, "SIGKILL");
    assertEquals((await first.exited).signal, "SIGKILL");
    await using second = await startGvproxy({
      binary: await binary(),
      socketDir: dir,
      logPath: join(dir, "second.log"),
      span: silentSpan(),
      signal,
    });
    assertEquals(await second.client.list(), []);
  });
});

Deno.test("startGvproxy() gives network-failed with the reason when gvproxy cannot start", async () => {
  const dir = await Deno.makeTempDir({ prefix: "gw" });
  try {
    const options = {
      binary: "/nonexistent/gvproxy",
      socketDir: dir,
      logPath: join(dir, "gvproxy.log"),
      span: silentSpan(),
      signal,
    };
    const error = await assertRejects(() => startGvproxy(options), GatewayError);
    assertEquals(error.code, "network-failed");
    assert(error.why.includes("/nonexistent/gvproxy"), error.why);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("gvproxy ends when its parent is killed (skipped without go)", {
  ...without,
}, async () => {
  const dir = await Deno.makeTempDir({ prefix: "gw" });
  try {
    const config = { listenQemu: join(dir, "q"), api: join(dir, "a"), exitWithParent: true };
    await Deno.writeTextFile(join(dir, "c.json"), JSON.stringify(config));
    // The shell plays the supervisor: it holds the other end of gvproxy's stdin and dies by SIGKILL.
    const script = 'mkfifo "$2/in"; "$1" -config "$2/c.json" <"$2/in" >/dev/null 2>&1 & echo $!; ' +
      'exec 3>"$2/in"; while ! [ -S "$2/a" ]; do sleep 0.05; done; kill -9 $$';
    const { stdout, code } = await run("sh", {
      args: ["-c", script, "sh", await binary(), dir],
      check: false,
    });
    assertEquals(code, 137);
    await waitFor({
      what: "the end of gvproxy",
      probe: () => Promise.resolve(processStartTime(Number(stdout)) === undefined || undefined),
      timeoutMs: 5000,
    });
    assertEquals([await exists(config.api), await exists(config.listenQemu)], [false, false]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("startGvproxy() gives gvproxy none of the user's secrets (skipped without go)", {
  ignore: without.ignore || Deno.build.os !== "linux",
}, async () => {
  Deno.env.set("SOME_TOKEN", "secret");
  try {
    await withProxy(async ({ pid }) => {
      const environment = await Deno.readTextFile(`/proc/${pid}/environ`);
      assert(environment.includes("PATH=") && !environment.includes("SOME_TOKEN"), environment);
    });
  } finally {
    Deno.env.delete("SOME_TOKEN");
  }
});
