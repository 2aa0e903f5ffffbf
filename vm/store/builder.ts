/**
 * Who builds: this program's version and commit, the runtime, and the versions of the host's tools, for the manifests.
 * It must not decide whether a build is trusted; it notes what it sees, and what it cannot see is null or left out.
 *
 * @module
 */
import type { HostTool } from "../base/host_tools.ts";
import { run } from "../base/process.ts";
import { packageRecord, sourcePath } from "../base/source.ts";

/** What built an artifact. */
export interface BuilderFacts {
  /** This program's version. */
  readonly gateway: string;
  /** Of this program's sources, `-dirty` when they were changed since; null outside of a checkout. */
  readonly gitCommit: string | null;
  /** Such as "deno 2.9.6". */
  readonly runtime: string;
  /** Such as "linux 6.1.0 x86_64". */
  readonly host: string;
  /** Versions by Debian package, or by program where no package has it. */
  readonly tools: Readonly<Record<string, string>>;
}

const TOOL_TIMEOUT_MS = 10_000;

/** Gathers the facts for a build that uses these tools. */
export async function builderFacts(
  tools: readonly HostTool[],
  signal: AbortSignal,
): Promise<BuilderFacts> {
  const [gateway, gitCommit, versions] = await Promise.all([
    ownVersion(),
    sourceCommit(signal),
    toolVersions(tools, signal),
  ]);
  return {
    gateway,
    gitCommit,
    runtime: `deno ${Deno.version.deno}`,
    host: `${Deno.build.os} ${Deno.osRelease()} ${Deno.build.arch}`,
    tools: versions,
  };
}

/** The version in deno.json. */
export async function ownVersion(): Promise<string> {
  return JSON.parse(await Deno.readTextFile(sourcePath("deno.json"))).version;
}

async function output(program: string, args: string[], signal: AbortSignal): Promise<string> {
  const options = { args, signal, timeoutMs: TOOL_TIMEOUT_MS, check: false };
  try {
    const { code, stdout } = await run(program, options);
    // dpkg-query ends with 1 when one of several packages is unknown, and still tells the others.
    return code === 0 || program === "dpkg-query" ? stdout.trim() : "";
  } catch (error) {
    if (signal.aborted) throw error;
    return "";
  }
}

/** The commit that this program was made from, or of these sources if they are the top of their own checkout. */
export async function sourceCommit(signal: AbortSignal): Promise<string | null> {
  const packaged = await packageRecord();
  if (packaged) return packaged.gitCommit;
  const git = (...args: string[]) => output("git", ["-C", sourcePath("."), ...args], signal);
  const [head = "", prefix] = (await git("rev-parse", "HEAD", "--show-prefix")).split("\n");
  if (!/^[0-9a-f]{40,64}$/.test(head) || prefix) return null;
  return (await git("status", "--porcelain")) === "" ? head : `${head}-dirty`;
}

async function toolVersions(
  tools: readonly HostTool[],
  signal: AbortSignal,
): Promise<Record<string, string>> {
  const versions: Record<string, string> = {};
  const packages = [...new Set(tools.map((tool) => tool.debian))];
  if (packages.length > 0) {
    const format = "${Package} ${Version} ${db:Status-Status}\n";
    for (
      const line of (await output("dpkg-query", ["-W", "-f", format, ...packages], signal))
        .split("\n")
    ) {
      const [name, version, status] = line.split(" ");
      if (name && version && status === "installed") versions[name] = version;
    }
  }
  for (const { program, debian } of tools) {
    if (program === "go") versions.go = await output("go", ["env", "GOVERSION"], signal);
    else if (versions[debian] === undefined && /^[\w.+-]+$/.test(program)) {
      versions[program] = (await output(program, ["--version"], signal)).split("\n")[0]!;
    }
  }
  return Object.fromEntries(
    Object.entries(versions).filter(([, version]) => version).sort(([a], [b]) => a < b ? -1 : 1),
  );
}
