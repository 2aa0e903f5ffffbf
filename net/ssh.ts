/**
 * OpenSSH to the guest: keys and a pinned host key of the instance's own, a config file that plain ssh, scp and
 * editors can use, and the argument lists for exec, shell and cp.
 * It must not run ssh, and must not touch the user's own ssh files.
 *
 * @module
 */
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { Buffer } from "node:buffer";
import { join } from "@std/path";
import { writeFileAtomic } from "../vm/base/durable.ts";
import { GatewayError } from "../vm/base/error.ts";
import type { HostTool } from "../vm/base/host_tools.ts";
import { ensurePrivateDir, exists, socketPath } from "../vm/base/layout.ts";

/** An instance's ssh files. */
export interface InstanceSsh {
  /** `ssh -F configPath NAME` works with it. */
  readonly configPath: string;
  /** Files for the guest's payload by name; secret. */
  readonly payload: Readonly<Record<string, string>>;
}

/** exec, shell and cp are OpenSSH's own client. */
export const SSH_TOOL: HostTool = { program: "ssh", debian: "openssh-client" };

/** The guest's port. */
export const GUEST_SSH_PORT = 22;

const CLIENT_KEY = "id_ed25519";
const HOST_KEY = "ssh_host_ed25519_key";

/** Makes what is missing of an instance's ssh folder: two key pairs, 0600, in a folder of 0700. */
export async function ensureSsh(sshDir: string): Promise<InstanceSsh> {
  await ensurePrivateDir(sshDir);
  await ensureKey(join(sshDir, CLIENT_KEY), "gateway-client");
  await ensureKey(join(sshDir, HOST_KEY), "gateway-guest");
  const read = (name: string) => Deno.readTextFile(join(sshDir, name));
  return {
    configPath: sshConfigPath(sshDir),
    payload: {
      "authorized_keys": await read(`${CLIENT_KEY}.pub`),
      [HOST_KEY]: await read(HOST_KEY),
      [`${HOST_KEY}.pub`]: await read(`${HOST_KEY}.pub`),
    },
  };
}

/** Where an instance's ssh config is. */
export function sshConfigPath(sshDir: string): string {
  return join(sshDir, "config");
}

/** Writes the config and the pinned host key for the port that leads to the guest now. */
export async function writeSshConfig(
  options: {
    readonly sshDir: string;
    readonly name: string;
    readonly port: number;
  },
): Promise<string> {
  const { sshDir, name, port } = options;
  const knownHosts = join(sshDir, "known_hosts");
  const hostKey = (await Deno.readTextFile(join(sshDir, `${HOST_KEY}.pub`))).split(" ").slice(0, 2);
  await writeFileAtomic(knownHosts, `[127.0.0.1]:${port} ${hostKey.join(" ").trim()}\n`);
  const lines = [
    `Host ${name}`,
    "  HostName 127.0.0.1",
    `  Port ${port}`,
    "  User root",
    `  IdentityFile ${quote(join(sshDir, CLIENT_KEY))}`,
    "  IdentitiesOnly yes",
    "  IdentityAgent none",
    `  UserKnownHostsFile ${quote(knownHosts)}`,
    "  GlobalKnownHostsFile none",
    "  StrictHostKeyChecking yes",
    "  UpdateHostKeys no",
    "  PreferredAuthentications publickey",
    "  BatchMode yes",
    "  ForwardAgent no",
    "  ForwardX11 no",
    "  LogLevel ERROR",
    "  ServerAliveInterval 5",
    "  ServerAliveCountMax 6",
    "  ConnectTimeout 30",
    ...await sharing(sshDir),
    "",
  ];
  const path = sshConfigPath(sshDir);
  await writeFileAtomic(path, lines.join("\n"));
  return path;
}

/** A path as ssh_config takes it: % would start a token, and a quoted path may have spaces, but no bare quote. */
function quote(path: string): string {
  return `"${path.replaceAll("%", "%%").replace(/["\\]/g, "\\$&")}"`;
}

