/**
 * Figures of OpenShell's day with stand-ins of the real ones' sizes: an instance from the golden state, sandboxes, forks,
 * `down` and `up`, and the load of an image of 1 GB against containerd's own import. Medians.
 *
 * @module
 */
import { join } from "@std/path";
import { writeLargeImage } from "../fakes/large_image.ts";
import { paddedStandIns } from "../fakes/openshell/padded.ts";
import { TestRegistry } from "../fakes/registry.ts";
import { Client } from "../vm/client.ts";
import { freePort, TestHome } from "../vm/harness.ts";
import { OpenshellCli } from "../vm/openshell_cli.ts";
import { offerOpenshell } from "../vm/openshell_payload.ts";
import { coresUsed } from "../../vm/process.ts";
import { waitFor } from "../../vm/wait.ts";
import { median, type Row, seconds, several } from "./row.ts";

const SIZE = ["--memory", "4096", "--cpus", "2"];
const GOLDEN_TIMEOUT_MS = 60 * 60_000;
const CALL_TIMEOUT_MS = 20 * 60_000;
const LARGE = "bench.test/large:1";
/** An idle cluster with the payload takes about a third of a core. */
const IDLE_CORES = 0.6;

/** Measures. */
export async function openshellRows(): Promise<Row[]> {
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
  const row = (name: string, values: readonly number[], limit: number): Row => ({
    ...{ name: `openshell: ${name}, median of ${values.length}`, value: median(values) },
    ...{ unit: "s", limit, note: `worst ${values.at(-1)!.toFixed(1)} s` },
  });
  return [
    row("golden state to READY", started, 12),
    row("fork to READY with one sandbox", forked, 15),
    row("sandbox create to first output", first, 30),
    row("further exec", next, 0.5),
    row("down and up to READY with three sandboxes", again, 60),
    await loadRow(home),
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

/** The same file by both ways in one guest, each time into a store that has nothing of it. */
async function loadRow(home: TestHome): Promise<Row> {
  const client = new Client(home);
  const archive = join(home.home, "large.tar");
  await writeLargeImage(archive, { name: LARGE });
  const guest = "/var/lib/rancher/large.tar";
  await home.ok(["cp", archive, `default:${guest}`], { timeoutMs: CALL_TIMEOUT_MS });
  const timed = async (...args: string[]) => {
    const took = await seconds(() => home.ok(args, { timeoutMs: CALL_TIMEOUT_MS }));
    // By every name, since CRI adds one; else content and snapshots stay, and the next load has nothing to do.
    await client.sh(`k3s ctr -n k8s.io images ls >/run/images
      digest=$(awk '$1 == "${LARGE}" {print $3}' /run/images)
      k3s ctr -n k8s.io images rm --sync $(awk -v d="$digest" '$3 == d {print $1}' /run/images)
      if k3s ctr -n k8s.io content ls -q | grep -qx "$digest"; then echo "$digest is left" >&2; exit 1; fi; sync`);
    return took;
  };
  const byHand = await several(
    2,
    () => timed("exec", "--", "sh", "-c", `k3s ctr -n k8s.io images import ${guest} && sync`),
  );
  await client.sh(`rm ${guest}`);
  const ours = await several(2, () => timed("image", "load", archive));
  return {
    name: "image load, 1 GB in 60,000 files, against ctr images import",
    ...{ value: ours[0] / byHand[0], unit: "x", limit: 1.5 },
    note: `${ours[0].toFixed(1)} and ${byHand[0].toFixed(1)} s`,
  };
}
