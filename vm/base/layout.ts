/**
 * This room has what every other room uses: errors, events, waits, processes, paths, digests, durable files. It does
 * not know instances or VMMs. Read error.ts, event.ts, wait.ts and process.ts next.
 *
 * Where everything lives: XDG folders, one folder per instance, a short runtime folder for sockets.
 * It must not create instances or hold state; every room takes its paths from here.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { asHostError, GatewayError, permissionError, usageError } from "./error.ts";

/** The environment a path depends on; tests pass their own. */
export type Env = (name: string) => string | undefined;

const processEnv: Env = (name) => Deno.env.get(name);

/** The user's home folder. @throws GatewayError `host-unsupported` when HOME is not set. */
export function homeDir(env: Env = processEnv): string {
  const home = env("HOME");
  if (!home) {
    throw new GatewayError({
      code: "host-unsupported",
      what: "Cannot find your home folder",
      why: "HOME is not set",
      fix: "set HOME, or set XDG_DATA_HOME, XDG_CACHE_HOME and XDG_CONFIG_HOME",
    });
  }
  return home;
}

function xdg(variable: string, fallback: readonly string[], env: Env): string {
  const value = env(variable);
  // The XDG specification: a relative path is invalid and is ignored.
  if (value && value.startsWith("/")) return oneLine(variable, value);
  return join(oneLine("HOME", homeDir(env)), ...fallback);
}

/** Lists of paths and lines of commands are split at line breaks; every other character is quoted where it matters. */
function oneLine(variable: string, path: string): string {
  // deno-lint-ignore no-control-regex
  if (!/[\x00-\x1f\x7f]/.test(path)) return path;
  throw new GatewayError({
    code: "host-unsupported",
    what: `Cannot use the folder in ${variable}`,
    why: "its path has a line break or another control character in it",
    fix: `set ${variable} to a path without control characters`,
  });
}

/** `$XDG_DATA_HOME/gateway`: instances. */
export function dataDir(env: Env = processEnv): string {
  return join(xdg("XDG_DATA_HOME", [".local", "share"], env), "gateway");
}

/** `$XDG_CACHE_HOME/gateway`: artifacts and build caches; safe to delete when nothing runs. */
export function cacheDir(env: Env = processEnv): string {
  return join(xdg("XDG_CACHE_HOME", [".cache"], env), "gateway");
}

/** `$XDG_CONFIG_HOME`: where OpenShell's client files go. */
export function xdgConfigHome(env: Env = processEnv): string {
  return xdg("XDG_CONFIG_HOME", [".config"], env);
}

/** The longest path a unix socket can have on every host we support (macOS: 104 with its NUL). */
const SOCKET_PATH_LIMIT = 103;

/**
 * The short folder sockets live in: `$XDG_RUNTIME_DIR/gateway`, else `/run/gateway` for root and `/tmp/gateway-UID` for
 * others. Call {@linkcode ensureRuntimeDir} before anything below it is written or removed.
 */
export function runtimeDir(env: Env = processEnv): string {
  const value = env("XDG_RUNTIME_DIR");
  if (value && value.startsWith("/")) return join(oneLine("XDG_RUNTIME_DIR", value), "gateway");
  // In /tmp every user could take the name first.
  if (Deno.uid() === 0 && isOnlyRoots("/run")) return "/run/gateway";
  return `/tmp/gateway-${Deno.uid() ?? "user"}`;
}

function isOnlyRoots(path: string): boolean {
  try {
    const { isDirectory, uid, mode } = Deno.statSync(path);
    return isDirectory && uid === 0 && ((mode ?? 0) & 0o022) === 0;
  } catch {
    return false;
  }
}

/**
 * A socket path, checked for length when it is made rather than when bind fails.
 *
 * @throws GatewayError `path-too-long`.
 */
export function socketPath(dir: string, name: string): string {
  const path = join(dir, name);
  const bytes = new TextEncoder().encode(path).length;
  if (bytes > SOCKET_PATH_LIMIT) {
    throw new GatewayError({
      code: "path-too-long",
      what: `Cannot use the socket path "${path}"`,
      why: `unix sockets allow ${SOCKET_PATH_LIMIT} bytes and it has ${bytes}`,
      fix: "set XDG_RUNTIME_DIR to a shorter folder, such as /tmp/run",
    });
  }
  return path;
}

