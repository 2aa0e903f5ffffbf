/**
 * What every driver has to do, with the same assertions for each: run on QEMU by conformance_test.ts, on libkrun inside
 * the nested machine of tests/nested.
 * It must not ask which driver it runs on; a case for one of them says so in `only`.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { resolveOptions } from "../../bootstrap/plan/options.ts";
import { execWith } from "../../bootstrap/start/exec.ts";
import { digestBytes } from "../../vm/base/digest.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { EventLog } from "../../vm/base/event.ts";
import { identifyProcess, isAlive } from "../../vm/base/process_table.ts";
import { settleWithin, waitFor } from "../../vm/base/wait.ts";
import type { VmSpec } from "../../vm/machine/spec.ts";
import { type Bench, bootGuest, type Guest, guestEvidence } from "./guest.ts";
import { LAYERED_FILES } from "./layered.ts";

/** One thing a driver does. */
export interface Case {
  readonly name: string;
  /** Runs there alone. */
  readonly only?: "qemu" | "libkrun";
  readonly run: (bench: Bench) => Promise<void>;
}

const sh = (script: string) => ["/bin/sh", "-c", script];

/** Boots, runs the body, and adds what the guest said to an error. */
async function withGuest(
  bench: Bench,
  options: Parameters<typeof bootGuest>[1],
  body: (guest: Guest) => Promise<void>,
): Promise<void> {
  await using guest = await bootGuest(bench, options);
  try {
    await body(guest);
  } catch (error) {
    throw new Error(
      `${error instanceof Error ? error.stack : error}\n${await guestEvidence(guest.spec)}`,
    );
  }
}

/** The guest is gone by itself, and says that all went well. */
async function assertEnds(guest: Guest): Promise<void> {
  const ended = await settleWithin(guest.vm.exited, {
    what: "the VM's own end",
    timeoutMs: 30_000,
  });
  assertEquals(ended, { code: 0, signal: null });
}

function mark(guest: Guest, name: string) {
  return guest.records.find((record) => record.kind === "mark" && record.name === name);
}

async function streams(bench: Bench): Promise<void> {
  const bytes = crypto.getRandomValues(new Uint8Array(64 * 1024));
  await withGuest(bench, { argv: ["/bin/cat"] }, async (guest) => {
    const { code, stdout } = await guest.run(bytes);
    assertEquals([code, stdout.length, digestBytes(stdout)], [0, bytes.length, digestBytes(bytes)]);
  });
}

async function disks(bench: Bench): Promise<void> {
  const disk = join(bench.dir, "state-case.img");
  const before = new Uint8Array(8 * 1024 * 1024).fill(0x2e);
  await Deno.writeFile(disk, before);
  const script = [
    "for d in vda vdb vdc; do printf '%s=%s,%s ' $d $(cat /sys/block/$d/serial) $(cat /sys/block/$d/ro); done",
    "printf x | dd of=/dev/vda bs=1 2>/dev/null && echo 'root was written'",
    "touch /usr/x 2>/dev/null && echo 'root was touched'",
    "printf 'written by the guest' | dd of=/dev/vdb bs=1 seek=4096 conv=notrunc,fsync 2>/dev/null && echo done",
  ].join("; ");
  try {
    // The child may only read what is in its own folder, so the disk is put there and read at the end.
    await withGuest(bench, {
      argv: sh(script),
      stateDisk: disk,
      change: (spec) => {
        const inside = join(spec.consoleLogPath, "..", "state.img");
        Deno.renameSync(disk, inside);
        return {
          ...spec,
          disks: spec.disks.map((one) => one.serial === "state" ? { ...one, path: inside } : one),
        };
      },
    }, async (guest) => {
      const { text } = await guest.run();
      assertEquals(text, "vda=root,1 vdb=state,0 vdc=payload,1 done\n");
      await assertEnds(guest);
      const after = await Deno.readFile(join(guest.spec.consoleLogPath, "..", "state.img"));
      before.set(new TextEncoder().encode("written by the guest"), 4096);
      assertEquals([after.length, digestBytes(after)], [before.length, digestBytes(before)]);
    });
  } finally {
    await Deno.remove(disk).catch(() => {});
  }
}

