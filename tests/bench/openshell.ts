/**
 * Figures of OpenShell's day with stand-ins of the real ones' sizes: an instance from the golden state, sandboxes, forks,
 * `down` and `up`. Medians.
 *
 * @module
 */
import { join } from "@std/path";
import { silentSpan } from "../../vm/base/event.ts";
import { ensureTools } from "../../vm/base/host_tools.ts";
import { coresUsed } from "../../vm/base/process_table.ts";
import { waitFor } from "../../vm/base/wait.ts";
import { paddedStandIns } from "../fakes/openshell/padded.ts";
import { REGISTRY_TOOL, TestRegistry } from "../fakes/registry.ts";
import { Client } from "../vm/client.ts";
import { freePort, TestHome } from "../vm/harness.ts";
import { OpenshellCli } from "../vm/openshell_cli.ts";
import { offerOpenshell } from "../vm/openshell_payload.ts";
import { medianRow, type Row, seconds, several } from "./row.ts";

const SIZE = ["--memory", "4096", "--cpus", "2"];
const GOLDEN_TIMEOUT_MS = 60 * 60_000;
const CALL_TIMEOUT_MS = 20 * 60_000;
/** An idle cluster with the payload takes about a third of a core. */
const IDLE_CORES = 0.6;

/** Measures. */
export async function openshellRows(): Promise<Row[]> {
  const { signal } = new AbortController();
  await ensureTools([REGISTRY_TOOL], { span: silentSpan(), signal, assumeYes: true });
  await using home = await TestHome.make();
  const dir = join(home.home, "openshell");
  {
    await using registry = await TestRegistry.start();
    await offerOpenshell(home, dir, registry, (images) => paddedStandIns(home.home, images));
    await home.ok(["build", "golden", "--payload", dir, ...SIZE], { timeoutMs: GOLDEN_TIMEOUT_MS });
  }
  const call = async (...args: string[]) => {
    await home.ok(args, { timeoutMs: CALL_TIMEOUT_MS });
  };
  const started = await several(3, async () => {
    await home.call(["rm", "--force", "default"]);
    const port = ["--port", `${freePort()}:30051`];
    return await seconds(() => call("up", "--detach", "--payload", dir, ...port, ...SIZE));
  });
  const user = await OpenshellCli.of(home);
  const create = async (name: string) => {
    await settled(home);
    return await seconds(async () => {
      await user.ok("sandbox", "create", "--detach", "--name", name);
      await user.sh(name, "echo hello");
    });
  };
  const first = [await create("box-0")];
  const next = await several(10, () => seconds(() => user.sh("box-0", "echo hello")));
  const forked = await several(3, async () => {
    await settled(home);
    const took = await seconds(() => call("fork", "default", "clone"));
    await call("rm", "--force", "clone");
    return took;
  });
  for (const name of ["box-1", "box-2"]) first.push(await create(name));
  first.sort((a, b) => a - b);
  const again = await several(3, async () => {
    await settled(home);
    return await seconds(async () => {
      await call("down");
      await call("up", "--detach");
    });
  });
  const row = (name: string, values: readonly number[], limit: number) =>
    medianRow(`openshell: ${name}`, values, limit);
  return [
    row("golden state to READY", started, 12),
    row("fork to READY with one sandbox", forked, 15),
    row("sandbox create to first output", first, 30),
    row("further exec", next, 0.5),
    row("down and up to READY with three sandboxes", again, 60),
  ];
}

/** Waits until what the last step left to do in the guest is done, since the figures are those of an idle machine. */
async function settled(home: TestHome): Promise<void> {
  const { processes } = await new Client(home).status();
  const { pid } = processes.find(({ role }) => role === "vmm")!;
  await waitFor({
    what: "the guest to be idle",
    probe: async (signal) => await coresUsed(pid, 10_000, signal) < IDLE_CORES || undefined,
    timeoutMs: 5 * 60_000,
    probeTimeoutMs: 20_000,
  });
}
