/**
 * The one error class of the project: what cannot be done, why, and what to do about it.
 * It must not print, exit, or know any room above vm/.
 *
 * @module
 */
import { plainText } from "./plain_text.ts";

/** Every code an operation can fail with; callers switch on it, people read what/why/fix. */
export type ErrorCode =
  | "usage"
  | "bug"
  | "interrupted"
  | "timeout"
  | "process-failed"
  | "tool-missing"
  | "build-failed"
  | "artifact-corrupt"
  | "signature-invalid"
  | "key-missing"
  | "key-exists"
  | "disk-full"
  | "disk-error"
  | "host-unsupported"
  | "host-full"
  | "port-in-use"
  | "port-forward-failed"
  | "path-too-long"
  | "instance-unknown"
  | "instance-stopped"
  | "instance-running"
  | "instance-locked"
  | "instance-schema"
  | "snapshot-unknown"
  | "snapshot-exists"
  | "vmm-missing"
  | "vmm-failed"
  | "vm-exited"
  | "guest-failed"
  | "guest-unreachable"
  | "state-disk-foreign"
  | "network-failed"
  | "service-not-ready"
  | "payload-invalid"
  | "pki-invalid"
  | "permission"
  | "file-foreign"
  | "settings-invalid"
  | "not-supported"
  | "deploy-failed"
  | "ssh-failed"
  | "image-platform"
  | "image-digest"
  | "image-unknown"
  | "registry-denied"
  | "registry-unreachable"
  | "registry-untrusted";

/** What a {@linkcode GatewayError} is made of; all four are required so that no error is vague. */
export interface GatewayErrorOptions {
  /** Stable, machine readable. */
  readonly code: ErrorCode;
  /** Starts with "Cannot …" and quotes the values it speaks of. No full stop at the end. */
  readonly what: string;
  /** One observed fact. */
  readonly why: string;
  /** A command to run or a file to read. */
  readonly fix: string;
  /** What was seen, line by line, for people; bounded by whoever gathers it. */
  readonly details?: readonly string[];
  /** The error underneath, kept for `--json` and for bug reports. */
  readonly cause?: unknown;
}

/** In characters. A reason can be what a program of a guest has printed, and errors are recorded. */
const MAX_WHY_LENGTH = 4000;

/** A failure a user can act on. Its `message` is what and why on one line; secrets must never be put in it. */
export class GatewayError extends Error {
  /** Tells it apart where classes are lost, as in a stack trace. */
  override readonly name = "GatewayError";
  /** Stable, machine readable. */
  readonly code: ErrorCode;
  /** What could not be done. */
  readonly what: string;
  /** The observed fact that made it so. */
  readonly why: string;
  /** What the user does next. */
  readonly fix: string;
  /** What was seen, line by line; empty for most. */
  readonly details: readonly string[];

  /** Builds the error from its parts. */
  constructor(options: GatewayErrorOptions) {
    const why = options.why.slice(0, MAX_WHY_LENGTH);
    super(`${options.what}: ${why}`, { cause: options.cause });
    this.code = options.code;
    this.what = options.what;
    this.why = why;
    this.fix = options.fix;
    this.details = options.details ?? [];
  }

  /** The process exit code this error maps to: 2 usage, 70 bug, 130 interrupted, else 1. */
  get exitCode(): number {
    switch (this.code) {
      case "usage":
        return 2;
      case "bug":
        return 70;
      case "interrupted":
        return 130;
      default:
        return 1;
    }
  }

  /** Plain JSON for `--json`, without the cause's stack. */
  toJSON(): {
    code: ErrorCode;
    what: string;
    why: string;
    fix: string;
    details?: readonly string[];
  } {
    const { code, what, why, fix, details } = this;
    return { code, what, why, fix, ...(details.length === 0 ? {} : { details }) };
  }
}

/** A usage error (exit code 2) for input the user typed. */
export function usageError(what: string, why: string, fix: string): GatewayError {
  return new GatewayError({ code: "usage", what, why, fix });
}

/** The error every aborted wait rejects with (exit code 130). */
export function interruptedError(why = "a signal arrived"): GatewayError {
  return new GatewayError({
    code: "interrupted",
    what: "Cannot go on",
    why,
    fix: "run the command again; what was finished is kept",
  });
}

