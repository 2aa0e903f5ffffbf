/**
 * The process that becomes the VM: `gateway __vmm DIR/vm.json`. It gives up every permission but reading files and calling
 * C, reads the plan, describes the VM to libkrun, and enters it; libkrun then ends the process with the guest.
 * It must not own anything that has to be cleaned up, and must not be imported by the supervisor.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { KrunError } from "../../ffi/error.ts";
import { KrunContext } from "../../ffi/krun.ts";
import { KrunLibrary, LIBRARY_VARIABLE } from "../../ffi/library.ts";
import { UnixSockets } from "../../ffi/unix_socket.ts";
import { GatewayError, usageError } from "../base/error.ts";
import { cacheDir, runtimeDir } from "../base/layout.ts";
import { checkKernelFile } from "../machine/kernel_file.ts";
import { parseVmSpec, type VmSpec } from "../machine/spec.ts";
import { configureVm, type PortDescriptor, REQUIRED_FEATURES, REQUIRED_SYMBOLS } from "./config.ts";
import { findFirmware, findLibraries, noLibrary } from "./find.ts";

/** How long the supervisor may take to connect to the ports. */
const CONNECT_TIMEOUT_MS = 30_000;

/** Folders that a plan may name, known before the right to ask for them is gone. */
interface Places {
  /** The folder of vm.json: what the VM writes is in it. */
  readonly dir: string;
  /** All sockets of ours. */
  readonly runtime: string;
  /** Kernels and images. */
  readonly cache: string;
}

/**
 * Becomes the VM. `say` gets lines for the VMM's log.
 *
 * @throws GatewayError: `usage` for bad words, `instance-schema` for a bad plan, `vmm-missing` for a bad library,
 * `vmm-failed` for a VM that cannot be entered.
 */
export function vmmChild(args: readonly string[], say: (line: string) => void): never {
  const [path, ...others] = args;
  if (path === undefined || others.length > 0 || !path.startsWith("/")) {
    throw usageError(
      "Cannot start a VM's process",
      "it takes one word, the absolute path of a vm.json",
      "start VMs with `gateway up`; this is how it calls itself",
    );
  }
  const places = { dir: dirname(path), runtime: runtimeDir(), cache: cacheDir() };
  const variable = Deno.env.get(LIBRARY_VARIABLE);
  const uid = Deno.uid();
  revokeAllButReadAndFfi();
  const spec = readPlan(path, places);
  const [library] = findLibraries({ variable, uid });
  if (!library) throw noLibrary();
  checkFirmware(path, spec, library.path);
  checkKernelFile(spec.kernel);
  try {
    enter(spec, library.path, say);
  } catch (error) {
    throw error instanceof KrunError ? krunFailure(error, library.path, spec) : error;
  }
}

/** After this, what runs in this process reads files and calls C, and that is all. */
export function revokeAllButReadAndFfi(): void {
  for (const name of ["run", "write", "net", "env", "sys", "import"] as const) {
    Deno.permissions.revokeSync({ name });
  }
}

function enter(spec: VmSpec, libraryPath: string, say: (line: string) => void): never {
  const library = KrunLibrary.open(libraryPath, findFirmware(libraryPath));
  library.requireFeatures(REQUIRED_FEATURES);
  library.requireSymbols(REQUIRED_SYMBOLS);
  KrunContext.setLogLevel(library, "warn");
  const krun: KrunContext = KrunContext.create(library);
  configureVm(krun, spec, connectPorts(spec));
  say(
    `entering "${spec.name}" with libkrun ${library.version}, ${new Date().toISOString()}`,
  );
  krun.startEnter();
}

/** Listens at every port, then takes the supervisor's connections in the order of the plan. */
function connectPorts(spec: VmSpec): PortDescriptor[] {
  if (spec.consolePorts.length === 0) return [];
  using sockets = new UnixSockets();
  const listening = spec.consolePorts.map((port) => ({
    ...port,
    listener: sockets.listen(port.socketPath),
  }));
  return listening.map(({ name, socketPath, listener }) => ({
    name,
    fd: sockets.accept(listener, socketPath, CONNECT_TIMEOUT_MS),
  }));
}

/**
 * Reads and checks the plan.
 *
 * @throws GatewayError `instance-schema` naming the first thing that is wrong.
 */
function readPlan(path: string, places: Places): VmSpec {
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    throw badPlan(path, error instanceof Deno.errors.NotFound ? "it is not there" : String(error));
  }
  const spec = parseVmSpec(text, path);
  const own = [places.dir];
  const sockets = [places.dir, places.runtime];
  const readable = [places.dir, places.cache];
  const checks: readonly (readonly [string, string, readonly string[]])[] = [
    // The one inside libkrunfw is looked at when it is known which library there is.
    ...(spec.kernel.format === "libkrunfw"
      ? []
      : [["kernel.path", spec.kernel.path, readable] as const]),
    ...spec.disks.map(({ path, readonly }, at) =>
      [`disks.${at}.path`, path, readonly ? readable : own] as const
    ),
    ["consoleLogPath", spec.consoleLogPath, own],
    ["vmmLogPath", spec.vmmLogPath, own],
    // A VM that is no instance keeps its sockets in its own folder.
    ...(spec.runtimeDir === places.dir ? [] : [["runtimeDir", spec.runtimeDir, sockets] as const]),
    ...spec.consolePorts.map(({ socketPath }, at) =>
      [`consolePorts.${at}.socketPath`, socketPath, [spec.runtimeDir]] as const
    ),
    ...(spec.net && spec.net.transport !== "tsi"
      ? [["net.socketPath", spec.net.socketPath, [spec.runtimeDir]] as const]
      : []),
  ];
  const outside = checks.find(([, file, allowed]) => !allowed.some((dir) => isInside(file, dir)));
  if (!outside) return spec;
  const [field, file, allowed] = outside;
  throw badPlan(path, `${field} is "${file}", which is not in ${allowed.join(" or ")}`);
}

/** A plan may name no other library to be opened than the one that belongs to libkrun. */
function checkFirmware(path: string, { kernel }: VmSpec, libraryPath: string): void {
  const firmware = findFirmware(libraryPath);
  if (kernel.format !== "libkrunfw" || kernel.path === firmware) return;
  const found = firmware === undefined ? "there is none" : `that is "${firmware}"`;
  throw badPlan(path, `kernel.path is "${kernel.path}", not the libkrunfw of libkrun: ${found}`);
}

function isInside(path: string, dir: string): boolean {
  return path === join(path) && path.startsWith(`${dir}/`);
}

function badPlan(path: string, why: string): GatewayError {
  return new GatewayError({
    code: "instance-schema",
    what: `Cannot boot the plan "${path}"`,
    why,
    fix: "it was changed by hand: start the instance with `gateway up`, which writes it anew",
  });
}

function krunFailure(error: KrunError, libraryPath: string, spec: VmSpec): GatewayError {
  const library = error.kind === "load" || error.kind === "symbol" || error.kind === "feature";
  return new GatewayError({
    code: library ? "vmm-missing" : "vmm-failed",
    what: library
      ? `Cannot use "${libraryPath}" as libkrun`
      : `Cannot boot "${spec.name}" with libkrun`,
    why: error.message,
    fix: library
      ? "run `gateway build libkrun`, or name another library with --libkrun"
      : `read what libkrun said before: ${spec.vmmLogPath}`,
    cause: error,
  });
}
