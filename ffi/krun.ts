/**
 * This room calls C: libkrun's functions as a table, a context, C strings, and finding the library. It imports nothing
 * of ours, and only vm/libkrun uses it. Read symbols.ts next, then library.ts.
 *
 * A libkrun context: one VM to be, described call by call and then entered. Every return code is checked, every string
 * lives as long as the context.
 * It must not choose anything: what is not asked for is not there, and the implicit devices are turned off by name.
 *
 * @module
 */
import { cString, cStringArray } from "./cstring.ts";
import { KrunError } from "./error.ts";
import type { KrunFeature, KrunFunctions, KrunLibrary } from "./library.ts";
import type { KrunSymbolName } from "./symbols.ts";

/** How a kernel file is packed. */
const KERNEL_FORMATS = { "image-arm64": 0, "elf": 1, "bzimage-zstd": 5 } as const;
/** How a disk file is laid out. */
const DISK_FORMATS = { raw: 0, qcow2: 1, vmdk: 2 } as const;
/** What a guest's flush does: nothing, to the host's cache, to the disk. */
const SYNC_MODES = { none: 0, relaxed: 1, full: 2 } as const;
/** How much libkrun says. */
const LOG_LEVELS = { off: 0, error: 1, warn: 2, info: 3, debug: 4, trace: 5 } as const;
/** What the guest's own socket calls are turned into calls of the host for (TSI). */
const TSI_FEATURES = { inet: 1, unix: 2 } as const;

/** The flag with which libkrun greets gvproxy as vfkit does. */
const NET_FLAG_VFKIT = 1;

/** A kernel of our own. */
export interface KernelOptions {
  readonly path: string;
  readonly format: keyof typeof KERNEL_FORMATS;
  readonly initramfs?: string;
  readonly cmdline: string;
}

/** A disk; the guest reads `id` as its serial. */
export interface DiskOptions {
  readonly id: string;
  readonly path: string;
  readonly format: keyof typeof DISK_FORMATS;
  readonly readOnly: boolean;
  readonly sync: keyof typeof SYNC_MODES;
}

/** A network card whose frames go through a unix socket. */
export interface NetOptions {
  readonly path: string;
  /** Six bytes. */
  readonly mac: Uint8Array<ArrayBuffer>;
  /** Bits of virtio's own offload features. */
  readonly features?: number;
  /** Datagrams only: greet as vfkit does, which gvproxy waits for. */
  readonly vfkit?: boolean;
}

/** The address "5a:94:ef:e4:0c:ee" as bytes. @throws KrunError. */
export function macBytes(mac: string): Uint8Array<ArrayBuffer> {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac)) {
    throw argument("krun_add_net_unixstream", `"${mac}" is not a hardware address`);
  }
  return Uint8Array.from(mac.split(":"), (part) => parseInt(part, 16));
}

type Buffer = Uint8Array<ArrayBuffer> | BigUint64Array<ArrayBuffer>;

/** One VM to be; disposing frees what was not entered. */
export class KrunContext implements Disposable {
  readonly #library: KrunLibrary;
  readonly #id: number;
  /** What C was given pointers to. */
  readonly #kept: Buffer[] = [];
  #free = false;

  private constructor(library: KrunLibrary, id: number) {
    this.#library = library;
    this.#id = id;
  }

  /** Creates a context. @throws KrunError, also for a feature that the library lacks. */
  static create(library: KrunLibrary, features: readonly KrunFeature[] = []): KrunContext {
    library.requireFeatures(features);
    const id = library.get("krun_create_ctx")();
    if (id < 0) throw KrunError.ofCall("krun_create_ctx", id);
    return new KrunContext(library, id);
  }

  /** How much the library says on stderr; once a process. */
  static setLogLevel(library: KrunLibrary, level: keyof typeof LOG_LEVELS): void {
    check("krun_set_log_level", library.get("krun_set_log_level")(LOG_LEVELS[level]));
  }

  /** CPUs (1 to 255) and memory in MiB. */
  setVmConfig(cpus: number, memoryMiB: number): void {
    const name = "krun_set_vm_config";
    integer(name, "the number of CPUs", cpus, 1, 255);
    integer(name, "the memory in MiB", memoryMiB, 1, 0xffff_ffff);
    this.#call(name, (f) => f(this.#id, cpus, memoryMiB));
  }

