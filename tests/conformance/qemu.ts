/**
 * The conformance suite on QEMU, for guests of one processor.
 * It must not hold a test.
 *
 * @module
 */
import { ensureArtifacts } from "../../bootstrap/artifacts/ensure.ts";
import { chooseVmm } from "../../bootstrap/plan/choose_vmm.ts";
import { kernelFile } from "../../kernel/kernel.ts";
import type { Arch } from "../../vm/base/arch.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { CASES } from "./cases.ts";
import type { Bench } from "./guest.ts";
import { makeLayeredDisk } from "./layered.ts";

const hostAddress = Deno.networkInterfaces()
  .find(({ family, address }) => family === "IPv4" && !address.startsWith("127."))?.address;

/** Runs every case for QEMU as a step. */
export async function conformanceOnQemu(t: Deno.TestContext, arch: Arch): Promise<void> {
  const signal = new AbortController().signal;
  const span = silentSpan();
  const config = { vmm: "qemu", arch } as const;
  const artifacts = await ensureArtifacts({ span, signal, assumeYes: true, config });
  const chosen = await chooseVmm(artifacts, {
    ...{ span, signal, assumeYes: true },
    config,
  });
  const dir = await Deno.makeTempDir({ prefix: "gw-" });
  await makeLayeredDisk(dir);
  const bench: Bench = {
    vmm: chosen.vmm,
    arch,
    kernelPath: kernelFile(artifacts.kernel).path,
    rootImage: artifacts.root.files["root.erofs"]!.path,
    gvproxy: artifacts.gvproxy.files.gvproxy!.path,
    dir,
    layeredDisk: dir,
    hostAddress,
    emulated: chosen.check.accelerator === "tcg",
    tscKHz: chosen.tscKHz,
    timeoutMs: 60_000,
  };
  try {
    for (const { name, only, run } of CASES) {
      if (only === "libkrun") continue;
      await t.step(name, () => run(bench));
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}
