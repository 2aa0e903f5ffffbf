/**
 * A unix socket as a plain file descriptor, by libc: Deno's own sockets do not tell their descriptor, and libkrun wants
 * one. Only what one side of one connection needs.
 * It must not be used where Deno's own sockets do.
 *
 * @module
 */
import { errnoName } from "./errno.ts";
import { KrunError } from "./error.ts";
import { type OpenFunctions, openFunctions } from "./functions.ts";

const SYMBOLS = {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  listen: { parameters: ["i32", "i32"], result: "i32" },
  poll: { parameters: ["buffer", "usize", "i32"], result: "i32" },
  accept: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
} as const;

const ERRNO = {
  linux: { __errno_location: { parameters: [], result: "pointer" } },
  darwin: { __error: { parameters: [], result: "pointer" } },
} as const;

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const POLLIN = 1;
/** Bytes of a path in sockaddr_un, with its NUL, on the host that has fewer. */
const PATH_MAX = 104;

/** libc, opened; disposing closes it. */
export class UnixSockets implements Disposable {
  readonly #libc: OpenFunctions<typeof SYMBOLS>;
  readonly #errno: () => number;
  readonly #closeErrno: () => void;

  /** Opens the C library that this process runs with. */
  constructor(os: string = Deno.build.os) {
    const path = os === "darwin" ? "/usr/lib/libSystem.B.dylib" : "libc.so.6";
    this.#libc = openFunctions(path, SYMBOLS);
    if (os === "darwin") {
      const library = openFunctions(path, ERRNO.darwin);
      this.#errno = () => readInt(library.symbols.__error());
      this.#closeErrno = () => library.close();
    } else {
      const library = openFunctions(path, ERRNO.linux);
      this.#errno = () => readInt(library.symbols.__errno_location());
      this.#closeErrno = () => library.close();
    }
  }

  /**
   * Listens at a path that must not exist yet; its permissions are this process's umask.
   *
   * @returns the listening descriptor.
   * @throws KrunError with errno's name.
   */
  listen(path: string): number {
    const address = socketAddress(path);
    const fd = this.#check("socket", path, this.#libc.symbols.socket(AF_UNIX, SOCK_STREAM, 0));
    this.#check("bind", path, this.#libc.symbols.bind(fd, address, address.length));
    this.#check("listen", path, this.#libc.symbols.listen(fd, 1));
    return fd;
  }

  /**
   * Waits for the one connection, closes the listening descriptor, and returns the connection's.
   *
   * @throws KrunError when nobody connects within the bound.
   */
  accept(listener: number, path: string, timeoutMs: number): number {
    const request = new Uint8Array(8);
    const view = new DataView(request.buffer);
    view.setInt32(0, listener, true);
    view.setInt16(4, POLLIN, true);
    const ready = this.#check("poll", path, this.#libc.symbols.poll(request, 1n, timeoutMs));
    if (ready === 0) {
      throw new KrunError("call", "poll", `nobody connected to "${path}" within ${timeoutMs} ms`);
    }
    const fd = this.#check("accept", path, this.#libc.symbols.accept(listener, null, null));
    this.#libc.symbols.close(listener);
    return fd;
  }

  #check(name: string, path: string, result: number): number {
    if (result >= 0) return result;
    const number = this.#errno();
    throw new KrunError("call", name, `${name} of "${path}": ${errnoName(number)}`, -number);
  }

  /** Closes the library; descriptors stay open. */
  [Symbol.dispose](): void {
    this.#closeErrno();
    this.#libc.close();
  }
}

function readInt(pointer: Deno.PointerValue): number {
  return pointer === null ? 0 : new Deno.UnsafePointerView(pointer).getInt32();
}

/** sockaddr_un; macOS begins it with its length in one byte. */
export function socketAddress(
  path: string,
  os: string = Deno.build.os,
): Uint8Array<ArrayBuffer> {
  const bytes = new TextEncoder().encode(path);
  if (bytes.length >= PATH_MAX || bytes.length === 0 || bytes.includes(0)) {
    throw new KrunError(
      "argument",
      "bind",
      `the socket path "${path}" has ${bytes.length} bytes; 1 to ${
        PATH_MAX - 1
      } without NUL are allowed`,
    );
  }
  const address = new Uint8Array(2 + bytes.length + 1);
  if (os === "darwin") address.set([address.length, AF_UNIX]);
  else new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(bytes, 2);
  return address;
}
