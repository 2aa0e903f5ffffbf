/**
 * Runs the guest's scripts on the host: busybox ash in namespaces of its own, on a root made of the host's
 * programs (read-only) and folders that stand for the guest's. It needs root; it must not need a VM.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { silentSpan } from "../../vm/base/event.ts";
import { ensureTools, type HostTool } from "../../vm/base/host_tools.ts";
import { run, type RunResult, which } from "../../vm/base/process.ts";

/** What the tests need on the host. */
export const TOOLS: readonly HostTool[] = [
  { program: "busybox", debian: "busybox-static" },
  { program: "unshare", debian: "util-linux" },
  { program: "mkfs.ext4", debian: "e2fsprogs" },
  { program: "cmp", debian: "diffutils" },
];

/** Folder of the scripts under test. */
export const GUEST_DIR: string = fromFileUrl(new URL("../../rootfs/guest", import.meta.url));

/** The reason why namespaces cannot be used here, printed by the skipped tests; undefined when they can. */
export const skipReason: string | undefined = Deno.uid() === 0
  ? undefined
  : "guest tests need root (namespaces, loop devices)";

/** How one script ended. */
export interface GuestRun extends RunResult {
  /** What say() was given, one line each. */
  readonly marks: readonly string[];
}

/** A guest's root folder; disposing removes it. */
export class GuestRoot implements AsyncDisposable {
  /** Path on the host. */
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** An empty guest with the folders that the root image has. */
  static async create(): Promise<GuestRoot> {
    await ensureTools(TOOLS, {
      span: silentSpan(),
      signal: AbortSignal.timeout(600_000),
      assumeYes: true,
    });
    const root = new GuestRoot(await Deno.makeTempDir({ prefix: "gateway-guest-" }));
    for (
      const folder of [
        "bin sbin lib lib64 usr gw dev proc sys etc root tmp state out run/gateway run/payload run/etc",
        "run/cni run/netns var/log var/lib/rancher var/lib/kubelet var/lib/cni sys/block sys/fs/cgroup",
      ].join(" ").split(" ")
    ) await Deno.mkdir(join(root.path, folder), { recursive: true });
    return root;
  }

  /** Writes a file of the guest, with its folders. */
  async write(path: string, content: string | Uint8Array): Promise<void> {
    const full = join(this.path, path);
    await Deno.mkdir(join(full, ".."), { recursive: true });
    await Deno.writeFile(
      full,
      typeof content === "string" ? new TextEncoder().encode(content) : content,
    );
  }

  /** Reads a file of the guest that is not on a disk of its own. */
  async read(path: string): Promise<string> {
    return await Deno.readTextFile(join(this.path, path));
  }

  /** Adds a disk as a plain file; mounting it takes a loop device. */
  async addDisk(device: string, serial: string, content: { sizeMiB: number } | { file: string }) {
    const path = join(this.path, "disks", device);
    await Deno.mkdir(join(this.path, "disks"), { recursive: true });
    if ("file" in content) await Deno.copyFile(content.file, path);
    else {
      await Deno.writeFile(path, new Uint8Array());
      await Deno.truncate(path, content.sizeMiB * 1024 * 1024);
    }
    const { size } = await Deno.stat(path);
    await this.write(`sys/block/${device}/serial`, serial);
    await this.write(`sys/block/${device}/size`, `${size / 512}\n`);
    return path;
  }

  /**
   * Sources lib.sh and runs the script in the guest's root. reboot and poweroff only end the shell, and say()
   * keeps its lines.
   */
  async run(script: string, o: { proc?: "real" | "fake" } = {}): Promise<GuestRun> {
    await Deno.remove(join(this.path, "out/marks")).catch(() => {});
    await this.write("out/marks", "");
    await this.write("out/script", PREAMBLE + script);
    const mountProc = o.proc === "fake" ? ":" : `mount -t proc proc "$T/proc"`;
    const result = await run("unshare", {
      args: [
        "--mount",
        "--pid",
        "--fork",
        "--net",
        "--uts",
        "--propagation",
        "private",
        "sh",
        "-c",
        `
        set -eu
        for d in bin sbin lib lib64 usr; do
          [ ! -e "/$d" ] || mount --rbind -o ro "/$d" "$T/$d"
        done
        mount --bind -o ro "$G" "$T/gw"
        ${mountProc}
        mount -t tmpfs tmpfs "$T/dev"
        for d in null zero full random urandom loop-control; do
          : >"$T/dev/$d"; mount --bind "/dev/$d" "$T/dev/$d"
        done
        for d in /dev/loop[0-9]*; do : >"$T$d"; mount --bind "$d" "$T$d"; done
        for d in "$T"/disks/*; do
          [ ! -e "$d" ] || { : >"$T/dev/\${d##*/}"; mount --bind "$d" "$T/dev/\${d##*/}"; }
        done
        exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root chroot "$T" \\
          "$B" ash /out/script`,
      ],
      env: { T: this.path, G: GUEST_DIR, B: which("busybox") ?? "busybox" },
      check: false,
      timeoutMs: 60_000,
    });
    const marks = (await this.read("out/marks")).split("\n").filter((line) => line !== "");
    return { ...result, marks };
  }

  /** Removes the folder; its mounts went with their namespace. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true }).catch(() => {});
  }
}

const PREAMBLE = `set -eu
lib=/gw
stage=test
. "$lib/lib.sh"
say() { echo "$1" >>/out/marks; }
warn() { echo "warn: $1"; }
reboot() { echo halted; exit 42; }
poweroff() { reboot; }
sync() { :; }
`;

/** A stage, sourced as gateway-init does it. */
export function stage(name: string): string {
  return `stage=${name.slice(3)}; . "$lib/stages/${name}"\n`;
}

/** Registers a test that is skipped, with the reason in its name, where namespaces cannot be used. */
export function guestTest(name: string, fn: (root: GuestRoot) => Promise<void>): void {
  Deno.test({
    name: skipReason === undefined ? name : `${name} (skipped: ${skipReason})`,
    ignore: skipReason !== undefined,
    fn: async () => {
      await using root = await GuestRoot.create();
      await fn(root);
    },
  });
}
