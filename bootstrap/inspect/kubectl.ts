/**
 * `gateway kubectl`: the host's kubectl with the instance's kubeconfig, or the guest's kubectl where the host has none.
 * The guest's gets copies of the host's files that its words name, so that both read the same files.
 *
 * @module
 */
import { basename, dirname, resolve } from "@std/path";
import { runSsh } from "../../net/guest_command.ts";
import { execToken, sshArgs, sshConfigPath } from "../../net/ssh.ts";
import { GatewayError, usageError } from "../../vm/base/error.ts";
import { exists, type InstancePaths } from "../../vm/base/layout.ts";
import { run, which } from "../../vm/base/process.ts";
import { requireRunning } from "../../vm/instance/instance.ts";
import { kubeconfigPath, ownsKubeconfig } from "../cluster/kubeconfig.ts";
import { execInGuest } from "./guest_commands.ts";
import { runWrapped } from "./wrapped.ts";

/** How kubectl may act. */
export interface KubectlOptions {
  /** Whether our stdin is a terminal. */
  readonly terminal: boolean;
}

/**
 * Runs kubectl; returns its exit code.
 *
 * @throws GatewayError `instance-unknown`, `instance-stopped`; `usage` for a file that is not there; `not-supported` for
 * what only a kubectl on this host can do.
 */
export async function kubectl(
  name: string,
  args: readonly string[],
  options: KubectlOptions,
): Promise<number> {
  const { run: record, config, paths } = await requireRunning(name);
  const owner = { instance: name, instanceDir: paths.dir };
  const forwarded = config.kubeApi && record.apiPort !== null;
  if (which("kubectl") && forwarded && await ownsKubeconfig(owner)) {
    return await runWrapped("kubectl", ["--kubeconfig", kubeconfigPath(name), ...args]);
  }
  checkForGuest(args);
  const tty = options.terminal && wantsTerminal(args);
  const folder = `/tmp/gateway-kubectl-${execToken()}`;
  const { words, files } = await guestWords(args, folder);
  if (files.length === 0) return await execInGuest(name, ["kubectl", ...words], { tty });
  await Promise.all(files.map((file) => sendFile(name, paths, file)));
  return await execInGuest(name, ["sh", "-c", RUN_AND_REMOVE, folder, ...words], { tty });
}

/** Runs kubectl with the words and removes the folder of copies, also when a signal ends it. */
const RUN_AND_REMOVE =
  `trap 'rm -rf "$0"' EXIT; trap : HUP INT QUIT TERM; (exec kubectl "$@"); exit $?`;

/** The words up to `--`: what follows is a program's in a pod. */
function ownPart(args: readonly string[]): readonly string[] {
  const end = args.indexOf("--");
  return end < 0 ? args : args.slice(0, end);
}

/** Global options of kubectl that have a value of their own. */
const WITH_VALUE = [
  ...["-n", "--namespace", "-s", "--server", "--context", "--cluster", "--user", "--kubeconfig"],
  ...["--as", "--as-group", "--as-uid", "--token", "--request-timeout", "-v", "--v"],
];

/** Which of kubectl's commands the words are, such as "apply". */
function subcommand(args: readonly string[]): string | undefined {
  for (let at = 0; at < args.length; at++) {
    const word = args[at]!;
    if (!word.startsWith("-")) return word;
    if (WITH_VALUE.includes(word)) at++;
  }
  return undefined;
}

/** What works with files or ports of the machine that kubectl runs on. */
const HOST_ONLY: ReadonlyMap<string, readonly [why: string, instead: string]> = new Map([
  ["cp", ["the guest's would copy files of the guest", "use `gateway cp` and `gateway exec`"]],
  ["port-forward", [
    "the guest's would listen in the guest",
    "use a NodePort and `gateway port add`",
  ]],
  ["proxy", ["the guest's would listen in the guest", "use the instance's kubeconfig"]],
]);

/** Refuses what the guest's kubectl cannot do for this host. @throws GatewayError `not-supported`. */
export function checkForGuest(args: readonly string[]): void {
  const verb = subcommand(ownPart(args)) ?? "";
  const refusal = HOST_ONLY.get(verb);
  if (refusal === undefined || args.includes("--help") || args.includes("-h")) return;
  const [why, instead] = refusal;
  throw new GatewayError({
    code: "not-supported",
    what:
      `Cannot run \`kubectl ${verb}\` without kubectl and the instance's kubeconfig on this host`,
    why,
    fix: `install kubectl, or ${instead}`,
  });
}

