/**
 * Short-lived files in memory: a clone's memory is handed over through a file system that never touches a disk, where the
 * host has one with room. A folder belongs to one process and goes with it.
 * It must not hold anything that has to outlive that process.
 *
 * @module
 */
import { join } from "@std/path";
import { ensurePrivateDir, isPrivateDir } from "./layout.ts";
import { run } from "./process.ts";
import { orphanId, ownedName } from "./process_table.ts";

const SHM = "/dev/shm";
/** What has to stay free there, and in memory. */
const RESERVE_MIB = 1024;

const ourDir = () => join(SHM, `gateway-${Deno.uid() ?? "user"}`);

/** Memory that this host can still give, in MiB; undefined where it does not tell. */
export async function availableMiB(): Promise<number | undefined> {
  const text = await Deno.readTextFile("/proc/meminfo").catch(() => "");
  const match = /^MemAvailable:\s+(\d+) kB/m.exec(text);
  return match ? Math.floor(Number(match[1]) / 1024) : undefined;
}

/** A new private folder in memory with room for a file of that size; undefined where there is none. */
export async function inMemoryDir(id: string, sizeMiB: number): Promise<string | undefined> {
  try {
    const { stdout } = await run("df", {
      args: ["--output=fstype,avail", "-B1M", SHM],
      check: false,
    });
    const [kind, free] = stdout.trim().split("\n").at(-1)!.trim().split(/\s+/);
    const room = Math.min(Number(free), await availableMiB() ?? 0);
    if (kind !== "tmpfs" || !(room > sizeMiB + RESERVE_MIB)) return undefined;
    const dir = join(ourDir(), ownedName("", id));
    await ensurePrivateDir(ourDir());
    await ensurePrivateDir(dir);
    return dir;
  } catch {
    return undefined;
  }
}

/** Removes what processes that are gone have left there. A folder of another user's, or a link, is left alone. */
export async function sweepMemory(dir: string = ourDir()): Promise<void> {
  // Every user may make one of our name.
  if (!await isPrivateDir(dir)) return;
  for await (const { name } of Deno.readDir(dir)) {
    if (orphanId("", name) === undefined) continue;
    await Deno.remove(join(dir, name), { recursive: true }).catch(() => {});
  }
}