/** A state disk over another one, as snapshots and the golden state make it: the lower file stays as it is. */
async function layered(bench: Bench): Promise<void> {
  const inside = (spec: VmSpec, name: string) => join(spec.consoleLogPath, "..", name);
  const kept = join(bench.dir, "over-kept.qcow2");
  const boot = (
    script: string,
    over: string,
    body: (guest: Guest, text: string) => Promise<void>,
  ) =>
    withGuest(bench, {
      argv: sh(script),
      change: (spec) => {
        for (const name of LAYERED_FILES) {
          Deno.copyFileSync(join(bench.layeredDisk!, name), inside(spec, name));
        }
        Deno.copyFileSync(over, inside(spec, "over.qcow2"));
        const path = inside(spec, "over.qcow2");
        const state = { serial: "state", path, format: "qcow2", readonly: false } as const;
        return { ...spec, disks: [spec.disks[0]!, state, spec.disks[1]!] };
      },
    }, async (guest) => {
      const { text } = await guest.run();
      await assertEnds(guest);
      await body(guest, text);
    });
  const read = "dd if=/dev/vdb bs=1 count=4 skip=8192 2>/dev/null; ";
  const write = "printf new! | dd of=/dev/vdb bs=1 seek=8192 conv=fsync 2>/dev/null";
  try {
    await boot(read + write, join(bench.layeredDisk!, "over.qcow2"), async ({ spec }, text) => {
      assertEquals(text, "....");
      const base = await Deno.readFile(inside(spec, "base.raw"));
      assertEquals(base.every((byte) => byte === 0x2e), true);
      await Deno.copyFile(inside(spec, "over.qcow2"), kept);
    });
    await boot(read, kept, (_, text) => Promise.resolve(assertEquals(text, "new!")));
  } finally {
    await Deno.remove(kept).catch(() => {});
  }
}

async function network(bench: Bench, datagrams = false): Promise<void> {
  const hostname = bench.hostAddress!;
  const requests: string[] = [];
  await using server = Deno.serve({ hostname, port: 0, onListen: () => {} }, (request) => {
    requests.push(new URL(request.url).pathname);
    return new Response("hello from the host\n");
  });
  const script = "ip -4 -o addr show eth0; cat /etc/resolv.conf; " +
    `busybox wget -q -T 20 -O - http://${hostname}:${server.addr.port}/asked`;
  await withGuest(bench, { argv: sh(script), net: "gvproxy", datagrams }, async (guest) => {
    assertEquals(guest.spec.net?.transport, datagrams ? "unixgram" : "stream");
    const { text } = await guest.run();
    assertStringIncludes(text, "inet 192.168.127.2/24");
    assertStringIncludes(text, "nameserver 192.168.127.1");
    assertStringIncludes(text, "hello from the host");
    assertEquals(requests, ["/asked"]);
    const leases = await guest.gvproxy!.client.leases();
    assertEquals(Object.values(leases).includes("5a:94:ef:e4:0c:ee"), true);
  });
}

async function forward(bench: Bench): Promise<void> {
  const script = "mkdir /tmp/www; echo 'answered from inside' >/tmp/www/page; " +
    "exec busybox httpd -f -p 8080 -h /tmp/www";
  await withGuest(bench, { argv: sh(script), net: "gvproxy" }, async (guest) => {
    void guest.run().catch(() => {});
    await guest.control.waitForMark("exec-start", bench.timeoutMs, guest.signal);
    const { local } = await guest.gvproxy!.client.expose("127.0.0.1:0", "192.168.127.2:8080");
    const text = await waitFor({
      what: "the guest's page",
      probe: async (signal) => await (await fetch(`http://${local}/page`, { signal })).text(),
      timeoutMs: 20_000,
      intervalMs: 200,
    });
    assertEquals(text, "answered from inside\n");
  });
}

async function marks(bench: Bench): Promise<void> {
  await withGuest(bench, { argv: ["/bin/true"] }, async (guest) => {
    assertEquals((await guest.run()).code, 0);
    await assertEnds(guest);
    const times = ["init", "mounts", "payload", "exec-start"].map((name) =>
      Number(mark(guest, name)?.attrs?.uptime)
    );
    assert(times.every((time, at) => time > 0 && time >= (times[at - 1] ?? 0)), String(times));
    // Not the last ones: Linux sends hvc0's lines in the background, and the reset drops what still waits (seen).
    const console = await Deno.readTextFile(guest.spec.consoleLogPath);
    const uptime = Number(mark(guest, "mounts")!.attrs!.uptime).toFixed(2);
    assertStringIncludes(console, `gateway: ${uptime} mounts`);
    const { mode } = await Deno.stat(guest.spec.consoleLogPath);
    assertEquals((mode ?? 0) & 0o777, 0o600);
  });
}

async function powerOff(bench: Bench): Promise<void> {
  await withGuest(bench, { argv: ["/bin/sleep", "600"] }, async (guest) => {
    await guest.control.waitForMark("exec-start", bench.timeoutMs, guest.signal);
    await guest.control.request("poweroff", 10_000);
    await assertEnds(guest);
    assertEquals(mark(guest, "stopped")?.attrs?.state, "clean");
    for (const { socketPath } of guest.spec.consolePorts) {
      await assertRejects(() => Deno.lstat(socketPath), Deno.errors.NotFound);
    }
  });
}

async function killed(bench: Bench): Promise<void> {
  await withGuest(bench, { argv: ["/bin/sleep", "600"] }, async (guest) => {
    await guest.control.waitForMark("exec-start", bench.timeoutMs, guest.signal);
    const id = identifyProcess(guest.vm.pid)!;
    Deno.kill(guest.vm.pid, "SIGKILL");
    const ended = await settleWithin(guest.vm.exited, { what: "the end", timeoutMs: 10_000 });
    assertEquals([ended.signal, isAlive(id)], ["SIGKILL", false]);
  });
  await withGuest(bench, { argv: sh("exit 3") }, async (guest) => {
    assertEquals((await guest.run()).code, 3);
  });
}

