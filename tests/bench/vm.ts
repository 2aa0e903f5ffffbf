/**
 * Figures of a VM without a cluster: our kernel under our driver against the same kernel started by a bare QEMU.
 *
 * @module
 */
import { ensureArtifacts } from "../../bootstrap/artifacts/ensure.ts";
import { readEvents } from "../../bootstrap/inspect/status.ts";
import { chooseVmm } from "../../bootstrap/plan/choose_vmm.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { run } from "../../vm/base/process.ts";
import { freePort, TestHome } from "../vm/harness.ts";
import { type Row, seconds, several } from "./row.ts";

/**
 * A trivial init: nothing but the time since the kernel began. QEMU would add its device after our `--`, where it would
 * be the init's argument; so the device of the last slot is named here.
 */
const TRIVIAL =
  'virtio_mmio.device=512@0xfeb00e00:12 init=/usr/bin/busybox -- ash -c "mount -t proc proc /proc; cat /proc/uptime; reboot -f"';

/** Measures. */
export async function vmRows(): Promise<Row[]> {
  const signal = new AbortController().signal;
  const span = silentSpan();
  const artifacts = await ensureArtifacts({ span, signal, assumeYes: true });
  const { tscKHz } = await chooseVmm(artifacts, { span, signal, assumeYes: true });
  await using home = await TestHome.make();
  const bare = await several(5, async () => {
    const { stdout } = await run("qemu-system-x86_64", {
      args: [
        ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"],
        ...[
          "-machine",
          "microvm,acpi=off,pic=on,pit=on,rtc=on,isa-serial=on,auto-kernel-cmdline=off",
        ],
        ...["-accel", "tcg,thread=multi", "-cpu", "Nehalem,+aes,+pclmulqdq,+rdrand", "-smp", "2"],
        ...["-m", "2048M", "-kernel", artifacts.kernel.files.vmlinux!.path],
        ...[
          "-drive",
          `if=none,id=r,format=raw,readonly=on,file.locking=off,file=${
            artifacts.root.files["root.erofs"]!.path
          }`,
        ],
        ...["-device", "virtio-blk-device,drive=r,bus=virtio-mmio-bus.7"],
        ...[
          "-append",
          "console=ttyS0 ro root=/dev/vda rootfstype=erofs panic=-1 reboot=t tsc=reliable " +
          `${
            tscKHz === null ? "" : `tsc_early_khz=${tscKHz} `
          }lapic_khz=1000000 mitigations=off acpi=off no_timer_check quiet loglevel=4 ${TRIVIAL}`,
        ],
      ],
      timeoutMs: 60_000,
      check: false,
    });
    return Number(/^(\d+\.\d+) /m.exec(stdout)?.[1] ?? NaN);
  });
  const boots: Boot[] = [];
  for (let at = 0; at < 5; at++) boots.push(await boot(home));
  const least = (pick: (boot: Boot) => number) => Math.min(...boots.map(pick));
  const pid1 = least((one) => one.pid1);
  const whole = await several(5, () => seconds(() => home.ok(["--exec", "/bin/true"])));
  return [
    {
      name: "process start to QEMU's exec, everything built",
      value: least((one) => one.toExec),
      unit: "s",
      limit: 0.4,
    },
    {
      name: "PID 1 against a bare QEMU with a trivial init",
      value: pid1 / bare[0]!,
      unit: "x",
      limit: 1.15,
      note: `${pid1} and ${bare[0]} s`,
    },
    {
      name: "init's stages before the cluster's exec",
      value: least((one) => one.stages),
      unit: "s",
      limit: 1.5,
    },
    { name: "gateway --exec /bin/true, start to end", value: whole[0]!, unit: "s" },
  ];
}

/** Seconds of one start up to the cluster's exec. */
interface Boot {
  readonly toExec: number;
  readonly pid1: number;
  readonly stages: number;
}

async function boot(home: TestHome): Promise<Boot> {
  const startMs = Date.now();
  await using gateway = await home.start([
    "up",
    "--cold",
    "--memory",
    "2048",
    "--cpus",
    "2",
    "--port",
    `${freePort()}:30051`,
  ]);
  await gateway.says("] guest: cluster-start");
  const records = await readEvents(`${home.home}/data/gateway/instances/default/events.jsonl`);
  gateway.signal("SIGINT");
  await gateway.exited;
  const mark = (name: string) =>
    Number(records.find((record) => record.kind === "mark" && record.name === name)?.attrs?.uptime);
  const exec = records.find((record) => record.message === "QEMU started")!;
  return {
    toExec: (exec.t - startMs) / 1000,
    pid1: mark("init"),
    stages: mark("cluster-start") - mark("init"),
  };
}
