/**
 * Names of error numbers, which differ between Linux and macOS above 34.
 * It must not ask the operating system: strerror's texts depend on the user's language.
 *
 * @module
 */

const COMMON = [
  ...["OK", "EPERM", "ENOENT", "ESRCH", "EINTR", "EIO", "ENXIO", "E2BIG", "ENOEXEC", "EBADF"],
  ...["ECHILD", "EAGAIN", "ENOMEM", "EACCES", "EFAULT", "ENOTBLK", "EBUSY", "EEXIST", "EXDEV"],
  ...["ENODEV", "ENOTDIR", "EISDIR", "EINVAL", "ENFILE", "EMFILE", "ENOTTY", "ETXTBSY", "EFBIG"],
  ...["ENOSPC", "ESPIPE", "EROFS", "EMLINK", "EPIPE", "EDOM", "ERANGE"],
];

const ABOVE: Readonly<Record<"linux" | "darwin", Readonly<Record<number, string>>>> = {
  linux: {
    36: "ENAMETOOLONG",
    38: "ENOSYS",
    88: "ENOTSOCK",
    95: "ENOTSUP",
    97: "EAFNOSUPPORT",
    98: "EADDRINUSE",
    104: "ECONNRESET",
    107: "ENOTCONN",
    110: "ETIMEDOUT",
    111: "ECONNREFUSED",
  },
  darwin: {
    35: "EAGAIN",
    38: "ENOTSOCK",
    45: "ENOTSUP",
    47: "EAFNOSUPPORT",
    48: "EADDRINUSE",
    54: "ECONNRESET",
    57: "ENOTCONN",
    60: "ETIMEDOUT",
    61: "ECONNREFUSED",
    63: "ENAMETOOLONG",
    78: "ENOSYS",
    102: "EOPNOTSUPP",
  },
};

/** The name of a positive error number, such as "EINVAL". */
export function errnoName(number: number, os: string = Deno.build.os): string {
  // On macOS 11 is EDEADLK; EAGAIN is 35 there.
  if (os === "darwin" && number === 11) return "EDEADLK";
  return COMMON[number] ?? ABOVE[os === "darwin" ? "darwin" : "linux"][number] ?? `errno ${number}`;
}
