/**
 * As whom an instance's processes run, which only a process that may read all of /proc can tell.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { statusOf } from "../bootstrap/inspect/status.ts";
import { instancePaths } from "../vm/base/layout.ts";
import { identifyProcess } from "../vm/base/process_table.ts";
import type { InstanceView } from "../vm/instance/instance.ts";

Deno.test({
  name: "statusOf() gives the user that each process runs as",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    const supervisor = identifyProcess(Deno.pid)!;
    const view = {
      paths: instancePaths("dev"),
      config: { name: "dev", ports: [], payload: "demo", stateMiB: 1 },
      state: "running",
      run: { phase: "starting", supervisor, vmm: null, gvproxy: identifyProcess(1) },
    } as unknown as InstanceView;
    const { processes } = await statusOf(view);
    assertEquals(processes.map(({ role, user }) => [role, user]), [
      ["supervisor", Deno.uid()],
      ["gvproxy", (await Deno.stat("/proc/1")).uid],
    ]);
  },
});