async function stopped(bench: Bench): Promise<void> {
  await withGuest(bench, { argv: ["/bin/sleep", "600"] }, async (guest) => {
    const id = identifyProcess(guest.vm.pid)!;
    const started = performance.now();
    await guest.vm.stop(5000);
    assert(performance.now() - started < 10_000);
    assertEquals(isAlive(id), false);
    await guest.vm.stop(5000);
  });
}

/** What becomes of a guest whose supervisor was killed: nobody else holds the other end of gw.control. */
async function abandoned(bench: Bench): Promise<void> {
  await withGuest(bench, { argv: ["/bin/sleep", "600"] }, async (guest) => {
    await guest.control.waitForMark("exec-start", bench.timeoutMs, guest.signal);
    guest.control[Symbol.dispose]();
    await assertEnds(guest);
  });
}

async function corruptKernel(bench: Bench): Promise<void> {
  for (const [what, keepBytes] of [["noise", 0], ["cut", 1_000_000]] as const) {
    let kernelPath = "";
    const error = await assertRejects(async () => {
      await using guest = await bootGuest(bench, {
        argv: ["/bin/true"],
        change: (spec) => {
          // In the guest's own folder: nothing else may be named by a plan.
          kernelPath = join(spec.consoleLogPath, "..", `vmlinux-${what}`);
          const bytes = Deno.readFileSync(spec.kernel.path).subarray(0, keepBytes);
          Deno.writeFileSync(kernelPath, keepBytes ? bytes : new Uint8Array(9000).fill(7));
          return { ...spec, kernel: { ...spec.kernel, path: kernelPath } };
        },
      });
      const code = (await guest.run()).code;
      throw new Error(`it ran and ended with ${code}`);
    }, GatewayError);
    assertEquals(error.code, "vmm-failed", error.message);
    assertStringIncludes(error.message, kernelPath);
  }
}

/** `gateway --exec` itself, from "everything is built" on. */
async function execLine(bench: Bench): Promise<void> {
  const log = new EventLog();
  const out: number[] = [];
  const write = (data: Uint8Array) => {
    for (const byte of data) out.push(byte);
    return Promise.resolve(data.length);
  };
  const stdin = new Response("some input").body!;
  const check = { usable: true, description: "", accelerator: "", why: "", fix: "" };
  const { config, net } = resolveOptions(
    { name: "default", assumeYes: false, exec: ["sh"], cpus: 1, memoryMiB: 512, arch: bench.arch },
    { cpus: 1, memoryMiB: 2048 },
  );
  const code = await execWith(
    { ...bench, check: { ...check, accelerator: bench.emulated ? "tcg" : "" } },
    { config, net, exec: sh("cat; exit 7") },
    {
      span: log.span("exec"),
      signal: AbortSignal.timeout(bench.timeoutMs),
      streams: { stdin, stdout: { write }, stderr: { write } },
    },
  );
  assertEquals([code, new TextDecoder().decode(Uint8Array.from(out))], [7, "some input"]);
}

/** The suite. */
export const CASES: readonly Case[] = [
  {
    name: "a program that ends with 0 ends the VM",
    run: (bench) =>
      withGuest(bench, { argv: ["/bin/true"] }, async (guest) => {
        assertEquals((await guest.run()).code, 0);
        await assertEnds(guest);
      }),
  },
  {
    name: "exit code 7 and both streams come back",
    run: (bench) =>
      withGuest(bench, { argv: sh("printf out; printf err >&2; exit 7") }, async (guest) => {
        const { code, text, stderr } = await guest.run();
        assertEquals([code, text, stderr], [7, "out", "err"]);
      }),
  },
  { name: "gateway --exec gives the guest's exit code", run: execLine },
  { name: "64 KiB of random bytes pass from stdin to stdout unchanged", run: streams },
  {
    name: "two CPUs",
    run: (bench) =>
      withGuest(bench, { argv: sh("nproc; uname -r"), cpus: 2 }, async (guest) => {
        const { text } = await guest.run();
        assert(/^2\n\d+\.\d+\.\d+-gateway\n$/.test(text), text);
      }),
  },
  { name: "the root is read-only, the state disk keeps exactly what was written", run: disks },
  { name: "a state disk over another one leaves that one as it is", run: layered },
  {
    name: "an address by DHCP and an HTTP request through gvproxy",
    run: (bench) => network(bench),
  },
  {
    name: "the same by datagrams, as on a Mac",
    only: "libkrun",
    run: (bench) => network(bench, true),
  },
  { name: "a forwarded port is answered from inside", run: forward },
  { name: "marks arrive in order, and the console has them too", run: marks },
  { name: "poweroff by gw.control is clean and leaves no socket", run: powerOff },
  { name: "after kill -9 of the VMM the next boot works", run: killed },
  { name: "stop() ends a guest that does not listen, and may be called again", run: stopped },
  { name: "a guest whose host went away powers itself off", run: abandoned },
  { name: "a corrupt or cut kernel is named", run: corruptKernel },
];
