/**
 * The Debian package: the one file with its manual page and completions, and what it depends on.
 * It must not hold scripts of a maintainer: nothing has to be done at installation or removal.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { gzipSync } from "node:zlib";
import type { Arch } from "../../vm/base/arch.ts";
import { run } from "../../vm/base/process.ts";
import { sourcePath } from "../../vm/base/source.ts";
import { qemuTool } from "../../vm/qemu/driver.ts";
import { ownVersion } from "../../vm/store/builder.ts";

/** Not everybody builds: what a build needs is named by the program itself. */
const depends = (arch: Arch) =>
  ["libc6 (>= 2.27)", qemuTool(arch).debian, "openssh-client"].join(", ");

/** Fixed, so that equal content gives an equal package. */
const TIME = "1795478400";

/** Makes the package of a file that {@linkcode compile} made for Linux on a processor, beside it, and returns its path. */
export async function makeDeb(file: string, arch: Arch, signal: AbortSignal): Promise<string> {
  const path = join(dirname(file), `gateway_${await ownVersion()}_${arch}.deb`);
  const root = await Deno.makeTempDir({ dir: dirname(file), prefix: ".deb-" });
  try {
    await Deno.chmod(root, 0o755);
    const bytes = await writeTree(root, file, signal);
    await put(root, "DEBIAN/control", await control(arch, bytes));
    await run("dpkg-deb", {
      args: ["--root-owner-group", "-Zzstd", "-z10", "--build", root, path],
      env: { SOURCE_DATE_EPOCH: TIME },
      signal,
      timeoutMs: 10 * 60_000,
      what: "Cannot make the Debian package",
      fix: "run it on Debian 12 or later, or a system that has its dpkg-deb",
    });
    return path;
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

/** Lays out what is installed; returns how many bytes it has. */
async function writeTree(root: string, file: string, signal: AbortSignal): Promise<number> {
  // Not the file itself, which may be for another processor.
  const say = async (...words: string[]) => {
    const args = ["run", "-A", "--no-check", sourcePath("cli.ts"), ...words];
    const options = { args, cwd: sourcePath("."), env: { NO_COLOR: "1" } };
    const { stdout } = await run(Deno.execPath(), { ...options, signal, timeoutMs: 60_000 });
    return stdout;
  };
  const share = "usr/share";
  const changelog = await Deno.readTextFile(sourcePath("CHANGELOG.md"));
  const files: readonly (readonly [string, string | Uint8Array])[] = [
    [`${share}/man/man1/gateway.1.gz`, packed(await say("man"))],
    [`${share}/bash-completion/completions/gateway`, await say("completions", "bash")],
    [`${share}/zsh/vendor-completions/_gateway`, await say("completions", "zsh")],
    [`${share}/fish/vendor_completions.d/gateway.fish`, await say("completions", "fish")],
    [`${share}/doc/gateway/changelog.gz`, packed(changelog)],
    [`${share}/doc/gateway/copyright`, await Deno.readTextFile(sourcePath("LICENSE"))],
  ];
  for (const [name, data] of files) await put(root, name, data);
  const program = join(root, "usr/bin/gateway");
  await Deno.mkdir(dirname(program), { recursive: true, mode: 0o755 });
  await Deno.copyFile(file, program);
  await Deno.chmod(program, 0o755);
  const { size } = await Deno.stat(program);
  return files.reduce((sum, [, data]) => sum + data.length, size);
}

/** As gzip -n: without name and time. */
function packed(text: string): Uint8Array {
  return gzipSync(new TextEncoder().encode(text), { level: 9 });
}

async function put(root: string, name: string, data: string | Uint8Array): Promise<void> {
  const path = join(root, name);
  await Deno.mkdir(dirname(path), { recursive: true, mode: 0o755 });
  await Deno.writeFile(path, typeof data === "string" ? new TextEncoder().encode(data) : data);
  await Deno.chmod(path, 0o644);
}

async function control(arch: Arch, bytes: number): Promise<string> {
  return [
    "Package: gateway",
    `Version: ${await ownVersion()}`,
    `Architecture: ${arch}`,
    "Maintainer: gateway maintainers <gateway@localhost>",
    `Installed-Size: ${Math.ceil(bytes / 1024)}`,
    `Depends: ${depends(arch)}`,
    "Suggests: bash-completion",
    "Section: admin",
    "Priority: optional",
    "Description: whole Kubernetes cluster in one microVM",
    " One command boots a Kubernetes cluster inside a microVM and hands out a",
    " mutual-TLS endpoint on 127.0.0.1. No container engine is needed.",
    "",
  ].join("\n");
}
