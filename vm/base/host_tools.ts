/**
 * Programs of the host that builds and VMMs need: found, installed when the user agreed, else named in one error.
 * It must not run at boot time for anything that is already built.
 *
 * @module
 */
import { GatewayError } from "./error.ts";
import type { Span } from "./event.ts";
import { run, which } from "./process.ts";

/** A host program (or file) and the Debian package that brings it. */
export interface HostTool {
  /** Name on PATH, or the name to show when `path` is given. */
  readonly program: string;
  /** Debian's package name. */
  readonly debian: string;
  /** Homebrew's formula, for what a Mac needs. */
  readonly brew?: string;
  /** A file that must exist instead of a program, such as a header. */
  readonly path?: string;
}

/** How {@linkcode ensureTools} may act. */
export interface EnsureToolsOptions {
  readonly span: Span;
  readonly signal: AbortSignal;
  /** `--yes`: install what is missing when we are root. */
  readonly assumeYes: boolean;
  /** Where apt's output goes. */
  readonly logPath?: string;
}

/** The tools that are not on this host. */
export function missingTools(tools: readonly HostTool[]): HostTool[] {
  return tools.filter((tool) => {
    if (tool.path === undefined) return which(tool.program) === undefined;
    try {
      Deno.statSync(tool.path);
      return false;
    } catch {
      return true;
    }
  });
}

/** The command that installs the tools by hand. */
export function installCommand(
  tools: readonly HostTool[],
  os: string = Deno.build.os,
): string {
  if (os === "darwin") {
    const formulas = [...new Set(tools.map(({ brew, program }) => brew ?? program))].sort();
    return `brew install ${formulas.join(" ")}`;
  }
  const packages = [...new Set(tools.map((tool) => tool.debian))].sort();
  return `apt-get install -y --no-install-recommends ${packages.join(" ")}`;
}

const FETCH_TIMEOUT_MS = 15 * 60_000;
/** With the wait for another apt. */
const INSTALL_TIMEOUT_MS = 60 * 60_000;

// apt takes one lock for the machine, so installs of one process queue here.
let queue: Promise<unknown> = Promise.resolve();

/**
 * Makes the tools available.
 *
 * @throws GatewayError `tool-missing` with the exact command when they are missing and may not be installed.
 */
export function ensureTools(
  tools: readonly HostTool[],
  options: EnsureToolsOptions,
): Promise<void> {
  const turn = queue.then(() => installMissing(tools, options));
  queue = turn.catch(() => {});
  return turn;
}

async function installMissing(
  tools: readonly HostTool[],
  options: EnsureToolsOptions,
): Promise<void> {
  const missing = missingTools(tools);
  if (missing.length === 0) return;
  const names = [...new Set(missing.map((tool) => tool.program))].join(", ");
  const root = Deno.uid() === 0;
  if (!options.assumeYes || !root || which("apt-get") === undefined) {
    throw new GatewayError({
      code: "tool-missing",
      what: `Cannot build without ${names}`,
      why: missing.length === 1 ? "it is not on this host" : "they are not on this host",
      fix: Deno.build.os === "darwin"
        ? `run: ${installCommand(missing)}`
        : `run: ${root ? "" : "sudo "}${installCommand(missing)}${
          root ? "   (or pass --yes)" : ""
        }`,
    });
  }
  await options.span.run(`install ${names}`, async () => {
    const env = { DEBIAN_FRONTEND: "noninteractive" };
    const apt = (args: string[], signal: AbortSignal | undefined, timeoutMs: number) =>
      run("apt-get", {
        args: ["-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=3", ...args],
        env,
        signal,
        timeoutMs,
        logPath: options.logPath,
        code: "tool-missing",
        what: `Cannot install ${names}`,
      });
    const install = [...installCommand(missing).split(" ").slice(1), "--no-remove"];
    await apt(["update"], options.signal, FETCH_TIMEOUT_MS);
    await apt([...install, "--download-only"], options.signal, FETCH_TIMEOUT_MS);
    // A signal here would leave packages of the host half configured. The user's Ctrl-C takes effect after it.
    await apt(install, undefined, INSTALL_TIMEOUT_MS);
    options.signal.throwIfAborted();
  });
  const still = missingTools(missing);
  if (still.length > 0) {
    throw new GatewayError({
      code: "tool-missing",
      what: `Cannot find ${still.map((tool) => tool.program).join(", ")}`,
      why: "the packages were installed and it is still not there",
      fix: `look at: ${installCommand(still)}`,
    });
  }
}
