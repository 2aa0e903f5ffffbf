/**
 * The base of the root image: a tar of Debian or Ubuntu packages, made by mmdebstrap.
 * It must not hold anything of ours; root.ts adds that.
 *
 * @module
 */
import { join } from "@std/path";
import { type BuildContext, digestBytes, type Recipe } from "../vm/artifact.ts";
import { run } from "../vm/process.ts";
import { sourcePath } from "../vm/source.ts";
import { TAR_TOOL } from "./images.ts";
import { type GuestArch, sourceDateEpoch, suitePackages, suitePin } from "./lock.ts";

/** Where the packages come from. */
export interface BaseOptions {
  readonly suite: string;
  /** Archive to take packages from; mmdebstrap's own choice for the suite when undefined. */
  readonly mirror?: string;
  readonly arch: GuestArch;
}

/** Paths that dpkg does not unpack; licences stay. */
const PATH_RULES = [
  "path-exclude=/usr/share/man/*",
  "path-exclude=/usr/share/info/*",
  "path-exclude=/usr/share/locale/*",
  "path-exclude=/usr/share/doc/*",
  "path-include=/usr/share/doc/*/copyright",
  "path-exclude=/usr/share/bash-completion/*",
  "path-exclude=/usr/lib/*/gconv/*",
];

/** How mmdebstrap works, apart from the suite. */
const BUILD_OPTIONS = [
  "--variant=essential",
  '--aptopt=APT::Install-Recommends "false"',
  '--aptopt=Acquire::Languages "none"',
  '--aptopt=Acquire::Retries "3"',
  // Otherwise who owns apt's folders depends on whether its own user can reach the place of the build.
  '--aptopt=APT::Sandbox::User "root"',
  // Keys that a package made for this one build.
  '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_*',
];

/** The base: a tar of the suite's packages; the manifest names every package with its version. */
export function rootBaseRecipe(options: BaseOptions): Recipe {
  const pin = suitePin(options.suite);
  const packages = suitePackages(options.suite);
  return {
    name: "root-base",
    label: `root base (${options.suite})`,
    inputs: {
      suite: options.suite,
      mirror: options.mirror ?? "default",
      packages: packages.join(","),
      components: pin.components,
      options: [...BUILD_OPTIONS, ...PATH_RULES].join("\n"),
      epoch: String(sourceDateEpoch),
      arch: options.arch,
    },
    outputs: ["base.tar"],
    tools: [
      { program: "mmdebstrap", debian: "mmdebstrap" },
      { program: "mmtarfilter", debian: "mmdebstrap" },
      { program: "", debian: pin.keyringPackage, path: pin.keyring },
      TAR_TOOL,
    ],
    build: (ctx) => buildBase(options, packages, ctx),
  };
}

async function buildBase(
  options: BaseOptions,
  packages: readonly string[],
  ctx: BuildContext,
): Promise<Record<string, Record<string, string>>> {
  const { suite, mirror, arch } = options;
  const pin = suitePin(suite);
  const tar = join(ctx.outDir, "base.tar");
  const temporary = join(ctx.workDir, "tmp");
  await Deno.remove(temporary, { recursive: true }).catch(() => {});
  await Deno.mkdir(temporary);
  await run("mmdebstrap", {
    args: [
      `--architectures=${arch}`,
      `--components=${pin.components}`,
      `--keyring=${pin.keyring}`,
      `--include=${packages.join(",")}`,
      ...BUILD_OPTIONS,
      ...PATH_RULES.map((rule) => `--dpkgopt=${rule}`),
      suite,
      tar,
      ...(mirror === undefined ? [] : [mirror]),
    ],
    env: { SOURCE_DATE_EPOCH: String(sourceDateEpoch), TMPDIR: temporary, LC_ALL: "C.UTF-8" },
    logPath: ctx.logPath,
    signal: ctx.signal,
    timeoutMs: 30 * 60_000,
    niceness: 10,
    code: "build-failed",
    what: `Cannot install the packages of "${suite}"`,
  });
  const { stdout } = await run("tar", {
    args: ["-xOf", tar, "./var/lib/dpkg/status"],
    signal: ctx.signal,
    timeoutMs: 60_000,
  });
  const lock = await Deno.readTextFile(sourcePath("rootfs/lock.json"));
  return { packages: packageVersions(stdout), lockFiles: { "lock.json": digestBytes(lock) } };
}

/** Package names and versions of a dpkg status file. */
export function packageVersions(status: string): Record<string, string> {
  const versions: Record<string, string> = {};
  for (const paragraph of status.split("\n\n")) {
    const name = /^Package: (.+)$/m.exec(paragraph)?.[1];
    const version = /^Version: (.+)$/m.exec(paragraph)?.[1];
    if (name && version) versions[name] = version;
  }
  return versions;
}
