/**
 * Builds one Go program the same way everywhere: static, trimmed, reproducible, with the store's own caches.
 * It must not choose versions; go.mod and go.sum of the module do.
 *
 * @module
 */
import { join } from "@std/path";
import type { Arch } from "../base/arch.ts";
import { GatewayError } from "../base/error.ts";
import { run } from "../base/process.ts";
import type { BuildContext, HostTool } from "./artifact.ts";

/** The host tool every Go recipe lists. */
export const GO_TOOL: HostTool = { program: "go", debian: "golang-go" };

/** The oldest toolchain the modules accept. */
const GO_VERSION_MIN = [1, 26] as const;

/** One `go build`. */
export interface GoBuildOptions {
  /** Folder of go.mod. */
  readonly moduleDir: string;
  /** Package to build, such as "." or an import path that the module requires. */
  readonly pkg: string;
  /** Output file name in ctx.outDir, or an absolute path. */
  readonly output: string;
  readonly tags?: readonly string[];
  /** Added to `-s -w -buildid=`. */
  readonly ldflags?: string;
  /** "amd64" by default. */
  readonly goarch?: Arch;
  /** "linux" by default; gvproxy runs on the host and passes the host's. */
  readonly goos?: "linux" | "darwin";
  /** Go's experiments to turn on or, with "no" in front, off; a toolchain that does not know them builds without. */
  readonly experiments?: readonly string[];
  readonly ctx: BuildContext;
}

/** The environment of every Go command of ours; caches below the store's build cache. */
export function goEnv(cacheDir: string): Record<string, string> {
  return {
    CGO_ENABLED: "0",
    GOFLAGS: "-trimpath -mod=readonly",
    GOTOOLCHAIN: "local",
    GOWORK: "off",
    GOCACHE: join(cacheDir, "go-build"),
    GOMODCACHE: join(cacheDir, "go-mod"),
  };
}

/**
 * Runs `go build`. Interrupted builds resume from Go's own cache.
 *
 * @throws GatewayError `build-failed` with the end of the log; `tool-missing` for a toolchain that is too old.
 */
export async function goBuild(options: GoBuildOptions): Promise<void> {
  const { ctx, moduleDir, pkg } = options;
  await checkGoVersion(ctx);
  const output = options.output.startsWith("/") ? options.output : join(ctx.outDir, options.output);
  const tags = options.tags?.length ? ["-tags", options.tags.join(",")] : [];
  await run("go", {
    args: [
      "build",
      `-p=${ctx.jobs}`,
      ...tags,
      "-ldflags",
      `-s -w -buildid= ${options.ldflags ?? ""}`.trim(),
      "-o",
      output,
      pkg,
    ],
    cwd: moduleDir,
    env: {
      ...goEnv(ctx.cacheDir),
      GOOS: options.goos ?? "linux",
      GOARCH: options.goarch ?? "amd64",
      GOAMD64: "v1",
      GOEXPERIMENT: await knownExperiments(options),
    },
    logPath: ctx.logPath,
    signal: ctx.signal,
    timeoutMs: 80 * 60_000,
    niceness: 10,
    code: "build-failed",
    what: `Cannot build the Go program ${pkg} of ${moduleDir}`,
  });
}

/** What GOEXPERIMENT has to be; empty, too, so that the caller's own does not count. */
async function knownExperiments(
  { experiments = [], ctx, pkg }: GoBuildOptions,
): Promise<string> {
  const wanted = experiments.join(",");
  if (wanted === "") return "";
  const { code } = await askGo("GOEXPERIMENT", ctx, {
    env: { GOEXPERIMENT: wanted },
    check: false,
  });
  if (code === 0) return wanted;
  ctx.span.log(`this Go does not know the experiment ${wanted}: ${pkg} is built without`);
  return "";
}

/** One of Go's settings. */
function askGo(
  name: string,
  ctx: BuildContext,
  over: { readonly env?: Readonly<Record<string, string>>; readonly check?: boolean } = {},
) {
  return run("go", {
    args: ["env", name],
    env: { ...goEnv(ctx.cacheDir), ...over.env },
    signal: ctx.signal,
    timeoutMs: 30_000,
    check: over.check,
  });
}

async function checkGoVersion(ctx: BuildContext): Promise<void> {
  const { stdout } = await askGo("GOVERSION", ctx);
  const match = /^go(\d+)\.(\d+)/.exec(stdout.trim());
  const [major, minor] = match ? [Number(match[1]), Number(match[2])] : [0, 0];
  if (major > GO_VERSION_MIN[0] || (major === GO_VERSION_MIN[0] && minor >= GO_VERSION_MIN[1])) {
    return;
  }
  throw new GatewayError({
    code: "tool-missing",
    what: "Cannot build with this Go toolchain",
    why: `it is ${stdout.trim()} and ${GO_VERSION_MIN.join(".")} or later is needed`,
    fix: "install a newer Go and put it first on PATH",
  });
}
