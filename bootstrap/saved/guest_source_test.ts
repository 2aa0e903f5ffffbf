import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { instanceConfig } from "../../tests/fakes/instance_config.ts";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { EventLog } from "../../vm/base/event.ts";
import { exists, instancePaths } from "../../vm/base/layout.ts";
import { describeFile, slotRecord, writeState } from "../../vm/instance/saved_state.ts";
import { parseVmSpec } from "../../vm/machine/spec.ts";
import type { ChosenVmm } from "../plan/choose_vmm.ts";
import { planVm } from "../plan/plan.ts";
import { type GoldenDisk, instanceKey, prepareGuest } from "./guest_source.ts";

const signal = new AbortController().signal;
const config = instanceConfig({ name: "dev" });

/** A VMM of which only the check and the support of saved states count here. */
function chosenVmm(snapshot: boolean, machine = "microvm"): ChosenVmm {
  const check = { usable: true, description: "QEMU", accelerator: "tcg", why: "", fix: "" };
  return {
    vmm: { name: "qemu", supports: { snapshot, net: ["gvproxy"] } },
    check: { ...check, machine },
    tscKHz: null,
  } as unknown as ChosenVmm;
}

/** An instance's folder, before its first start. */
class Bench implements AsyncDisposable {
  readonly paths;
  readonly messages: string[] = [];
  asked = 0;

  private constructor(private readonly top: string) {
    const dir = join(top, "dev");
    this.paths = { ...instancePaths("dev"), dir, runtimeDir: join(top, "run") };
    this.paths.stateDisk = join(dir, "state.img");
    this.paths.vmFile = join(dir, "vm.json");
    this.paths.instanceFile = join(dir, "instance.json");
  }

  static async make(): Promise<Bench> {
    const bench = new Bench(await Deno.makeTempDir());
    await Deno.mkdir(bench.paths.dir);
    return bench;
  }

  get planned() {
    return planVm({
      ...{ name: "dev", mode: "cluster", cpus: 1, memoryMiB: 1536, vmm: "qemu", arch: "amd64" },
      ...{ os: "linux", kernelPath: "/a/vmlinux", rootImage: "/a/root.erofs", tsi: false },
      ...{ dir: this.paths.dir, runtimeDir: this.paths.runtimeDir, netSocket: null },
      stateDisk: { path: this.paths.stateDisk, format: "raw" },
      ...{ ramLayers: true, emulated: true, tscKHz: null },
    });
  }

  async prepare(
    change: { cold?: boolean; chosen?: ChosenVmm; golden?: GoldenDisk } = {},
  ) {
    const { cold = false, chosen = chosenVmm(false), golden } = change;
    const log = new EventLog();
    log.addSink((record) => void this.messages.push(record.message ?? ""));
    return await prepareGuest(this.paths, config, chosen, this.planned, {
      ...{ cold, keep: false, payloadDigest: "none", span: log.span("test"), signal },
      goldenDisk: () => {
        this.asked++;
        return Promise.resolve(golden);
      },
    });
  }

  /** Keeps a state as a suspend of that machine does. */
  async suspend(chosen: ChosenVmm): Promise<void> {
    const { dir } = this.paths;
    await Deno.writeTextFile(join(dir, "ram-1.layer"), "memory");
    await Deno.writeTextFile(join(dir, "dev-1.bin"), "devices");
    await writeState(slotRecord(this.paths), {
      ...{ schemaVersion: 2, key: instanceKey(this.planned, config, chosen) },
      devices: await describeFile(dir, "dev-1.bin"),
      ram: [await describeFile(dir, "ram-1.layer")],
      ...{ disk: null, savedAt: "2026-11-24T00:00:00.000Z", payload: null, certificates: null },
      ...{ clusterEnds: null, sshPort: 1, apiPort: null, from: null },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.top, { recursive: true });
  }
}

Deno.test("prepareGuest() makes an empty disk for a new instance without golden state, and keeps the spec", async () => {
  await using bench = await Bench.make();
  const { spec, slot } = await bench.prepare();
  assertEquals([slot, spec.incoming, bench.asked], [undefined, null, 1]);
  assertEquals((await Deno.stat(bench.paths.stateDisk)).size, config.stateMiB * 1024 * 1024);
  const { vmFile } = bench.paths;
  assertEquals(parseVmSpec(await Deno.readTextFile(vmFile), vmFile), spec);
});

Deno.test("prepareGuest() lays a new instance's disk over a golden one of its size, and over no other", async () => {
  for (const stateMiB of [config.stateMiB, config.stateMiB * 2]) {
    await using bench = await Bench.make();
    const golden: GoldenDisk = {
      stateMiB,
      async linkInto(dir) {
        const name = "disk-golden.img";
        await Deno.writeFile(join(dir, name), new Uint8Array(1024 * 1024));
        return { name, format: "raw" };
      },
    };
    const { spec } = await bench.prepare({ golden });
    const fits = stateMiB === config.stateMiB;
    const disk = spec.disks.find(({ serial }) => serial === "state")!;
    assertEquals(disk.format, fits ? "qcow2" : "raw");
    assertEquals(await exists(join(bench.paths.dir, "disk-golden.img")), fits);
  }
});

Deno.test("prepareGuest() goes on from a suspended state of the same machine, and asks for no golden disk then", async () => {
  await using bench = await Bench.make();
  await bench.prepare();
  await writeFileAtomic(bench.paths.instanceFile, JSON.stringify(config));
  await bench.suspend(chosenVmm(true));
  const { spec, slot } = await bench.prepare({ chosen: chosenVmm(true) });
  assert(slot !== undefined);
  const { dir } = bench.paths;
  assertEquals(spec.ram, { layers: [join(dir, "ram-1.layer")] });
  assertEquals(spec.incoming, { devicesPath: join(dir, "dev-1.bin") });
  assertEquals(bench.asked, 1);
});

Deno.test("prepareGuest() drops a suspended state of another machine, or with --cold, and says so", async () => {
  for (const cold of [false, true]) {
    await using bench = await Bench.make();
    await bench.prepare();
    await bench.suspend(chosenVmm(true, cold ? "microvm" : "another"));
    const { spec, slot } = await bench.prepare({ cold, chosen: chosenVmm(true) });
    assertEquals([slot, spec.incoming], [undefined, null]);
    assertEquals(await exists(slotRecord(bench.paths)), false);
    const warned = bench.messages.find((one) => one.startsWith("the suspended state is dropped"));
    assert(warned?.includes(cold ? "--cold was given" : "a different VMM"), warned);
  }
});

Deno.test("prepareGuest() gives up a suspended state that cannot be read with --cold only", async () => {
  await using bench = await Bench.make();
  await bench.prepare();
  await bench.suspend(chosenVmm(true));
  await Deno.writeTextFile(slotRecord(bench.paths), "{");
  const error = await assertRejects(
    () => bench.prepare({ chosen: chosenVmm(true) }),
    GatewayError,
  );
  assertEquals(error.code, "instance-schema");
  assert(error.fix.includes("gateway up --cold --name dev"), error.fix);
  assert(await exists(slotRecord(bench.paths)));
  const { slot } = await bench.prepare({ cold: true, chosen: chosenVmm(true) });
  assertEquals(slot, undefined);
});