/** A handshake is dear under emulation; later commands share the first one's connection. */
async function sharing(sshDir: string): Promise<string[]> {
  const socket = controlPath(sshDir);
  if (socket === undefined) return ["  ControlPath none"];
  // That of an earlier run leads nowhere.
  await Deno.remove(socket).catch(() => {});
  return ["  ControlMaster auto", `  ControlPath ${quote(socket)}`, "  ControlPersist 600"];
}

/**
 * The socket of the shared connection; undefined where its path would be too long for one, then each command has a
 * connection of its own. It is in the instance's own folder: ssh does not look whose socket it is, and the config outlives
 * the run, and with it the runtime folder, whose name anybody could take in /tmp. ssh binds the socket with a dot and 16
 * more characters in its name first.
 */
export function controlPath(sshDir: string): string | undefined {
  try {
    socketPath(sshDir, `mux.${"x".repeat(16)}`);
    return socketPath(sshDir, "mux");
  } catch (error) {
    if (error instanceof GatewayError && error.code === "path-too-long") return undefined;
    throw error;
  }
}

/**
 * Arguments of `ssh` that run a program in the guest, each word unchanged; no words give a login shell. The guest's shell
 * starts the program with `exec`, so its built-in commands are not found, as with any exec. It stays as the parent, since
 * ssh has no exit code for a program that a signal killed, and a shell does: 128 and the signal's number.
 */
export function sshArgs(
  configPath: string,
  name: string,
  words: readonly string[],
  options: {
    readonly tty?: boolean;
    /** Marks the program for {@linkcode signalWords}. */
    readonly token?: string;
  } = {},
): string[] {
  const tty = options.tty ? ["-tt"] : words.length > 0 ? ["-T"] : [];
  const command = words.length > 0 ? ["--", remoteCommand(words, options.token)] : [];
  return ["-F", configPath, ...tty, name, ...command];
}

/**
 * The shell gets the signals of its group, too, and goes on waiting; in the program they have their usual effect. What a
 * shell itself prints of a program that was killed is dropped.
 */
function remoteCommand(words: readonly string[], token: string | undefined): string {
  const mark = token === undefined ? "" : ` # ${TOKEN_PREFIX}${token}`;
  const program = `(exec 2>&9 9>&-; exec ${shellQuote(words)})`;
  return `trap : HUP INT QUIT TERM; exec 9>&2 2>/dev/null; ${program}; exit $?${mark}`;
}

const TOKEN_PREFIX = "gateway-exec-";

/** A new token for {@linkcode sshArgs}. */
export function execToken(): string {
  return randomBytes(8).toString("hex");
}

/**
 * The words that send a signal to a program in the guest and to what it started in its process group. They fail where
 * no program has the token.
 */
export function signalWords(token: string, signal: string): string[] {
  // The last character in brackets keeps grep and this shell from finding themselves.
  const pattern = `${TOKEN_PREFIX}${token.slice(0, -1)}[${token.slice(-1)}]`;
  const script = [
    "found=1",
    `for file in $(grep -ls '${pattern}' /proc/[0-9]*/cmdline); do`,
    "  pid=${file#/proc/}",
    `  kill -s ${signal.replace(/^SIG/, "")} -- "-\${pid%/cmdline}" 2>/dev/null && found=0`,
    "done",
    "exit $found",
  ].join("\n");
  return ["sh", "-c", script];
}

/** Arguments of `scp`, one side `NAME:PATH`. A path of the host may have a colon in it. */
export function scpArgs(
  configPath: string,
  source: string,
  destination: string,
  options: { readonly recursive?: boolean } = {},
): string[] {
  const sides = [source, destination].map(scpSide);
  return ["-F", configPath, "-q", ...(options.recursive ? ["-r"] : []), "--", ...sides];
}

/** scp takes whatever has a colon before its first slash for a remote name. */
function scpSide(side: string): string {
  const remote = /^[a-z0-9][-a-z0-9]*:/.test(side);
  return !remote && /^[^/]*:/.test(side) ? `./${side}` : side;
}

