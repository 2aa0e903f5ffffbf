/**
 * This room builds the kernel: its configuration with a reason for each option, its source, and libkrunfw's bundle of
 * it. Who boots the kernel is not known here. Read fragment.ts next, then krunfw.ts.
 *
 * The kernel as an artifact: Debian's source, our fragment and patches, one reproducible build that resumes after a kill.
 * It must not know who boots the kernel, nor build modules: everything the guest needs is built in.
 *
 * @module
 */
import { join } from "@std/path";
import type { Arch } from "../vm/base/arch.ts";
import { GatewayError } from "../vm/base/error.ts";
import type { JsonValue, Span } from "../vm/base/event.ts";
import { run } from "../vm/base/process.ts";
import { sourcePath } from "../vm/base/source.ts";
import {
  type Artifact,
  type BuildContext,
  digestBytes,
  type HostTool,
  type Recipe,
} from "../vm/store/artifact.ts";
import {
  definesOption,
  describeMismatch,
  findMismatches,
  joinFragments,
  type KernelOption,
  type OptionMismatch,
  parseConfig,
  parseFragment,
  toKconfig,
  unmetDependencies,
} from "./fragment.ts";
import { type KernelLock, parseKernelLock } from "./lock.ts";
import { ensureSourcePackage, ensureSourceTree } from "./source.ts";

/** The largest bzImage we ship, in bytes (7.5 MiB). */
export const PACKED_SIZE_MAX_BYTES = 7.5 * 1024 * 1024;
/** The largest arm64 Image, which is not packed. */
const IMAGE_SIZE_MAX_BYTES = 24 * 1024 * 1024;

// Compiled files of one build, for the progress view only: a wrong number makes a wrong bar, nothing else.
const EXPECTED_OBJECTS = 1700;

// Symbols are a third of the file and no VMM reads them; the PVH entry is a note and stays.
const STRIP = ["--strip-all"];

interface KernelTarget {
  /** kbuild's name of the architecture. */
  readonly arch: string;
  /** What make is asked for beside vmlinux. */
  readonly packed: string;
  /** Where kbuild leaves it. */
  readonly packedPath: string;
  /** The most bytes it may have. */
  readonly packedMaxBytes: number;
  /** Fragment files, general ones first. */
  readonly fragments: readonly string[];
  /** Patch files on top of Debian's source; each begins with its reason. */
  readonly patches: readonly string[];
  /** Of the artifact. */
  readonly name: string;
  /** The compiler, where it is not the host's own. */
  readonly tools: readonly HostTool[];
}

const TARGETS: Readonly<Record<Arch, KernelTarget>> = {
  amd64: {
    arch: "x86_64",
    packed: "bzImage",
    packedPath: "arch/x86/boot/bzImage",
    packedMaxBytes: PACKED_SIZE_MAX_BYTES,
    fragments: ["common.config", "network.config", "x86_64.config"],
    patches: ["lapic_khz.patch"],
    name: "kernel",
    tools: [{ program: "gcc", debian: "gcc" }, { program: "ld", debian: "binutils" }],
  },
  arm64: {
    arch: "arm64",
    packed: "Image",
    packedPath: "arch/arm64/boot/Image",
    packedMaxBytes: IMAGE_SIZE_MAX_BYTES,
    fragments: ["common.config", "network.config", "arm64.config"],
    patches: [],
    name: "kernel-arm64",
    // kbuild compiles programs of its own for the host.
    tools: [
      { program: "gcc", debian: "gcc" },
      { program: "aarch64-linux-gnu-gcc", debian: "gcc-aarch64-linux-gnu" },
      { program: "aarch64-linux-gnu-ld", debian: "binutils-aarch64-linux-gnu" },
    ],
  },
};

const TOOLS: readonly HostTool[] = [
  { program: "make", debian: "make" },
  { program: "libc headers", debian: "libc6-dev", path: "/usr/include/stdlib.h" },
  { program: "libelf headers", debian: "libelf-dev", path: "/usr/include/gelf.h" },
  { program: "flex", debian: "flex" },
  { program: "bison", debian: "bison" },
  { program: "bc", debian: "bc" },
  { program: "perl", debian: "perl" },
  { program: "xz", debian: "xz-utils" },
  { program: "zstd", debian: "zstd" },
  { program: "tar", debian: "tar" },
  { program: "patch", debian: "patch" },
  { program: "dpkg-deb", debian: "dpkg" },
  { program: "apt-get", debian: "apt" },
];

/** The options of an architecture's kernel, from the fragment files of this folder. */
export async function kernelOptions(arch: Arch): Promise<KernelOption[]> {
  return joinFragments(
    await Promise.all(
      TARGETS[arch].fragments.map(async (name) =>
        parseFragment(await readHere(`fragment/${name}`), name)
      ),
    ),
  );
}

/**
 * The recipe of the kernel: `vmlinux` (stripped ELF, on x86_64 with the PVH entry), `bzImage` or `Image`, and `config`.
 *
 * @throws GatewayError `build-failed` when the lock or a fragment cannot be read.
 */
