/**
 * Programs of another processor on this host: its kernel hands them to QEMU's user emulation (binfmt_misc), so that the
 * scripts of Debian's packages run while a base for that processor is made.
 * It must not leave a rule behind that it has made.
 *
 * @module
 */
import { join } from "@std/path";
import { type Arch, hostArch, UNAME_MACHINE } from "../../vm/base/arch.ts";
import { describeError, GatewayError } from "../../vm/base/error.ts";
import { exists } from "../../vm/base/layout.ts";
import { run } from "../../vm/base/process.ts";
import type { HostTool } from "../../vm/store/artifact.ts";

const RULES = "/proc/sys/fs/binfmt_misc";

/** A program of Linux for arm64 begins so: ELF, 64 bits, little-endian; executable or shared object; machine 183. */
const HEAD = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 183, 0];
/** The system's own byte may be any, and 2 or 3 both run. */
const MASK = HEAD.map((_, at) => at === 7 ? 0 : at === 16 ? 0xfe : 0xff);

/** What a base of a processor takes beside the tools of every base: nothing for this host's own. */
export function foreignTools(arch: Arch, host: Arch = hostArch()): HostTool[] {
  if (arch === host) return [];
  return [
    { program: `qemu-${UNAME_MACHINE[arch]}-static`, debian: "qemu-user-static" },
    // mmdebstrap asks it.
    { program: "arch-test", debian: "arch-test" },
  ];
}

/** One rule in the kernel's form. Pure. */
export function ruleText(name: string, interpreter: string): string {
  const escaped = (bytes: readonly number[]) =>
    bytes.map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
  // F: the kernel opens the interpreter now, so that it is found after chroot, too.
  return `:${name}:M::${escaped(HEAD)}:${escaped(MASK)}:${interpreter}:F`;
}

/**
 * Lets arm64 programs run here until it is disposed. Rules of the system's own are used as they are.
 *
 * @throws GatewayError `tool-missing` where there is no rule and this user may not make one.
 */
export async function runForeign(arch: Arch, signal: AbortSignal): Promise<AsyncDisposable> {
  await using made = new AsyncDisposableStack();
  if (arch === hostArch() || await hasRule(arch)) return made.move();
  const tool = { signal, timeoutMs: 10_000 };
  try {
    if (!await exists(join(RULES, "register"))) {
      await run("mount", { ...tool, args: ["-t", "binfmt_misc", "binfmt_misc", RULES] });
      made.defer(async () => {
        await run("umount", { args: [RULES], timeoutMs: 10_000, check: false });
      });
      if (await hasRule(arch)) return made.move();
    }
    const [name, interpreter] = [`gateway-${arch}`, `/usr/bin/${foreignTools(arch)[0]!.program}`];
    await Deno.writeTextFile(join(RULES, "register"), ruleText(name, interpreter));
    made.defer(() => Deno.writeTextFile(join(RULES, name), "-1"));
  } catch (error) {
    signal.throwIfAborted();
    throw new GatewayError({
      code: "tool-missing",
      what: `Cannot run ${arch} programs on this host`,
      why: `its kernel has no rule for them, and none can be made: ${describeError(error)}`,
      fix: "as root: apt-get install -y qemu-user-static binfmt-support",
      cause: error,
    });
  }
  return made.move();
}

/** Whether programs run by a rule that also holds after chroot. */
async function hasRule(arch: Arch): Promise<boolean> {
  for (const name of [`qemu-${UNAME_MACHINE[arch]}`, `gateway-${arch}`]) {
    const text = await Deno.readTextFile(join(RULES, name)).catch(() => "");
    if (/^enabled$/m.test(text) && /^flags:.*F/m.test(text)) return true;
  }
  return false;
}
