/**
 * What a guest that goes on from a saved state sees of this host's processor. A state that went with its disk to another
 * machine must not run there: the guest would use instructions that are not there, or count time at another rate.
 * It must not tell two starts of one host apart.
 *
 * @module
 */
import type { QemuMachine } from "./argv.ts";

/** Lines of /proc/cpuinfo that name a processor. */
const NAMES = [
  ...["vendor_id", "cpu family", "model", "model name", "stepping"],
  ...["CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"],
];
/** The line of what it can do. */
const FLAGS = ["flags", "Features"];

/** The same text on the same processor, "" where the system does not tell it (then saved states do not exist, either). */
export async function hostCpu(accelerator: QemuMachine["accelerator"]): Promise<string> {
  return cpuIdentity(await Deno.readTextFile("/proc/cpuinfo").catch(() => ""), accelerator);
}

/**
 * The identity in the text of /proc/cpuinfo. A virtualized guest sees the processor with its flags; an emulated one only its
 * time stamp counter, which goes with the model.
 */
export function cpuIdentity(cpuinfo: string, accelerator: QemuMachine["accelerator"]): string {
  const [first = ""] = cpuinfo.split("\n\n");
  const wanted = accelerator === "tcg" ? NAMES : [...NAMES, ...FLAGS];
  return first.split("\n").flatMap((line) => {
    const [key = "", value = ""] = line.split(":").map((word) => word.trim());
    return wanted.includes(key) ? [`${key}=${value}`] : [];
  }).join(",");
}
