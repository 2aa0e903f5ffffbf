import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { run } from "../../vm/base/process.ts";
import { digestFile } from "../../vm/store/artifact.ts";
import { type GuestRoot, guestTest, stage } from "./harness.ts";

const OPEN = `begin state; job_state=$!\n${stage("30-state")}`;

guestTest("state stage makes the file system once when the disk is empty", async (root) => {
  await root.addDisk("vdb", "state", { sizeMiB: 64 });
  const first = await root.run(
    OPEN + "echo kept >/var/lib/rancher/kept; umount /etc; echo $state_how",
  );
  assertEquals(first.code, 0, first.stdout + first.stderr);
  assertStringIncludes(first.stdout, "how=new");
  const second = await root.run(
    OPEN + "cat /var/lib/rancher/kept; ls -ld /state/root; echo $state_how",
  );
  assertEquals(second.code, 0, second.stdout + second.stderr);
  assertStringIncludes(second.stdout, "kept");
  assertStringIncludes(second.stdout, "drwx------");
  assertMatch(second.marks.join("\n"), /^\d+\.\d\d state how=(clean|unclean) ready=/m);
});

async function refuses(root: GuestRoot, disk: string, words: string): Promise<void> {
  const before = await digestFile(disk);
  const result = await root.run(OPEN);
  assertEquals(result.code, 42, result.stdout + result.stderr);
  assertEquals(result.marks.length, 1);
  assertMatch(result.marks[0]!, /^! state: /);
  assertStringIncludes(result.marks[0]!, words);
  assertEquals(await digestFile(disk), before, "the disk was written to");
}

guestTest("state stage leaves an ext4 disk with another label alone", async (root) => {
  const disk = await root.addDisk("vdb", "state", { sizeMiB: 64 });
  await run("mkfs.ext4", { args: ["-q", "-F", "-L", "photos", disk] });
  await refuses(root, disk, "neither empty nor ours");
});

guestTest("state stage leaves a disk alone that has one byte at its end", async (root) => {
  const disk = await root.addDisk("vdb", "state", { sizeMiB: 64 });
  using file = await Deno.open(disk, { write: true });
  await file.seek(-600, Deno.SeekMode.End);
  await file.write(new Uint8Array([1]));
  await refuses(root, disk, "neither empty nor ours");
});

guestTest("state stage leaves a disk alone that has a partition table", async (root) => {
  const disk = await root.addDisk("vdb", "state", { sizeMiB: 64 });
  using file = await Deno.open(disk, { write: true });
  await file.seek(510, Deno.SeekMode.Start);
  await file.write(new Uint8Array([0x55, 0xaa]));
  await refuses(root, disk, "neither empty nor ours");
});

guestTest("state stage fails when there is no disk with its serial", async (root) => {
  await root.addDisk("vdb", "other", { sizeMiB: 8 });
  const result = await root.run(OPEN);
  assertEquals(result.code, 42);
  assertStringIncludes(
    result.marks[0]!,
    '! state: the machine has no disk with the serial "state"',
  );
});

guestTest("state stage checks the disk only when it was not unmounted", async (root) => {
  const disk = await root.addDisk("vdb", "state", { sizeMiB: 64 });
  await run("mkfs.ext4", { args: ["-q", "-F", "-L", "gateway-state", disk] });
  const clean = await root.run(
    OPEN + "ls /run/gateway; umount /etc /root /var/log /var/lib/kubelet " +
      "/var/lib/rancher /var/lib/cni /state",
  );
  assertStringIncludes(clean.marks[0]!, "how=clean", clean.stdout + clean.stderr);
  assert(!clean.stdout.includes("fsck.log"), clean.stdout);
  await run("debugfs", { args: ["-w", "-R", "set_super_value state 0", disk] });
  const unclean = await root.run(OPEN + "ls /run/gateway");
  assertStringIncludes(unclean.marks[0]!, "how=unclean");
  assertMatch(unclean.stdout, /fsck\.log[\s\S]*unclean/);
});

guestTest("state stage fails when the damage needs a person", async (root) => {
  const disk = await root.addDisk("vdb", "state", { sizeMiB: 64 });
  await run("mkfs.ext4", { args: ["-q", "-F", "-L", "gateway-state", disk] });
  await run("debugfs", { args: ["-w", "-R", "clri <2>", disk] });
  await run("debugfs", { args: ["-w", "-R", "set_super_value state 0", disk] });
  const result = await root.run(OPEN);
  assertEquals(result.code, 42, result.stdout + result.stderr);
  assertMatch(result.marks[0]!, /^! state: e2fsck found damage .* \(exit code [4-9]\d*\)/);
});
