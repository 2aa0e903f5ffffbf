/**
 * How long a large image takes into a guest, against containerd's own import of the same file there.
 *
 * @module
 */
import { join } from "@std/path";
import { writeLargeImage } from "../fakes/large_image.ts";
import { Client } from "../vm/client.ts";
import { freePort, TestHome } from "../vm/harness.ts";
import { type Row, seconds, several } from "./row.ts";

const CALL_TIMEOUT_MS = 20 * 60_000;
const LARGE = "bench.test/large:1";

/** The same file by both ways in one guest, each time into a store that has nothing of it. */
export async function imageLoadRows(): Promise<Row[]> {
  await using home = await TestHome.make();
  const up = ["up", "--detach", "--port", `${freePort()}:30051`, "--memory", "3072", "--cpus", "2"];
  await home.ok(up, { timeoutMs: CALL_TIMEOUT_MS });
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
  return [{
    name: "image load, 1 GB in 60,000 files, against ctr images import",
    ...{ value: ours[0]! / byHand[0]!, unit: "x", limit: 1.5 },
    note: `${ours[0]!.toFixed(1)} and ${byHand[0]!.toFixed(1)} s`,
  }];
}
