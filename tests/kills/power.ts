/**
 * A data folder on a file system of its own that loses what is not on the disk, and everything that runs with it.
 *
 * @module
 */
import { join } from "@std/path";
import { run } from "../../vm/base/process.ts";
import { waitFor } from "../../vm/base/wait.ts";
import { cutPower } from "../fakes/power.ts";
import type { TestHome } from "../vm/harness.ts";

/** A home's data folder on a disk whose host loses power. */
export interface LostPower extends AsyncDisposable {
  /** Mounts it where the home's instances will be. */
  readonly mount: (home: TestHome) => Promise<void>;
  /** The host goes down, and comes up again. */
  readonly cut: () => Promise<void>;
}

/** Makes the disk in a folder of its own. */
export async function makeLostPower(): Promise<LostPower> {
  const top = await Deno.makeTempDir({ prefix: "gp-" });
  const image = join(top, "disk");
  await run("truncate", { args: ["-s", "4G", image] });
  await run("mkfs.ext4", { args: ["-q", image] });
  let home: TestHome | undefined;
  const place = () => join(home!.home, "data");
  let device = "";
  // A new loop device each time: another mount namespace may still have the file system that was shut down.
  const mount = async () => {
    device = (await run("losetup", { args: ["-f", "--show", image] })).stdout.trim();
    await run("mount", { args: [device, place()] });
  };
  const unmount = async (...options: string[]) => {
    // A process that was killed holds its files until it is gone.
    await waitFor({
      what: "the end of the mount",
      probe: async () => {
        const { code } = await run("umount", { args: [...options, place()], check: false });
        return code === 0 || options.length > 0 || undefined;
      },
      timeoutMs: 20_000,
      intervalMs: 20,
    });
    await run("losetup", { args: ["-d", device], check: false });
  };
  return {
    mount: async (of) => {
      home = of;
      await Deno.mkdir(place(), { recursive: true });
      await mount();
    },
    cut: async () => {
      cutPower(place());
      for (let left = home!.processes(); left.length > 0; left = home!.processes()) {
        for (const line of left) {
          try {
            Deno.kill(parseInt(line), "SIGKILL");
          } catch {
            // It ended with another one.
          }
        }
      }
      await unmount();
      await Deno.remove(join(home!.home, "run"), { recursive: true });
      await mount();
    },
    async [Symbol.asyncDispose]() {
      if (home) await unmount("-l");
      await Deno.remove(top, { recursive: true });
    },
  };
}