/**
 * One line for the guest's shell that stands for exactly these words: sshd hands a command to a shell. Every word is
 * quoted, since a bare `if`, `A=1` or an alias means something else.
 */
export function shellQuote(words: readonly string[]): string {
  // Inside single quotes nothing is special but the quote itself: close, an escaped quote, open again.
  return words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
}

/** A pair that is not whole is made anew; what is left of it stays under another name. */
async function ensureKey(path: string, comment: string): Promise<void> {
  const publicPath = `${path}.pub`;
  const read = async (half: string) => await exists(half) ? await Deno.readTextFile(half) : "";
  const [stored, open] = await Promise.all([read(path), read(publicPath)]);
  if (isKeyPair(stored, open)) return;
  for (const half of stored + open === "" ? [] : [path, publicPath]) {
    if (await exists(half)) await Deno.rename(half, `${half}.damaged`);
  }
  const { privateKey, publicKey } = makeEd25519Key(comment);
  await writeFileAtomic(path, privateKey, 0o600);
  await writeFileAtomic(publicPath, publicKey, 0o600);
}

/** Whether two texts are the halves of one pair as {@linkcode makeEd25519Key} writes them. */
function isKeyPair(privateKey: string, publicKey: string): boolean {
  const body = /^-----BEGIN OPENSSH PRIVATE KEY-----\n([A-Za-z0-9+/=\n]+)-----END [A-Z ]+-----\n$/
    .exec(privateKey)?.[1];
  const open = /^ssh-ed25519 ([A-Za-z0-9+/=]+)( .*)?\n$/.exec(publicKey)?.[1];
  if (body === undefined || open === undefined) return false;
  const blob = Buffer.from(body, "base64");
  const publicBlob = Buffer.from(open, "base64");
  const head = Buffer.concat([
    HEAD,
    Buffer.from([0, 0, 0, 1]),
    field(publicBlob),
  ]);
  if (!blob.subarray(0, head.length).equals(head) || blob.length < head.length + 4) return false;
  // The secret half is the rest, with the same public key in it.
  const secret = blob.subarray(head.length + 4);
  return blob.readUInt32BE(head.length) === secret.length &&
    secret.includes(publicBlob.subarray(-32));
}

/** What each file of a key that needs no passphrase begins with. */
const HEAD = Buffer.concat([
  Buffer.from("openssh-key-v1\0"),
  field("none"),
  field("none"),
  field(""),
]);

/** A new key pair in OpenSSH's own formats (openssh-key-v1, unencrypted; the file mode protects it). */
export function makeEd25519Key(comment: string): { privateKey: string; publicKey: string } {
  const pair = generateKeyPairSync("ed25519");
  const jwk = pair.privateKey.export({ format: "jwk" });
  const publicBytes = Buffer.from(jwk.x!, "base64url");
  const secretBytes = Buffer.from(jwk.d!, "base64url");
  const type = "ssh-ed25519";
  const publicBlob = Buffer.concat([field(type), field(publicBytes)]);
  const check = randomBytes(4);
  const inner = Buffer.concat([
    check,
    check,
    field(type),
    field(publicBytes),
    field(Buffer.concat([secretBytes, publicBytes])),
    field(comment),
  ]);
  // Padding to the cipher's block of 8 with 1, 2, 3 …
  const padding = Buffer.from(Array.from({ length: (8 - inner.length % 8) % 8 }, (_, i) => i + 1));
  const blob = Buffer.concat([
    HEAD,
    Buffer.from([0, 0, 0, 1]),
    field(publicBlob),
    field(Buffer.concat([inner, padding])),
  ]);
  const body = blob.toString("base64").match(/.{1,70}/g)!.join("\n");
  return {
    privateKey: `-----BEGIN OPENSSH PRIVATE KEY-----\n${body}\n-----END OPENSSH PRIVATE KEY-----\n`,
    publicKey: `${type} ${publicBlob.toString("base64")} ${comment}\n`,
  };
}

function field(data: string | Uint8Array): Buffer {
  const bytes = typeof data === "string" ? Buffer.from(data) : data;
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
