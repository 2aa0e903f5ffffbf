/**
 * What `gateway build` does: its targets, and the table of what was built.
 *
 * @module
 */
import { EventLog } from "../../vm/base/event.ts";
import { buildTargets, checkBuild } from "../artifacts/ensure.ts";
import { chosenSource, ensurePayload, offeringDemo } from "../payload/choose.ts";
import { preparedFiles, preparePayload } from "../payload/prepare.ts";
import { parseArch } from "../plan/options.ts";
import { attachProgress } from "../view/progress_view.ts";
import { columns } from "../view/table.ts";
import type { BuildFlags } from "./definitions.ts";
import { assumeYes, type CommandIo, tellAfterwards } from "./io.ts";

/** Runs `build`; returns the exit code. */
export async function runBuild(
  io: CommandIo<BuildFlags> & { readonly target: string; readonly payload: string | undefined },
): Promise<number> {
  const { flags } = io;
  const arch = flags.arch === undefined ? undefined : parseArch(flags.arch);
  const target = checkBuild({ ...io, refresh: flags.refresh === true, arch });
  const log = new EventLog();
  const span = log.span("build");
  const started = performance.now();
  const artifacts = await (async () => {
    using _told = tellAfterwards(log, io);
    using _view = attachProgress(log, { ...io, quiet: false });
    const options = {
      span,
      signal: io.signal,
      assumeYes: assumeYes(flags.yes),
      clusterBinary: flags.clusterBinary,
    };
    if (target === "payload") {
      const source = await chosenSource(io.payload, span);
      const payload = await ensurePayload(source, options);
      const preparing = preparePayload(payload, { ...options, arch });
      return preparedFiles(await offeringDemo(source, preparing));
    }
    const building = { ...options, ...(arch && { config: { vmm: "auto" as const, arch } }) };
    if (flags.refresh === true) {
      const { refreshRoot } = await import("./build_root.ts");
      return await refreshRoot(building);
    }
    if (target !== "golden") return await buildTargets(target, building);
    const { buildGoldenTarget } = await import("./build_golden.ts");
    const { cpus, memory: memoryMiB, disk: stateMiB, payload } = flags;
    return await buildGoldenTarget({
      ...building,
      size: { cpus, memoryMiB, stateMiB, payload, arch },
    });
  })();
  const rows = artifacts.flatMap((artifact) =>
    Object.entries(artifact.files).map(([file, { path, sha256, sizeBytes }]) => ({
      artifact: artifact.name,
      file,
      sha256,
      sizeBytes,
      path,
    }))
  );
  if (flags.json) io.json(rows);
  else {
    const cells = rows.map(({ artifact, file, sha256, sizeBytes }) => [
      artifact,
      file,
      `${(sizeBytes / (1024 * 1024)).toFixed(1).padStart(7)} MiB`,
      sha256.slice(0, 12),
    ]);
    for (const line of columns(cells)) io.out(line);
    io.err(`Done in ${((performance.now() - started) / 1000).toFixed(1)} s.`);
  }
  return 0;
}
