/**
 * A fork to `b` that is killed after the clone's files are there and before it is an instance. The source's folder is the
 * argument.
 *
 * @module
 */
import { join } from "@std/path";
import { placeState } from "../../bootstrap/saved/golden.ts";
import { PLAIN_DISK } from "../../vm/instance/disk_chain.ts";
import { LockedInstance } from "../../vm/instance/instance.ts";
import { describeFile, type SavedState } from "../../vm/instance/saved_state.ts";
import { instanceConfig } from "./instance_config.ts";

const dir = Deno.args[0]!;
for (const name of ["state.img", "ram-1.layer", "dev-1.bin"]) {
  await Deno.writeTextFile(join(dir, name), "the source's");
}
const state: SavedState = {
  ...{ schemaVersion: 2, key: "k", disk: PLAIN_DISK, savedAt: "2026-01-01T00:00:00Z" },
  devices: await describeFile(dir, "dev-1.bin"),
  ram: [await describeFile(dir, "ram-1.layer")],
  ...{
    payload: null,
    certificates: null,
    clusterEnds: null,
    sshPort: null,
    apiPort: null,
    from: null,
  },
};
await using clone = await LockedInstance.open("b");
const from = { name: "a", pkiDir: dir, k3sYaml: null };
const signal = new AbortController().signal;
await placeState(clone.paths, instanceConfig({ name: "b" }), { dir, state, from }, signal);
Deno.kill(Deno.pid, "SIGKILL");
