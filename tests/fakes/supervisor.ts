/**
 * A supervisor for tests: locks an instance, keeps its records, says so on stdout, and ends on SIGTERM as its second
 * argument says: `clean`, or `never`. Its third is the port of the cluster's API, if there is one. It owns one child that stands for the VMM.
 * It must not boot anything.
 *
 * @module
 */
import { spawnChild } from "../../vm/base/process.ts";
import { identifyProcess } from "../../vm/base/process_table.ts";
import { LockedInstance } from "../../vm/instance/instance.ts";
import { instanceConfig } from "./instance_config.ts";
import { runRecord } from "./run_record.ts";

const name = Deno.args[0]!;
const [, ending, apiPort] = Deno.args;
const done = Promise.withResolvers<void>();
Deno.addSignalListener("SIGTERM", () => {
  if (ending === "clean") done.resolve();
});
const instance = await LockedInstance.open(name);
await instance.saveConfig(instanceConfig({ name }));
await Deno.writeTextFile(instance.paths.stateDisk, "what must survive a stop");
const vmm = spawnChild("sleep", { args: ["300"], ownGroup: true });
const { runtimeDir } = instance.paths;
await instance.saveRun(runRecord({
  readyAt: "2026-01-02T03:05:05.000Z",
  vmm: identifyProcess(vmm.pid)!,
  vmmDescription: "QEMU 7.2.22, TCG (emulation)",
  vmmWhy: "it is a test",
  cluster: "none",
  apiPort: apiPort === undefined ? null : Number(apiPort),
  endpoint: "https://127.0.0.1:1",
  runtimeDir,
}));
await Deno.stdout.write(new TextEncoder().encode(`${vmm.pid}\n`));
await done.promise;
await vmm.stop(1000);
await instance[Symbol.asyncDispose]();
