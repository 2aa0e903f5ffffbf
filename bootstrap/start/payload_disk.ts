/**
 * The payload disk of one boot: a deterministic tar with the settings, keys and manifests that init unpacks to
 * memory. It holds the instance's secrets, so it is written 0600 and whole or not at all.
 * It must not decide what goes in: callers bring the parts.
 *
 * @module
 */
import { shellQuote } from "../../net/ssh.ts";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { asDiskFull, GatewayError } from "../../vm/base/error.ts";
import type { TarEntry } from "../payload/tar.ts";

/** The program of an exec boot. */
export interface PayloadExec {
  /** Program and its arguments, at least one. */
  readonly argv: readonly string[];
  /** Variables by name. */
  readonly env?: Readonly<Record<string, string>>;
  /** `/` when absent. */
  readonly cwd?: string;
}

/** What goes into a payload. */
export interface PayloadParts {
  /** Settings that init reads as shell variables. Names are upper case. */
  readonly env: Readonly<Record<string, string>>;
  /** Files of `ssh/` by name; names that do not end in `.pub` or start with `authorized` become 0600. Secret. */
  readonly ssh?: Readonly<Record<string, string>>;
  /** Files of `manifests/` by name. Secret. */
  readonly manifests?: Readonly<Record<string, string>>;
  /** Files of `registries/` by name: how the cluster reaches registries. Secret. */
  readonly registries?: Readonly<Record<string, string>>;
  /** Files of `authorities/` by name: certificates that the cluster's pulls trust. */
  readonly authorities?: Readonly<Record<string, string>>;
  /** With which the cluster signs tokens once it goes on from another instance's memory, PEM. Secret. */
  readonly tokenKey?: string;
  /** The program of an exec boot; none for a cluster. */
  readonly exec?: PayloadExec;
}

/**
 * The size of every payload disk: one that a saved state knows must not change it when a later start has more to say. What
 * is not used takes no place on the host. A payload's files have half of it at most.
 */
export const PAYLOAD_BYTES = 32 * 1024 * 1024;

/** Short enough for ustar, and never a path or an option. */
const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$/;
const VARIABLE_PATTERN = /^[A-Z][A-Z0-9_]*$/;

/**
 * Writes the payload's tar, mode 0600, by rename.
 *
 * @throws GatewayError `bug` for a name or value that the archive or the shell cannot hold, `usage` for an exec argument
 * with a NUL, `payload-invalid` for more than the disk holds, `disk-full`.
 */
export async function writePayload(path: string, parts: PayloadParts): Promise<void> {
  const bytes = await packPayload(parts);
  if (bytes.length > PAYLOAD_BYTES) {
    throw new GatewayError({
      code: "payload-invalid",
      what: "Cannot hand the payload to the guest",
      why: `as JSON its objects have ${bytes.length} bytes, and its disk holds ${PAYLOAD_BYTES}`,
      fix: "make its manifests smaller, or apply some of them with kubectl after READY",
    });
  }
  try {
    await writeFileAtomic(path, bytes, 0o600, PAYLOAD_BYTES);
  } catch (error) {
    throw asDiskFull(error, path);
  }
}

/** The payload's bytes: the same parts give the same bytes. Secret. */
export async function packPayload(parts: PayloadParts): Promise<Uint8Array> {
  // Loaded here, since it is slow to import and most commands write no payload.
  const { packTar } = await import("../payload/tar.ts");
  return await packTar(listEntries(parts));
}

/**
 * The text of the env file: `KEY='value'` lines in the order of their names, safe to source in any POSIX shell
 * whatever the values hold. Pure.
 *
 * @throws GatewayError `bug` for a name that is no upper-case shell variable or a value with a NUL.
 */
export function renderEnv(env: Readonly<Record<string, string>>): string {
  return Object.entries(env).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => {
    if (!VARIABLE_PATTERN.test(name)) {
      throw badPart(`the variable "${name}"`, "it is no shell name");
    }
    return `${name}=${quoteShell(value)}\n`;
  }).join("");
}

/** One word of POSIX shell that expands to exactly the text. @throws GatewayError `bug` for a NUL. */
export function quoteShell(text: string): string {
  if (text.includes("\0")) throw badPart("a value", "it holds a NUL, which no shell can keep");
  return shellQuote([text]);
}

function listEntries(parts: PayloadParts): TarEntry[] {
  const encoder = new TextEncoder();
  const entries: TarEntry[] = [];
  const add = (name: string, text: string, mode: number) =>
    entries.push({ name, data: encoder.encode(text), mode });
  add("env", renderEnv(parts.env), 0o600);
  for (const [name, text] of sorted(parts.ssh)) {
    const isPublic = name.endsWith(".pub") || name.startsWith("authorized");
    add(`ssh/${checkName(name)}`, text, isPublic ? 0o644 : 0o600);
  }
  for (const folder of ["manifests", "registries", "authorities"] as const) {
    for (const [name, text] of sorted(parts[folder])) {
      add(`${folder}/${checkName(name)}`, text, 0o600);
    }
  }
  if (parts.tokenKey !== undefined) add("token.key", parts.tokenKey, 0o600);
  if (parts.exec) {
    const { argv, env = {}, cwd } = parts.exec;
    if (argv.length === 0) throw badPart("the exec part", "it names no program");
    add("exec/argv", joinNul(argv), 0o600);
    add("exec/env", joinNul(sorted(env).map(([name, value]) => `${name}=${value}`)), 0o600);
    if (cwd !== undefined) add("exec/cwd", joinNul([cwd]), 0o600);
  }
  return entries;
}

/** Each value ended by a NUL, so that an empty last one is not lost. */
function joinNul(values: readonly string[]): string {
  const bad = values.findIndex((value) => value.includes("\0"));
  if (bad >= 0) {
    throw new GatewayError({
      code: "usage",
      what: "Cannot pass the program and its environment to the guest",
      why: `value ${bad + 1} holds a NUL character`,
      fix: "leave the NUL out; no Unix program can be given one",
    });
  }
  return values.map((value) => `${value}\0`).join("");
}

function sorted(files: Readonly<Record<string, string>> | undefined): [string, string][] {
  return Object.entries(files ?? {}).sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0);
}

function checkName(name: string): string {
  if (!NAME_PATTERN.test(name)) {
    throw badPart(`the file "${name}"`, "its name is not plain and short");
  }
  return name;
}

function badPart(part: string, why: string): GatewayError {
  return new GatewayError({
    code: "bug",
    what: `Cannot put ${part} into the payload`,
    why,
    fix: "report this as a bug of gateway",
  });
}