/** The signal's reason as an error: a GatewayError stays itself, anything else becomes `interrupted`. */
export function abortError(signal: AbortSignal): GatewayError {
  return signal.reason instanceof GatewayError ? signal.reason : interruptedError();
}

/** An error as people read it: three lines, which vm/libkrun/driver.ts reads too, and what was seen. */
export function errorText({ what, why, fix, details }: GatewayError): string {
  const seen = details.map((line) => `\n  ${line}`.trimEnd()).join("");
  // Any part can hold words of the guest.
  return plainText(`error: ${what}\n  why: ${why}\n  fix: ${fix}${seen}`);
}

/** The text of anything thrown, on one line, for a `why`. */
export function describeError(error: unknown): string {
  if (error instanceof GatewayError) return error.message;
  const text = error instanceof Error ? error.message : String(error);
  return text.slice(0, MAX_WHY_LENGTH).replace(/\s+/g, " ").trim() || "no reason was given";
}

/** What a library's error was made of, such as the broken connection beneath "fetch failed"; the error itself without. */
export function causeOf(error: unknown): unknown {
  return error instanceof Error && error.cause instanceof Error ? error.cause : error;
}

/** Turns "no space left" into a `disk-full` error that names the path; anything else passes through. */
export function asDiskFull(error: unknown, path: string): unknown {
  // A program that we ran reports the full disk in its own words.
  if (error instanceof GatewayError && error.code !== "process-failed") return error;
  const text = error instanceof Error ? error.message : String(error);
  if (!NO_SPACE.test(text)) return error;
  return new GatewayError({
    code: "disk-full",
    what: `Cannot write "${path}"`,
    why: "the file system it is on has no space left",
    fix: "free some space, or point XDG_CACHE_HOME and XDG_DATA_HOME at a larger disk",
    cause: error,
  });
}

/** ENOSPC, EDQUOT, and EFBIG: a file system too small for a disk image, even a sparse one. */
const NO_SPACE =
  /os error (28|122|27)\b|ENOSPC|EDQUOT|EFBIG|no space left|quota exceeded|file too large/i;

/** What a user without the permission, a read-only file system or a file in place of a folder gives; with the reason in words. */
const REFUSED: readonly (readonly [RegExp, string])[] = [
  [/os error 13\b|EACCES/, "you do not have the permission"],
  [/os error 1\b|EPERM/, "the operation is not permitted"],
  [/os error 30\b|EROFS/, "the file system is read-only"],
  [/os error 20\b|ENOTDIR/, "a file is where a folder is needed"],
  [/os error 17\b.*mkdir/, "a file is where a folder is needed"],
  [/os error 40\b|ELOOP/, "a symbolic link leads back to itself"],
];

/** EIO, EUCLEAN, EREMOTEIO, and ESTALE of a file server. */
const BROKEN = /os error (5|117|121|116)\b|EIO\b|EUCLEAN|EREMOTEIO|ESTALE/;

/**
 * Turns what a file system refuses into an error that a user can act on: `permission`, `disk-full` or `disk-error`, with the path
 * that the runtime names. Anything else passes through.
 */
export function asHostError(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof GatewayError) return error;
  // Ours to grant, not the host's.
  if (error instanceof Deno.errors.NotCapable) return error;
  const path = /'(\/[^']*)'/.exec(error.message)?.[1];
  const full = asDiskFull(error, path ?? "a file");
  if (full !== error) return full;
  if (BROKEN.test(error.message)) return diskError(error, path);
  const why = REFUSED.find(([pattern]) => pattern.test(error.message))?.[1];
  if (why === undefined) return error;
  return permissionError(
    path === undefined ? "Cannot use a file of this host" : `Cannot use "${path}"`,
    path === undefined ? `${why}: ${describeError(error)}` : why,
    error,
  );
}

function diskError(cause: Error, path: string | undefined): GatewayError {
  return new GatewayError({
    code: "disk-error",
    what: path === undefined ? "Cannot use a file of this host" : `Cannot use "${path}"`,
    why: `its file system reports ${describeError(cause)}`,
    fix: "check the disk and the host's kernel log; gateway has removed nothing",
    cause,
  });
}

/** A `permission` error with the usual way on. */
export function permissionError(what: string, why: string, cause?: unknown): GatewayError {
  return new GatewayError({
    code: "permission",
    what,
    why,
    fix: "check its owner and mode with `ls -ld`, or set HOME and the XDG_* variables to folders " +
      "of your own",
    cause,
  });
}