export async function kernelRecipe(arch: Arch): Promise<Recipe> {
  const target = TARGETS[arch];
  const lock = parseKernelLock(await readHere("lock.json"));
  const options = await kernelOptions(arch);
  const patches = await Promise.all(target.patches.map((name) => readHere(`patches/${name}`)));
  const { source, toolchain, buildTimestamp } = lock;
  return {
    name: target.name,
    label: `Linux ${source.version.split("-")[0]} kernel${arch === "amd64" ? "" : ` for ${arch}`}`,
    inputs: {
      arch: target.arch,
      // A changed reason is no reason to build again, so the options count and not the files.
      options: digestBytes(toKconfig(options)),
      source: `${source.package} ${source.version}`,
      sourceSha256: source.sha256,
      ...(patches.length > 0 ? { patches: digestBytes(patches.join("\0")) } : {}),
      compiler: toolchain[target.arch]?.compiler ?? "gcc",
      buildTimestamp,
      steps: digestBytes([...makeArgs(target, lock, "SOURCE", 0), ...STRIP].join(" ")),
    },
    outputs: ["vmlinux", target.packed, "config"],
    tools: [...target.tools, ...TOOLS],
    build: (ctx) => buildKernel(ctx, arch, lock, options, patches),
  };
}

/** The file that a VMM boots: the ELF file of an amd64 kernel, the raw Image of an arm64 one. */
export function kernelFile({ files }: Pick<Artifact, "files">): Artifact["files"][string] {
  return files.Image ?? files.vmlinux!;
}

/** Before anything is downloaded. @throws GatewayError `host-unsupported`. */
export function checkBuildPath(path: string): void {
  if (!/[\s:]/.test(path)) return;
  throw new GatewayError({
    code: "host-unsupported",
    what: `Cannot build the kernel in "${path}"`,
    why: "Linux's makefiles take no space and no colon in the path of their source",
    fix: "set XDG_CACHE_HOME to a folder without them, such as /var/tmp/cache",
  });
}

async function buildKernel(
  ctx: BuildContext,
  arch: Arch,
  lock: KernelLock,
  options: readonly KernelOption[],
  patches: readonly string[],
): Promise<Record<string, JsonValue>> {
  const { span } = ctx;
  const target = TARGETS[arch];
  checkBuildPath(ctx.workDir);
  const source = await span.run("kernel source", () => ensureSourcePackage(lock.source, ctx));
  const tree = await span.run(
    "unpack",
    (inner) => ensureSourceTree(source, lock.source.archive, patches, ctx, inner),
  );
  const make = (args: readonly string[], onOutput?: (text: string) => void) =>
    run("make", {
      args: [...makeArgs(target, lock, tree, ctx.jobs), ...args],
      cwd: tree,
      // Nothing of the user's environment (ARCH, KCFLAGS, MAKEFLAGS, locale) may reach the bytes.
      clearEnv: true,
      env: { PATH: Deno.env.get("PATH") ?? "/usr/bin:/bin", HOME: ctx.workDir, LC_ALL: "C" },
      logPath: ctx.logPath,
      onOutput,
      signal: ctx.signal,
      timeoutMs: 90 * 60_000,
      niceness: 10,
      code: "build-failed",
      what: `Cannot compile the kernel`,
    });
  await span.run("configure", () => configure(tree, options, make));
  await span.run("compile", (inner) => compile(tree, target, make, inner));
  const facts = await span.run("pack", () => pack(ctx, target, tree, lock));
  if (Number(facts.packedBytes) > target.packedMaxBytes) {
    span.warn(`${target.packed} has ${facts.packedBytes} bytes, over ${target.packedMaxBytes}`);
  }
  return {
    ...facts,
    sourcePackage: lock.source.package,
    sourceVersion: source.version,
    sourceSha256: source.sha256,
    sourcePinned: source.pinned,
    lockFiles: await lockFiles(target),
  };
}

/** Digests of the lock file, of the fragment's files, reasons included, and of the patches. */
async function lockFiles(target: KernelTarget): Promise<Record<string, string>> {
  const names = [
    "lock.json",
    ...target.fragments.map((name) => `fragment/${name}`),
    ...target.patches.map((name) => `patches/${name}`),
  ];
  const digests = names.map(async (name) => [name, digestBytes(await readHere(name))] as const);
  return Object.fromEntries(await Promise.all(digests));
}

/** Arguments of every make call; what is fixed here is what makes two builds equal byte for byte. */
function makeArgs(
  target: KernelTarget,
  lock: KernelLock,
  tree: string,
  jobs: number,
): string[] {
  const { compiler, crossPrefix } = lock.toolchain[target.arch] ??
    { compiler: "gcc", crossPrefix: "" };
  return [
    `-j${jobs}`,
    `ARCH=${target.arch}`,
    `CROSS_COMPILE=${crossPrefix}`,
    `CC=${crossPrefix}${compiler}`,
    `KBUILD_BUILD_TIMESTAMP=${lock.buildTimestamp}`,
    "KBUILD_BUILD_USER=gateway",
    "KBUILD_BUILD_HOST=gateway",
    "KBUILD_BUILD_VERSION=1",
    // Kconfig notes the versions of tools it finds, and these two are not used: they must not be found.
    "RUSTC=false",
    "PAHOLE=false",
    `KCFLAGS=-ffile-prefix-map=${tree}=.`,
    `KAFLAGS=-ffile-prefix-map=${tree}=.`,
  ];
}

