/**
 * `gateway --exec … --net tsi` in the outer machine: the stock libkrunfw's kernel with our root image and init, and a
 * request of the guest's that this machine's own kernel makes.
 *
 * @module
 */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { resolveOptions } from "../../bootstrap/plan/options.ts";
import { execKernel, execWith } from "../../bootstrap/start/exec.ts";
import { EventLog } from "../../vm/base/event.ts";
import type { Bench } from "../conformance/guest.ts";

/** Runs it. `bench.vmm` is a driver whose library has the stock libkrunfw beside it. */
export async function tsiGuest(bench: Bench): Promise<void> {
  const log = new EventLog();
  const warnings: string[] = [];
  log.addSink(({ kind, message }) => void (kind === "warn" && warnings.push(message ?? "")));
  const span = log.span("exec");
  const signal = AbortSignal.timeout(bench.timeoutMs);
  const requests: string[] = [];
  const handler = (request: Request) => {
    requests.push(new URL(request.url).pathname);
    return new Response("hello from the host\n");
  };
  const listen = { hostname: bench.hostAddress!, port: 0, onListen: () => {} };
  await using server = Deno.serve(listen, handler);
  const script = "uname -r; ls /sys/class/net; cat /etc/resolv.conf; " +
    `busybox wget -q -T 20 -O - http://${bench.hostAddress}:${server.addr.port}/asked; exit 7`;
  const options = resolveOptions({
    ...{ name: "default", assumeYes: false, net: "tsi", vmm: "libkrun" },
    exec: ["/bin/sh", "-c", script],
    cpus: 1,
    memoryMiB: 512,
  }, { cpus: 8, memoryMiB: 4096 });
  const check = await bench.vmm.check({ span, signal });
  const chosen = { vmm: bench.vmm, check, tscKHz: null };
  const kernel = await execKernel(options, bench.kernelPath, chosen, span);
  const [out, err]: [number[], number[]] = [[], []];
  const into = (bytes: number[]) => ({
    write: (data: Uint8Array) => (bytes.push(...data), Promise.resolve(data.length)),
  });
  const code = await execWith(
    { ...chosen, ...kernel, rootImage: bench.rootImage, gvproxy: bench.gvproxy },
    options,
    {
      span,
      signal,
      streams: { stdin: new Blob([]).stream(), stdout: into(out), stderr: into(err) },
    },
  );
  const decode = (bytes: number[]) => new TextDecoder().decode(Uint8Array.from(bytes));
  const [text, words] = [decode(out), decode(err)];
  assertEquals(code, 7, text + words);
  assertMatch(text, /^\d+\.\d+\.\d+\n/, "the kernel is not ours");
  assertEquals(text.includes("eth0"), false, text);
  assertStringIncludes(text, `nameserver ${bench.hostAddress}\n`);
  assertStringIncludes(text, "hello from the host");
  assertEquals(requests, ["/asked"]);
  assertStringIncludes(warnings.join(), "with --net tsi this host makes the guest's connections");
}
