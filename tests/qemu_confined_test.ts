/**
 * A real QEMU, confined, with a guest that only halts: it starts, is saved and goes on, and what it is not for is refused
 * although its monitor asks for it.
 *
 * @module
 */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { silentSpan } from "../vm/base/event.ts";
import { which } from "../vm/base/process.ts";
import { overlayOn, readDiskChain, saveDiskChain } from "../vm/instance/disk_chain.ts";
import type { VmSpec } from "../vm/machine/spec.ts";
import type { SaveTarget } from "../vm/machine/vmm.ts";
import { qemuTool, type QemuVm, QemuVmm } from "../vm/qemu/driver.ts";
import { askConfinement } from "../vm/qemu/ram_layer.ts";
import { ramSocket } from "../vm/qemu/save.ts";
import { haltingKernel } from "./fakes/halting_kernel.ts";
import { WITHOUT_HARDWARE } from "./fakes/no_hardware.ts";
import { ramshim } from "./fakes/ram_place.ts";

const signal = new AbortController().signal;
const missing = [qemuTool("amd64").program].filter((name) => which(name) === undefined);

/** A folder as an instance's, with a guest's files and the socket of its network. */
class Home implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  #saves = 0;

  private constructor(readonly top: string, private readonly kernel: string) {}

  static async make(): Promise<Home> {
    const top = await Deno.makeTempDir({ prefix: "qemu-" });
    const home = new Home(top, await haltingKernel(top));
    home.#stack.defer(() => Deno.remove(top, { recursive: true }));
    for (const dir of [home.dir, home.runtime]) await Deno.mkdir(dir, { mode: 0o700 });
    for (const name of ["state.img", "payload.tar", "root.img"]) {
      await Deno.writeTextFile(join(home.dir, name), name);
      await Deno.truncate(join(home.dir, name), 1 << 20);
    }
    for (const name of ["id_ed25519", "instance.json"]) {
      await Deno.writeTextFile(join(home.dir, name), "secret");
    }
    const network = Deno.listen({ transport: "unix", path: join(home.runtime, "net") });
    home.#stack.defer(() => network.close());
    return home;
  }

  get dir(): string {
    return join(this.top, "in stance");
  }

  get runtime(): string {
    return join(this.top, "run");
  }

  async start(slot: { ram: { layers: string[] }; incoming: VmSpec["incoming"] }): Promise<QemuVm> {
    const { head } = await readDiskChain(this.dir);
    const disk = (serial: "root" | "payload", name: string) => (
      { serial, path: join(this.dir, name), format: "raw", readonly: true } as const
    );
    const spec: VmSpec = {
      ...{ schemaVersion: 1, name: "dev", cpus: 1, memoryMiB: 64, ...slot },
      kernel: { path: this.kernel, format: "elf", cmdline: "" },
      disks: [
        disk("root", "root.img"),
        { serial: "state", path: join(this.dir, head.name), format: head.format, readonly: false },
        disk("payload", "payload.tar"),
      ],
      net: { socketPath: join(this.runtime, "net"), transport: "stream", mac: "5a:94:ef:e4:0c:ee" },
      consolePorts: [{ name: "gw.control", socketPath: join(this.runtime, "vm", "control") }],
      consoleLogPath: join(this.dir, "console.log"),
      runtimeDir: join(this.runtime, "vm"),
      vmmLogPath: join(this.dir, "vmm.log"),
    };
    const driver = new QemuVmm({
      ...{ kernelPath: this.kernel, cacheDir: this.top, candidate: WITHOUT_HARDWARE, ramshim },
    });
    return this.#stack.use(await driver.start(spec, { span: silentSpan(), signal })) as QemuVm;
  }

  /** Saves to a folder and goes on, over a new overlay; gives what a start needs. */
  async save(vm: QemuVm, ramDir: string, how: Pick<SaveTarget, "mode" | "adopt">) {
    const id = this.#saves++;
    const chain = await overlayOn(this.dir, await readDiskChain(this.dir), 1);
    const [ramPath, devicesPath] = [
      join(ramDir, `ram-${id}.layer`),
      join(this.dir, `dev-${id}.bin`),
    ];
    const { adopted } = await vm.save!({
      ...{ ...how, ramPath, devicesPath, then: "continue", complete: () => Promise.resolve() },
      overlay: {
        path: join(this.dir, chain.head.name),
        commit: () => saveDiskChain(this.dir, chain),
        revert: () => Promise.resolve(),
      },
    }, signal);
    return { ramPath, incoming: { devicesPath }, adopted };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }
}