type Make = (args: readonly string[], onOutput?: (text: string) => void) => Promise<unknown>;

async function configure(
  tree: string,
  options: readonly KernelOption[],
  make: Make,
): Promise<void> {
  const asked = join(tree, ".config.asked");
  await Deno.writeTextFile(asked, toKconfig(options));
  await make([`KCONFIG_ALLCONFIG=${asked}`, "allnoconfig"]);
  const config = parseConfig(await Deno.readTextFile(join(tree, ".config")));
  const mismatches = findMismatches(options, config);
  if (mismatches.length > 0) throw await optionsError(tree, mismatches, config);
}

async function optionsError(
  tree: string,
  mismatches: readonly OptionMismatch[],
  config: ReadonlyMap<string, string>,
): Promise<GatewayError> {
  const symbols = mismatches.map(({ option }) => option.name.replace(/^CONFIG_/, ""));
  const { stdout } = await run("grep", {
    args: ["-rlE", "--include=Kconfig*", `^(menu)?config (${symbols.join("|")})$`, "."],
    cwd: tree,
    timeoutMs: 60_000,
    check: false,
  });
  const texts = await Promise.all(
    stdout.split("\n").filter((name) => name !== "")
      .map((name) => Deno.readTextFile(join(tree, name))),
  );
  const lines = mismatches.map((mismatch) => {
    const { name } = mismatch.option;
    const home = texts.filter((text) => definesOption(text, name));
    const unmet = home.flatMap((text) => unmetDependencies(text, name, config));
    return home.length === 0
      ? `${name} is unknown to this kernel`
      : describeMismatch(mismatch, [...new Set(unmet)]);
  });
  return new GatewayError({
    code: "build-failed",
    what: "Cannot configure the kernel as its fragment asks",
    why: lines.join("; "),
    fix: "add what is missing to, or take the option out of, kernel/fragment/*.config",
  });
}

async function compile(
  tree: string,
  target: KernelTarget,
  make: Make,
  span: Span,
): Promise<void> {
  let done = await countObjects(tree);
  span.progress(Math.min(done, EXPECTED_OBJECTS), EXPECTED_OBJECTS, "files");
  await make(["vmlinux", target.packed], (text) => {
    const more = countCompiled(text);
    if (more === 0) return;
    done += more;
    span.progress(Math.min(done, EXPECTED_OBJECTS), EXPECTED_OBJECTS, "files");
  });
  span.progress(EXPECTED_OBJECTS, EXPECTED_OBJECTS, "files");
}

/** How many files a piece of make's output says it compiles. */
export function countCompiled(text: string): number {
  return text.match(/^ {2}(CC|AS) {6}/gm)?.length ?? 0;
}

/** Objects an earlier, interrupted try left. */
async function countObjects(tree: string): Promise<number> {
  const { stdout } = await run("find", {
    args: [".", "-name", "*.o", "-not", "-name", "built-in.o", "-printf", "x"],
    cwd: tree,
    timeoutMs: 120_000,
  });
  return stdout.length;
}

async function pack(
  ctx: BuildContext,
  target: KernelTarget,
  tree: string,
  lock: KernelLock,
): Promise<Record<string, JsonValue>> {
  const prefix = lock.toolchain[target.arch]?.crossPrefix ?? "";
  const vmlinux = join(ctx.outDir, "vmlinux");
  await run(`${prefix}strip`, {
    args: [...STRIP, "-o", vmlinux, join(tree, "vmlinux")],
    signal: ctx.signal,
    timeoutMs: 60_000,
    code: "build-failed",
    what: "Cannot strip the kernel",
  });
  const packed = join(ctx.outDir, target.packed);
  await Deno.copyFile(join(tree, target.packedPath), packed);
  await Deno.copyFile(join(tree, ".config"), join(ctx.outDir, "config"));
  const release = await Deno.readTextFile(join(tree, "include/config/kernel.release"));
  return {
    kernelRelease: release.trim(),
    compiler: await firstLine(`${prefix}gcc`, ctx.signal),
    linker: await firstLine(`${prefix}ld`, ctx.signal),
    packedBytes: (await Deno.stat(packed)).size,
    vmlinuxBytes: (await Deno.stat(vmlinux)).size,
  };
}

async function firstLine(program: string, signal: AbortSignal): Promise<string> {
  const { stdout } = await run(program, { args: ["--version"], signal, timeoutMs: 10_000 });
  return stdout.split("\n")[0]!;
}

function readHere(name: string): Promise<string> {
  return Deno.readTextFile(sourcePath(`kernel/${name}`));
}
