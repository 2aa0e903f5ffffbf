/**
 * The conformance suite on QEMU; tests/nested runs the same one on libkrun.
 *
 * @module
 */
import { ensureArtifacts } from "../../bootstrap/artifacts/ensure.ts";
import { chooseVmm } from "../../bootstrap/plan/choose_vmm.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { ensureTools } from "../../vm/base/host_tools.ts";
import { QEMU_IMG_TOOL } from "../../vm/instance/disk_chain.ts";
import { CASES } from "../conformance/cases.ts";
import type { Bench } from "../conformance/guest.ts";
import { makeLayeredDisk } from "../conformance/layered.ts";

const hostAddress = Deno.networkInterfaces()
  .find(({ family, address }) => family === "IPv4" && !address.startsWith("127."))?.address;

Deno.test("conformance on QEMU", async (t) => {
  const signal = new AbortController().signal;
  const span = silentSpan();
  const artifacts = await ensureArtifacts({ span, signal, assumeYes: true });
  const chosen = await chooseVmm(artifacts, {
    ...{ span, signal, assumeYes: true },
    config: { vmm: "qemu" },
  });
  const dir = await Deno.makeTempDir({ prefix: "gw-" });
  await ensureTools([QEMU_IMG_TOOL], { span, signal, assumeYes: true });
  await makeLayeredDisk(dir);
  const bench: Bench = {
    vmm: chosen.vmm,
    kernelPath: artifacts.kernel.files.vmlinux!.path,
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
});