/** Every path of one instance. */
export interface InstancePaths {
  readonly name: string;
  /** 0700. */
  readonly dir: string;
  readonly instanceFile: string;
  readonly lockFile: string;
  readonly runFile: string;
  readonly vmFile: string;
  /** Starts the VM of the last start by hand. */
  readonly replayFile: string;
  readonly stateDisk: string;
  readonly payload: string;
  readonly pkiDir: string;
  /** Keys that sign a service's own tokens, where a payload asks for them. */
  readonly jwtDir: string;
  /** The key with which the cluster signs the user's token, where a payload has a login. */
  readonly loginDir: string;
  readonly sshDir: string;
  readonly consoleLog: string;
  readonly gvproxyLog: string;
  /** What the VMM itself prints. */
  readonly vmmLog: string;
  readonly eventsFile: string;
  readonly snapshotsDir: string;
  /** 0700, short: sockets only. */
  readonly runtimeDir: string;
}

/** The folder all instances live in. */
export function instancesDir(env: Env = processEnv): string {
  return join(dataDir(env), "instances");
}

/** The paths of an instance; nothing is created. @throws GatewayError `usage` for a bad name. */
export function instancePaths(name: string, env: Env = processEnv): InstancePaths {
  checkInstanceName(name);
  const dir = join(instancesDir(env), name);
  return {
    name,
    dir,
    instanceFile: join(dir, "instance.json"),
    lockFile: join(dir, "lock"),
    runFile: join(dir, "run.json"),
    vmFile: join(dir, "vm.json"),
    replayFile: join(dir, "replay.sh"),
    stateDisk: join(dir, "state.img"),
    payload: join(dir, "payload.tar"),
    pkiDir: join(dir, "pki"),
    jwtDir: join(dir, "jwt"),
    loginDir: join(dir, "login"),
    sshDir: join(dir, "ssh"),
    consoleLog: join(dir, "console.log"),
    gvproxyLog: join(dir, "gvproxy.log"),
    vmmLog: join(dir, "vmm.log"),
    eventsFile: join(dir, "events.jsonl"),
    snapshotsDir: join(dir, "snapshots"),
    runtimeDir: join(runtimeDir(env), name),
  };
}

const NAME_PATTERN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;

/** An instance name is a DNS label, since it becomes the guest's host name. @throws GatewayError `usage`. */
export function checkInstanceName(name: string): void {
  const why = name === ""
    ? "it is empty"
    : name.length > 63
    ? `it has ${name.length} characters and 63 is the most`
    : NAME_PATTERN.test(name)
    ? undefined
    : "only a-z, 0-9 and - inside are allowed";
  if (why !== undefined) {
    throw usageError(
      `Cannot use the instance name "${name}"`,
      why,
      "choose a name such as `default` or `dev-2`",
    );
  }
}

/** A snapshot's name becomes a file's name. @throws GatewayError `usage`. */
export function checkSnapshotName(name: string): void {
  if (name.length <= 63 && /^[a-z0-9][-a-z0-9_.]*$/.test(name) && !name.includes("..")) return;
  throw usageError(
    `Cannot use the snapshot name "${name}"`,
    name.length > 63
      ? `it has ${name.length} characters and 63 is the most`
      : "only a-z, 0-9, - _ and . are allowed",
    "choose a name such as `before-upgrade`",
  );
}

/**
 * Makes a folder that only its owner can enter, and refuses one that belongs to somebody else. With `mayLink` it may be
 * a symbolic link of the same user's to such a folder, as to a larger disk.
 *
 * @throws GatewayError `permission`, `disk-full`.
 */
export async function ensurePrivateDir(
  path: string,
  options: { readonly mayLink?: boolean } = {},
): Promise<void> {
  try {
    const here = await makeDir(path);
    if (!isOwn(here)) throw notPrivate(path, `it belongs to user ${here.uid}`);
    const info = here.isSymlink && options.mayLink ? await statTarget(path) : here;
    if (!info.isDirectory) {
      throw notPrivate(path, here.isSymlink ? "it is a symbolic link" : "it is not a folder");
    }
    if (!isOwn(info)) throw notPrivate(path, `it leads to a folder of user ${info.uid}`);
    if (((info.mode ?? 0) & 0o077) !== 0) await Deno.chmod(path, 0o700);
  } catch (error) {
    throw withOwnerFix(asHostError(error));
  }
}