  /** A kernel of our own; without one the kernel in libkrunfw is booted. */
  setKernel({ path, format, initramfs, cmdline }: KernelOptions): void {
    const name = "krun_set_kernel";
    const [file, line] = [this.#string(name, path), this.#string(name, cmdline)];
    const initrd = initramfs === undefined ? null : this.#string(name, initramfs);
    this.#call(name, (f) => f(this.#id, file, KERNEL_FORMATS[format], initrd, line));
  }

  /** A folder of the host as the root file system, by virtio-fs. */
  setRoot(path: string): void {
    const name = "krun_set_root";
    const folder = this.#string(name, path);
    this.#call(name, (f) => f(this.#id, folder));
  }

  /** A disk; the guest meets them in the order of the calls. */
  addDisk({ id, path, format, readOnly, sync }: DiskOptions): void {
    const name = "krun_add_disk3";
    const [serial, file] = [this.#string(name, id), this.#string(name, path)];
    this.#call(
      name,
      (f) => f(this.#id, serial, file, DISK_FORMATS[format], readOnly, false, SYNC_MODES[sync]),
    );
  }

  /** Lets libkrunfw's init go over to a disk as the root. "auto" finds the file system's type. */
  setRootDiskRemount(device: string, fstype: string, options?: string): void {
    const name = "krun_set_root_disk_remount";
    const [disk, type] = [this.#string(name, device), this.#string(name, fstype)];
    const words = options === undefined ? null : this.#string(name, options);
    this.#call(name, (f) => f(this.#id, disk, type, words));
  }

  /** Shares a folder of the host under a tag. Read-only needs libkrun 1.18. */
  addVirtiofs(tag: string, path: string, options: { readonly readOnly: boolean }): void {
    const name = options.readOnly ? "krun_add_virtiofs3" : "krun_add_virtiofs2";
    const [label, folder] = [this.#string(name, tag), this.#string(name, path)];
    if (options.readOnly) {
      this.#call("krun_add_virtiofs3", (f) => f(this.#id, label, folder, 0n, true));
    } else this.#call("krun_add_virtiofs2", (f) => f(this.#id, label, folder, 0n));
  }

  /** A network card on a stream socket, as gvproxy and passt speak it for QEMU. */
  addNetUnixStream({ path, mac, features = 0 }: NetOptions): void {
    const name = "krun_add_net_unixstream";
    const [socket, address] = [this.#string(name, path), this.#keep(sixBytes(name, mac))];
    this.#call(name, (f) => f(this.#id, socket, -1, address, features, 0));
  }

  /** A network card on a datagram socket, as gvproxy speaks it for vfkit. */
  addNetUnixDatagram({ path, mac, features = 0, vfkit = true }: NetOptions): void {
    const name = "krun_add_net_unixgram";
    const [socket, address] = [this.#string(name, path), this.#keep(sixBytes(name, mac))];
    const flags = vfkit ? NET_FLAG_VFKIT : 0;
    this.#call(name, (f) => f(this.#id, socket, -1, address, features, flags));
  }

  /** No vsock unless {@linkcode addVsock} asks for one: without this libkrun adds one, with TSI where there is no card. */
  disableImplicitVsock(): void {
    this.#call("krun_disable_implicit_vsock", (f) => f(this.#id));
  }

  /** A vsock, after {@linkcode disableImplicitVsock}; with TSI only for the families that are named. */
  addVsock(tsi: readonly (keyof typeof TSI_FEATURES)[] = []): void {
    const bits = tsi.reduce((sum, family) => sum | TSI_FEATURES[family], 0);
    this.#call("krun_add_vsock", (f) => f(this.#id, bits));
  }

  /** Joins a vsock port and a unix socket: `listen` for connections from the host to the guest. */
  addVsockPort(port: number, path: string, options: { readonly listen: boolean }): void {
    const name = "krun_add_vsock_port2";
    integer(name, "the vsock port", port, 1, 0xffff_ffff);
    const socket = this.#string(name, path);
    this.#call(name, (f) => f(this.#id, port, socket, options.listen));
  }

  /** The kernel's console (hvc0) goes to a file, which is emptied. */
  setConsoleOutput(path: string): void {
    const name = "krun_set_console_output";
    const file = this.#string(name, path);
    this.#call(name, (f) => f(this.#id, file));
  }

  /** No console unless one is added. */
  disableImplicitConsole(): void {
    this.#call("krun_disable_implicit_console", (f) => f(this.#id));
  }

  /** A console device for named ports; returns its number. */
  addConsole(): number {
    const name = "krun_add_virtio_console_multiport";
    return check(name, this.#library.get(name)(this.#id));
  }

  /** A named port; the descriptors are duplicated, -1 is none. */
  addConsolePort(console: number, portName: string, input: number, output: number): void {
    const name = "krun_add_console_port_inout";
    const label = this.#string(name, portName);
    this.#call(name, (f) => f(this.#id, console, label, input, output));
  }

  /** A serial line (ttyS0); the descriptors become the library's, -1 is none. */
  addSerial(input: number, output: number): void {
    this.#call("krun_add_serial_console_default", (f) => f(this.#id, input, output));
  }

  /** Which console the kernel in libkrunfw speaks to, such as "ttyS0". */
  setKernelConsole(id: string): void {
    const name = "krun_set_kernel_console";
    const device = this.#string(name, id);
    this.#call(name, (f) => f(this.#id, device));
  }

  /** Limits of libkrunfw's init, "RESOURCE=SOFT:HARD" each. */
  setRlimits(limits: readonly string[]): void {
    const name = "krun_set_rlimits";
    const array = this.#array(name, limits);
    this.#call(name, (f) => f(this.#id, array));
  }

  /** The working folder of libkrunfw's init. */
  setWorkdir(path: string): void {
    const name = "krun_set_workdir";
    const folder = this.#string(name, path);
    this.#call(name, (f) => f(this.#id, folder));
  }

  /** The program of libkrunfw's init; the environment is given whole, since without one C would pass on ours. */
  setExec(path: string, argv: readonly string[], env: readonly string[]): void {
    const name = "krun_set_exec";
    const program = this.#string(name, path);
    const [words, variables] = [this.#array(name, argv), this.#array(name, env)];
    this.#call(name, (f) => f(this.#id, program, words, variables));
  }

  /** The environment of libkrunfw's init. */
  setEnv(env: readonly string[]): void {
    const name = "krun_set_env";
    const variables = this.#array(name, env);
    this.#call(name, (f) => f(this.#id, variables));
  }

  /** A descriptor that shuts the guest down when it is written; undefined where this build has none. */
  shutdownEventFd(): number | undefined {
    const name = "krun_get_shutdown_eventfd";
    return this.#library.has(name) ? check(name, this.#library.get(name)(this.#id)) : undefined;
  }

  /** Boots. It returns only with an error: else it ends this process with the guest, and no `finally` runs. */
  startEnter(): never {
    this.#free = true;
    const code = this.#library.get("krun_start_enter")(this.#id);
    throw KrunError.ofCall("krun_start_enter", code);
  }

  /** Frees a context that was not entered. Never throws. */
  [Symbol.dispose](): void {
    if (this.#free) return;
    this.#free = true;
    if (this.#library.has("krun_free_ctx")) this.#library.get("krun_free_ctx")(this.#id);
  }

  #call<N extends KrunSymbolName>(
    name: N,
    call: (f: KrunFunctions[N]) => number,
  ): void {
    check(name, call(this.#library.get(name)));
  }

  #string(name: KrunSymbolName, value: string): Uint8Array<ArrayBuffer> {
    const buffer = cString(value, name);
    this.#kept.push(buffer);
    return buffer;
  }

  #array(name: KrunSymbolName, values: readonly string[]): Uint8Array<ArrayBuffer> {
    const { pointers, strings } = cStringArray(values, name);
    this.#kept.push(pointers, ...strings);
    return new Uint8Array(pointers.buffer);
  }

  #keep(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    this.#kept.push(bytes);
    return bytes;
  }
}

function check(name: KrunSymbolName, code: number): number {
  if (code < 0) throw KrunError.ofCall(name, code);
  return code;
}

function argument(name: string, text: string): KrunError {
  return new KrunError("argument", name, `${name}: ${text}`);
}

/** C would take the number modulo its width. */
function integer(name: string, what: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw argument(name, `${what} is ${value}, and ${least} to ${most} are allowed`);
}

function sixBytes(name: string, mac: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (mac.length === 6) return mac;
  throw argument(name, `a hardware address has 6 bytes, not ${mac.length}`);
}