/** Whether the words ask for a terminal, as `exec -it` does. Pure. */
function wantsTerminal(args: readonly string[]): boolean {
  const own = ownPart(args);
  if (!["exec", "run", "attach", "debug"].includes(subcommand(own) ?? "")) return false;
  return own.some((word) => /^-[iq]*t[iq]*$/.test(word) || /^--tty(=true)?$/.test(word));
}

/** A file or folder of the host, and the guest's folder that its copy goes to. */
export interface SentFile {
  readonly path: string;
  readonly folder: string;
}

/** Options whose value names a file or a folder; the value may be a list or `KEY=PATH`. */
const FILE_OPTIONS: ReadonlyMap<string, "list" | "one" | "keyed"> = new Map([
  ["-f", "list"],
  ["--filename", "list"],
  ["-k", "one"],
  ["--kustomize", "one"],
  ["--from-file", "keyed"],
  ["--from-env-file", "one"],
  ["--patch-file", "one"],
  ["--cert", "one"],
  ["--key", "one"],
]);

/** Commands whose -f is `--follow`. */
const FOLLOWING = ["logs"];

/** kubectl's words for the guest: every file that they name becomes its copy below `folder`. @throws GatewayError `usage`. */
async function guestWords(
  args: readonly string[],
  folder: string,
): Promise<{ readonly words: readonly string[]; readonly files: readonly SentFile[] }> {
  const own = ownPart(args);
  const files: SentFile[] = [];
  const send = async (path: string) => {
    if (path === "-" || /^[a-z][a-z0-9+.-]*:\/\//i.test(path)) return path;
    if (!await exists(path)) {
      throw usageError(
        `Cannot read "${path}" for kubectl`,
        "it is not on this host",
        "name a file, a folder, a URL, or - for stdin",
      );
    }
    const whole = resolve(path);
    const place = `${folder}/${files.length}`;
    files.push({ path: whole, folder: place });
    return `${place}/${basename(whole)}`;
  };
  const copied = async (kind: "list" | "one" | "keyed", value: string) => {
    const equals = kind === "keyed" ? value.indexOf("=") + 1 : 0;
    const paths = kind === "list" ? value.split(",") : [value.slice(equals)];
    const places = [];
    for (const path of paths) places.push(await send(path));
    return value.slice(0, equals) + places.join(",");
  };
  const known = FOLLOWING.includes(subcommand(own) ?? "") ? undefined : FILE_OPTIONS;
  const words: string[] = [];
  for (let at = 0; at < own.length; at++) {
    const word = own[at]!;
    const { option, value } = optionOf(word);
    const kind = known?.get(option);
    if (kind === undefined) words.push(word);
    else if (value !== undefined) words.push(`${option}=${await copied(kind, value)}`);
    else if (at + 1 === own.length) words.push(option);
    else words.push(option, await copied(kind, own[++at]!));
  }
  return { words: [...words, ...args.slice(own.length)], files };
}

/** An option and the value that stands in the same word: `--filename=x`, `-f=x`, `-fx`. */
function optionOf(word: string): { readonly option: string; readonly value?: string } {
  if (word.startsWith("--")) {
    const equals = word.indexOf("=");
    if (equals < 0) return { option: word };
    return { option: word.slice(0, equals), value: word.slice(equals + 1) };
  }
  if (!/^-[fk]./.test(word)) return { option: word };
  return { option: word.slice(0, 2), value: word.slice(2).replace(/^=/, "") };
}

const SEND_TIMEOUT_MS = 120_000;

async function sendFile(name: string, paths: InstancePaths, file: SentFile): Promise<void> {
  const unpack = 'umask 077; mkdir -p "$0" && tar -xf - -C "$0"';
  await runSsh({
    args: sshArgs(sshConfigPath(paths.sshDir), name, ["sh", "-c", unpack, file.folder]),
    stdin: await packed(file.path),
    code: "guest-unreachable",
    what: `Cannot send "${file.path}" to the guest`,
    fix: "run `gateway status`",
    timeoutMs: SEND_TIMEOUT_MS,
  });
}

/** A file or folder as an archive; what is neither, such as the pipe of `<(COMMAND)`, as a file with its content. */
async function packed(path: string): Promise<Uint8Array> {
  const { isFile, isDirectory } = await Deno.stat(path);
  if (!isFile && !isDirectory) {
    const { packTar } = await import("../payload/tar.ts");
    return await packTar([{ name: basename(path), data: await Deno.readFile(path), mode: 0o600 }]);
  }
  const { stdoutBytes } = await run("tar", {
    maxOutputBytes: 1024 ** 3,
    args: ["-chf", "-", "-C", dirname(path), "--", basename(path)],
    what: `Cannot read "${path}" for kubectl`,
    timeoutMs: SEND_TIMEOUT_MS,
  });
  return stdoutBytes;
}