const ignore = missing.length > 0;
const skipped = ignore ? ` (skipped: ${missing.join(", ")} is not installed)` : "";

Deno.test({
  name:
    `a confined QEMU is saved, again and to another file system, and a second one goes on${skipped}`,
  ignore,
  fn: async () => {
    await using home = await Home.make();
    const memory = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "gateway-test-" });
    try {
      const vm = await home.start({ ram: { layers: [] }, incoming: null });
      assertMatch(vm.confinement!, /^seccomp/);
      const first = await home.save(vm, memory, { mode: "new", adopt: true });
      const second = await home.save(vm, home.dir, { mode: "new" });
      assertEquals([first.adopted, second.adopted], [true, false]);
      await vm.stop(2000);
      const after = await home.start({
        ...{ ram: { layers: [second.ramPath] }, incoming: second.incoming },
      });
      const { status } = await after.qmp.execute("query-status") as { status: string };
      assertEquals(status, "running");
      const third = await home.save(after, home.dir, { mode: "kept" });
      assertEquals((await Deno.stat(third.ramPath)).mode! & 0o777, 0o600);
      await after[Symbol.asyncDispose]();
      const names = [...Deno.readDirSync(home.dir)].map(({ name }) => name);
      assertEquals(names.filter((name) => /outgoing|^ram-0/.test(name)), []);
    } finally {
      await Deno.remove(memory, { recursive: true });
    }
  },
});

Deno.test({
  name: `a confined QEMU opens no other file and no network and starts no program${skipped}`,
  ignore,
  fn: async () => {
    await using home = await Home.make();
    const vm = await home.start({ ram: { layers: [] }, incoming: null });
    const refuse = async (command: string, args: Record<string, unknown>, why: RegExp) => {
      const error = await assertRejects(() => vm.qmp.execute(command, args as never), Error);
      assertMatch(`${error.message} ${(error as { why?: string }).why ?? ""}`, why);
    };
    const inet = { type: "inet", data: { host: "127.0.0.1", port: "9" } };
    const tcp = { type: "socket", data: { addr: inet, server: false } };
    await refuse("chardev-add", { id: "t", backend: tcp }, /Operation not permitted/);
    await vm.qmp.execute("migrate", { uri: "exec:cat >/dev/null" }).catch(() => {});
    for (let status = "setup"; status !== "failed";) {
      ({ status } = await vm.qmp.execute("query-migrate") as { status: string });
      if (status === "completed") throw new Error("it has started a program");
    }
    const confinement = await askConfinement(
      ramSocket({ runtimeDir: join(home.runtime, "vm") }),
      signal,
    );
    if (confinement?.includes("no Landlock")) {
      // deno-lint-ignore no-console
      console.log(`skipped for files: ${confinement}`);
      return;
    }
    // The keys of the instance itself are not QEMU's either.
    for (
      const filename of [
        "/etc/passwd",
        join(home.dir, "id_ed25519"),
        join(home.dir, "instance.json"),
      ]
    ) {
      await refuse(
        "blockdev-add",
        { driver: "file", "node-name": "f", filename },
        /Permission denied/,
      );
    }
    const made = join(home.dir, "made");
    await refuse("chardev-add", {
      ...{ id: "f", backend: { type: "file", data: { out: made } } },
    }, /Permission denied/);
  },
});
