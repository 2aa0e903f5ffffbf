// deno-lint-ignore-file no-console
/**
 * `deno task e2e [UP-OPTIONS] -- COMMAND…`: starts an instance, runs the command with the variables that OpenShell's test
 * suites read, keeps logs if the command fails, and removes the instance. The exit code is the command's own.
 *
 * @module
 */
import { basename, dirname, fromFileUrl, join } from "@std/path";
import { run, signalProcess, spawnChild, which } from "../../vm/base/process.ts";
import { freePort, FROM_SOURCES } from "../vm/harness.ts";
import { collectLogs } from "./logs.ts";

const LOGS = fromFileUrl(new URL("../../dist/e2e", import.meta.url));
const UP_TIMEOUT_MS = 90 * 60_000;
const END_TIMEOUT_MS = 3 * 60_000;
const USAGE = `usage: deno task e2e [UP-OPTIONS] -- COMMAND [ARGUMENTS]
such as: deno task e2e --payload openshell -- cargo test --features e2e --test smoke`;

/** What the command gets. */
interface Target {
  readonly name: string;
  readonly endpoint: string;
  readonly kubeconfig: string | null;
  /** Folder of ca.crt, tls.crt and tls.key. */
  readonly clientFiles: string;
}

async function main(words: readonly string[]): Promise<number> {
  const at = words.indexOf("--");
  const [options, command] = at < 0 ? [words, []] : [words.slice(0, at), words.slice(at + 1)];
  if (command.length === 0 || options.includes("--name")) {
    console.error(options.includes("--name") ? "e2e names the instance itself" : USAGE);
    return 2;
  }
  const name = `e2e-${Deno.pid}`;
  const stop = stopSignal();
  const config = await Deno.makeTempDir({ prefix: "gateway-e2e-" });
  try {
    const target = await start(name, options, stop);
    const env = await environment(target, config);
    const code = await runCommand(command, env, stop);
    if (code !== 0) console.error(`logs: ${await collectLogs(gateway, name, join(LOGS, name))}`);
    return code;
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    return 1;
  } finally {
    await gateway(["rm", "--force", name]);
    await Deno.remove(config, { recursive: true });
  }
}

/** Aborts at Ctrl-C or SIGTERM; the command gets a Ctrl-C of its own from the terminal. */
function stopSignal(): AbortSignal {
  const stop = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(name, () => stop.abort(new Error(`stopped by ${name}`)));
  }
  return stop.signal;
}

/** `gateway ARGS…` of this checkout; gives what it printed, whatever its exit code. */
async function gateway(args: readonly string[], signal?: AbortSignal) {
  const [program, ...words] = FROM_SOURCES;
  return await run(program, {
    args: [...words, ...args],
    check: false,
    timeoutMs: args[0] === "up" ? UP_TIMEOUT_MS : END_TIMEOUT_MS,
    ...(signal ? { signal } : {}),
    // A start takes minutes the first time: its progress is shown.
    ...(args[0] === "up" ? { onOutput: (text: string) => void console.error(text.trimEnd()) } : {}),
  });
}

async function start(
  name: string,
  options: readonly string[],
  signal: AbortSignal,
): Promise<Target> {
  const port = options.includes("--port") ? [] : ["--port", `${freePort()}:30051`];
  const up = await gateway(["up", "--detach", "--name", name, ...port, ...options], signal);
  if (up.code !== 0) {
    throw new Error(`Cannot start the instance: gateway up exited with code ${up.code}`);
  }
  return JSON.parse((await gateway(["status", "--name", name, "--json"])).stdout);
}

/**
 * A configuration folder of its own, in which this instance is the client's only and active gateway. Its files are links,
 * so that what is renewed while the command runs is seen.
 */
async function environment(
  { name, endpoint, kubeconfig, clientFiles }: Target,
  config: string,
): Promise<Record<string, string>> {
  const gateways = join(config, "openshell", "gateways");
  await Deno.mkdir(gateways, { recursive: true });
  const files = await Deno.realPath(dirname(clientFiles));
  const known = basename(files);
  await Deno.symlink(files, join(gateways, known));
  await Deno.writeTextFile(join(config, "openshell", "active_gateway"), known);
  const client = Deno.env.get("OPENSHELL_BIN") ?? which("openshell");
  return {
    XDG_CONFIG_HOME: config,
    OPENSHELL_GATEWAY: known,
    ...(client === undefined ? {} : { OPENSHELL_BIN: client }),
    ...(kubeconfig === null ? {} : { KUBECONFIG: kubeconfig }),
    GATEWAY_E2E_INSTANCE: name,
    GATEWAY_E2E_ENDPOINT: endpoint,
  };
}

async function runCommand(
  [program, ...args]: readonly string[],
  env: Record<string, string>,
  signal: AbortSignal,
): Promise<number> {
  await using child = spawnChild(program!, {
    args,
    // `deno task` changes to the folder of deno.json and says in INIT_CWD where it was called.
    cwd: Deno.env.get("INIT_CWD") ?? Deno.cwd(),
    env: { ...Deno.env.toObject(), ...env },
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
  });
  signal.addEventListener("abort", () => signalProcess(child.pid, "SIGTERM"), { once: true });
  return (await child.exited).code;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
