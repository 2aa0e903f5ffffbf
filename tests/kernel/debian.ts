/**
 * Debian's newest cloud kernel of our series, taken out of its package: to compare ours with, and to nest machines in,
 * since it can be a KVM host.
 * It must not install anything.
 *
 * @module
 */
import { join } from "@std/path";
import { run } from "../../vm/base/process.ts";

/** A kernel of Debian's. */
export interface DebianKernel {
  /** Such as "6.12.117+deb12-cloud-amd64". */
  readonly version: string;
  /** The bzImage. */
  readonly path: string;
  /** The folder of its modules, packed with xz. */
  readonly modulesDir: string;
}

/** Downloads and unpacks it into a folder. */
export async function debianKernel(dir: string): Promise<DebianKernel> {
  const { stdout } = await run("apt-cache", { args: ["pkgnames", "linux-image-6.12"] });
  const names = stdout.split("\n").filter((name) => /\d(\+deb\d+)?-cloud-amd64$/.test(name));
  const newest = names.sort(new Intl.Collator("en", { numeric: true }).compare).at(-1);
  if (newest === undefined) throw new Error("apt serves no cloud kernel of 6.12");
  const args = ["-o", "APT::Sandbox::User=", "download", newest];
  await run("apt-get", { args, cwd: dir, timeoutMs: 300_000 });
  const deb = [...Deno.readDirSync(dir)].find(({ name }) => name.endsWith(".deb"))!;
  const root = join(dir, "root");
  await run("dpkg-deb", { args: ["-x", join(dir, deb.name), root] });
  const version = newest.replace("linux-image-", "");
  const modules = [join(root, "lib/modules", version), join(root, "usr/lib/modules", version)];
  const modulesDir = modules.find((path) => {
    try {
      return Deno.statSync(path).isDirectory;
    } catch {
      return false;
    }
  })!;
  return { version, path: join(root, "boot", `vmlinuz-${version}`), modulesDir };
}
