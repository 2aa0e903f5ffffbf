/**
 * A user with one instance whose VM has a plan but never ran, for those who hand plans to the VMM's process.
 * It must not hold a test.
 *
 * @module
 */
import { join } from "@std/path";
import { planVm } from "../../bootstrap/plan/plan.ts";
import { vmmCommand } from "../../bootstrap/run/self.ts";
import { run } from "../../vm/base/process.ts";
import { waitFor } from "../../vm/base/wait.ts";
import type { VmSpec } from "../../vm/machine/spec.ts";
import { Sandbox } from "../sandbox.ts";
import { fakeKernel } from "./kernel.ts";

/** A sandbox with one instance's folder, its plan not yet written. */
export class Plans implements AsyncDisposable {
  private constructor(readonly sandbox: Sandbox, readonly dir: string, readonly sockets: string) {}

  /** Makes the folders. */
  static async make(): Promise<Plans> {
    const sandbox = await Sandbox.make();
    const dir = join(sandbox.top, "data/gateway/instances/dev");
    const sockets = join(sandbox.top, "run/gateway/dev");
    for (const path of [dir, sockets, join(sandbox.top, "cache/gateway")]) {
      await Deno.mkdir(path, { recursive: true });
    }
    await Deno.writeFile(join(sandbox.top, "cache/gateway/vmlinux"), fakeKernel());
    return new Plans(sandbox, dir, sockets);
  }

  /** A plan, by default a cluster's on libkrun. */
  spec(change: Partial<Parameters<typeof planVm>[0]> = {}): VmSpec {
    return planVm({
      name: "dev",
      mode: "cluster",
      cpus: 2,
      memoryMiB: 2048,
      vmm: "libkrun",
      arch: "amd64",
      os: "linux",
      kernelPath: join(this.sandbox.top, "cache/gateway/vmlinux"),
      rootImage: join(this.sandbox.top, "cache/gateway/root.erofs"),
      dir: this.dir,
      runtimeDir: this.sockets,
      netSocket: join(this.sockets, "net"),
      stateDisk: { path: join(this.dir, "state.img"), format: "raw" },
      ramLayers: false,
      emulated: false,
      tscKHz: null,
      ...change,
    });
  }

  /** Runs the VMM's process on a plan, connecting to its ports as a supervisor does. */
  async child(
    plan: unknown,
    library: string,
    env: Readonly<Record<string, string>> = {},
    bundle?: string,
  ) {
    const path = join(this.dir, "vm.json");
    await Deno.writeTextFile(path, typeof plan === "string" ? plan : JSON.stringify(plan));
    const ended = new AbortController();
    const { program, args } = vmmCommand(path, bundle);
    const running = run(program, {
      args,
      env: { ...this.sandbox.env, GATEWAY_LIBKRUN: library, ...env },
      check: false,
      timeoutMs: 30_000,
    }).finally(() => ended.abort());
    const conns: Deno.UnixConn[] = [];
    const ports = (plan as VmSpec).consolePorts ?? [];
    for (const { socketPath } of Array.isArray(ports) ? ports : []) {
      const conn = await waitFor({
        what: "a port",
        probe: () => Deno.connect({ transport: "unix", path: socketPath }),
        timeoutMs: 20_000,
        intervalMs: 10,
        signal: ended.signal,
      }).catch(() => undefined);
      if (conn) conns.push(conn);
    }
    const result = await running;
    conns.forEach((conn) => conn.close());
    return result;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.sandbox[Symbol.asyncDispose]();
  }
}
