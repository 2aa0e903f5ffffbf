/**
 * Our kernel against Debian's cloud kernel in one run, in turns: from QEMU's exec to the first line of PID 1, with the
 * same processor model, initramfs and settings. Each in the machine it can boot from (Debian's has virtio-mmio as a
 * module), and ours with what the plan tells it besides: the frequency of the counter.
 *
 * @module
 */
import { join } from "@std/path";
import { ensureArtifacts } from "../../bootstrap/artifacts/ensure.ts";
import { chooseVmm } from "../../bootstrap/plan/choose_vmm.ts";
import { PACKED_SIZE_MAX_BYTES } from "../../kernel/kernel.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { spawnChild, which } from "../../vm/base/process.ts";
import { debianKernel } from "../kernel/debian.ts";
import { initramfs } from "../kernel/initramfs.ts";
import type { Row } from "./row.ts";

const ROUNDS = 8;
const MIB = 1024 * 1024;

/** Measures. */
export async function kernelRows(): Promise<Row[]> {
  const signal = new AbortController().signal;
  const span = silentSpan();
  const artifacts = await ensureArtifacts({ span, signal, assumeYes: true });
  const { tscKHz } = await chooseVmm(artifacts, { span, signal, assumeYes: true });
  const { vmlinux, bzImage } = artifacts.kernel.files;
  const dir = await Deno.makeTempDir();
  try {
    const initrd = join(dir, "initrd");
    const busybox = await Deno.readFile(which("busybox")!);
    await Deno.writeFile(
      initrd,
      initramfs(busybox, "echo PID1 >/dev/console; /bin/busybox reboot -f"),
    );
    const debian = await debianKernel(dir);
    const microvm = "microvm,acpi=off,pic=on,pit=on,rtc=on,isa-serial=on";
    const tuned = `acpi=off lapic_khz=1000000${tscKHz === null ? "" : ` tsc_early_khz=${tscKHz}`}`;
    const [ours, theirs]: [number[], number[]] = [[], []];
    // In turns, since what else the machine does changes while this goes on.
    for (let round = 0; round < ROUNDS; round++) {
      ours.push(await pid1(vmlinux!.path, initrd, microvm, tuned));
      theirs.push(await pid1(debian.path, initrd, "q35", ""));
    }
    const [our, their] = [Math.min(...ours), Math.min(...theirs)];
    return [
      {
        name: "PID 1 against Debian's cloud kernel, from QEMU's exec",
        value: our / their,
        unit: "x",
        limit: 0.3,
        note: `${our.toFixed(2)} and ${their.toFixed(2)} s (${debian.version})`,
      },
      {
        name: "bzImage",
        value: bzImage!.sizeBytes / MIB,
        unit: "MiB",
        limit: PACKED_SIZE_MAX_BYTES / MIB,
      },
    ];
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Seconds from QEMU's exec to PID 1's line. */
async function pid1(
  kernel: string,
  initrd: string,
  machine: string,
  settings: string,
): Promise<number> {
  const started = performance.now();
  await using child = spawnChild("qemu-system-x86_64", {
    args: [
      ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"],
      ...["-machine", machine, "-accel", "tcg,thread=multi"],
      ...["-cpu", "Nehalem,+aes,+pclmulqdq,+rdrand", "-smp", "2", "-m", "512M"],
      ...["-kernel", kernel, "-initrd", initrd, "-append"],
      "console=ttyS0 panic=-1 reboot=t tsc=reliable mitigations=off no_timer_check quiet " +
      `loglevel=4 ${settings}`,
    ],
    stdout: "piped",
    ownGroup: true,
  });
  const bound = setTimeout(() => void child.stop(0), 60_000);
  let text = "";
  try {
    for await (const piece of child.stdout!.pipeThrough(new TextDecoderStream() as never)) {
      text += piece;
      if (text.includes("PID1")) return (performance.now() - started) / 1000;
    }
  } finally {
    clearTimeout(bound);
  }
  throw new Error(`no PID 1 of ${kernel}: ${text.slice(-300)}`);
}