/**
 * Refuses a folder of shared files that another user owns or may write to: what is in it runs. One that is not there yet
 * is fine.
 *
 * @throws GatewayError `permission`.
 */
export async function refuseForeignDir(path: string): Promise<void> {
  for (const look of [Deno.lstat, Deno.stat]) {
    const info = await look(path).catch(() => undefined);
    if (!info) return;
    if (!isOwn(info)) throw withOwnerFix(notPrivate(path, `it belongs to user ${info.uid}`));
    if (info.isDirectory && ((info.mode ?? 0) & 0o022) !== 0) {
      await Deno.chmod(path, (info.mode ?? 0) & 0o755);
    }
  }
}

function withOwnerFix(error: unknown): unknown {
  if (!(error instanceof GatewayError) || error.code !== "permission") return error;
  const { what, why, cause } = error;
  const fix = "check its owner with `ls -ld`; after su or sudo unset XDG_RUNTIME_DIR, or set it, " +
    "XDG_DATA_HOME and XDG_CACHE_HOME to folders of your own";
  return new GatewayError({ code: "permission", what, why, fix, cause });
}

/**
 * Makes the folder of all sockets and refuses one that another user made, may replace or leads elsewhere.
 *
 * @throws GatewayError `permission`, `disk-full`.
 */
export async function ensureRuntimeDir(): Promise<void> {
  const path = runtimeDir();
  const why = await findForeignParent(path);
  if (why !== undefined) throw withOwnerFix(notPrivate(path, why));
  await ensurePrivateDir(path);
}

/**
 * Whether a folder is there, belongs to this user and cannot be replaced by another one. Only below such a folder may
 * something be removed by its path.
 */
export async function isPrivateDir(path: string): Promise<boolean> {
  const here = await Deno.lstat(path).catch(() => undefined);
  if (!here?.isDirectory || !isOwn(here)) return false;
  return await findForeignParent(path) === undefined;
}

/** Who else may replace what lies at a path; undefined when nobody can, or nothing is there. */
async function findForeignParent(path: string): Promise<string | undefined> {
  const parent = dirname(path);
  for (const look of [Deno.lstat, Deno.stat]) {
    const info = await look(parent).catch(() => undefined);
    if (!info) return undefined;
    if (!isOwn(info) && info.uid !== 0) return `"${parent}" belongs to user ${info.uid}`;
    const mode = info.isSymlink ? 0 : info.mode ?? 0;
    // Where the sticky bit is set, as in /tmp, nobody replaces another user's folder.
    if ((mode & 0o1002) === 0o002) return `every user may replace it in "${parent}"`;
  }
  return undefined;
}

/** Other commands may remove an empty folder while we make one in it. */
async function makeDir(path: string): Promise<Deno.FileInfo> {
  for (let attempt = 0;; attempt++) {
    try {
      const link = await Deno.lstat(path).catch(() => undefined);
      if (!link?.isSymlink) await Deno.mkdir(path, { recursive: true, mode: 0o700 });
      return await Deno.lstat(path);
    } catch (error) {
      if (attempt === 20 || !await isRace(error, path)) throw error;
    }
  }
}

/** mkdir says that there is something, too, when a folder goes between its try and its look. */
async function isRace(error: unknown, path: string): Promise<boolean> {
  if (error instanceof Deno.errors.NotFound) return true;
  if (!(error instanceof Deno.errors.AlreadyExists)) return false;
  const now = await Deno.lstat(path).catch(() => undefined);
  return now === undefined || now.isDirectory;
}

function isOwn({ uid }: Deno.FileInfo): boolean {
  const own = Deno.uid();
  return own === null || uid === null || uid === own;
}

async function statTarget(path: string): Promise<Deno.FileInfo> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw notPrivate(path, "it is a symbolic link to a folder that is not there");
  }
}

function notPrivate(path: string, why: string): GatewayError {
  return permissionError(`Cannot use the folder "${path}"`, why);
}

/** Whether something is at the path (a dangling link counts as nothing). */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return false;
    }
    throw error;
  }
}
