/**
 * The recipe of the library that makes a guest's memory out of layers (vm/qemu/ramshim), for VMMs of a Linux host.
 * It must not load it: the driver puts it into the VMM's environment.
 *
 * @module
 */
import { join } from "@std/path";
import { type Arch, hostArch, UNAME_MACHINE } from "../base/arch.ts";
import type { HostTool } from "../base/host_tools.ts";
import { run } from "../base/process.ts";
import { sourcePath } from "../base/source.ts";
import { digestTree, type Recipe } from "../store/artifact.ts";

const DIR = sourcePath("vm/qemu/ramshim");
const SOURCES = [
  ...["ramshim.c", "confine.c", "common.c", "layers.c", "save.c", "adopt.c", "trim.c", "serve.c"],
];
const FLAGS = [
  "-O2",
  "-pthread",
  "-Wall",
  "-Wextra",
  "-Werror",
  "-fvisibility=hidden",
  "-shared",
  "-fPIC",
  "-Wl,-soname,ramshim.so",
];

const NATIVE_TOOLS = [
  { program: "cc", debian: "gcc" },
  { program: "stdio.h", debian: "libc6-dev", path: "/usr/include/stdio.h" },
] as const;

/** Of Debian's compilers for another processor. */
function crossTools(arch: Arch): readonly [HostTool, HostTool] {
  const target = `${UNAME_MACHINE[arch]}-linux-gnu`;
  return [
    { program: `${target}-gcc`, debian: `gcc-${target.replace("_", "-")}` },
    {
      program: `stdio.h of ${arch}`,
      debian: `libc6-dev-${arch}-cross`,
      path: `/usr/${target}/include/stdio.h`,
    },
  ];
}

/** Its output `ramshim.so` runs inside the VMM of a host with this processor: this host's by default. */
export async function ramshimRecipe(arch: Arch = hostArch()): Promise<Recipe> {
  const machine = UNAME_MACHINE[arch];
  const [compiler, library] = arch === hostArch() ? NATIVE_TOOLS : crossTools(arch);
  return {
    name: "ramshim",
    label: "guest memory layers",
    inputs: {
      source: await digestTree(DIR),
      flags: FLAGS.join(" "),
      platform: `linux/${machine}`,
    },
    outputs: ["ramshim.so"],
    tools: [
      compiler,
      library,
    ],
    build: async ({ outDir, logPath, signal }) => {
      await run(compiler.program, {
        args: [
          ...FLAGS,
          ...["-o", join(outDir, "ramshim.so")],
          ...SOURCES.map((name) => join(DIR, name)),
        ],
        logPath,
        signal,
      });
      const { stdout } = await run(compiler.program, { args: ["-dumpfullversion"], signal });
      return { compiler: `${compiler.program} ${stdout.trim()}` };
    },
  };
}
