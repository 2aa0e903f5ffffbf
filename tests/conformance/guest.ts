/**
 * A guest of ours started through a driver, with the production code of every part: plan, payload, driver, ports, gvproxy.
 * It must not know which driver it is given.
 *
 * @module
 */
import { join } from "@std/path";
import { planVm } from "../../bootstrap/plan/plan.ts";
import { writePayload } from "../../bootstrap/start/payload_disk.ts";
import { gvproxyNetSocket, type RunningGvproxy, startGvproxy } from "../../net/gvproxy.ts";
import type { Arch } from "../../vm/base/arch.ts";
import { EventLog, type EventRecord } from "../../vm/base/event.ts";
import { connectUnix } from "../../vm/base/lines.ts";
import { settleWithin, waitFor } from "../../vm/base/wait.ts";
import { ControlPort } from "../../vm/machine/control_port.ts";
import type { VmSpec } from "../../vm/machine/spec.ts";
import { StdioPort } from "../../vm/machine/stdio_port.ts";
import type { RunningVm, Vmm } from "../../vm/machine/vmm.ts";

/** What a suite runs on. */
export interface Bench {
  readonly vmm: Vmm;
  /** The guest's processor; amd64 by default. */
  readonly arch?: Arch;
  readonly kernelPath: string;
  readonly rootImage: string;
  /** The program. */
  readonly gvproxy: string;
  /** Folders of guests are made here. */
  readonly dir: string;
  /** An address of this host that is not its loopback; undefined where it has none. */
  readonly hostAddress: string | undefined;
  readonly emulated: boolean;
  readonly tscKHz: number | null;
  /** A folder with `base.raw`, 8 MiB of dots, and `over.qcow2` that lies over it; undefined where nobody made it. */
  readonly layeredDisk?: string;
  /** How long one guest may take from its start to its end. */
  readonly timeoutMs: number;
}

/** How a guest may differ. */
export interface GuestOptions {
  readonly argv: readonly string[];
  readonly cpus?: number;
  readonly net?: "gvproxy" | "none";
  /** The network by datagrams, as on a Mac. */
  readonly datagrams?: boolean;
  /** A disk with the serial "state", made by the case. */
  readonly stateDisk?: string;
  /** Changes the plan at the end. */
  readonly change?: (spec: VmSpec) => VmSpec;
}

/** A guest that runs; disposing ends it. */
export interface Guest extends AsyncDisposable {
  readonly vm: RunningVm;
  readonly spec: VmSpec;
  readonly control: ControlPort;
  readonly gvproxy: RunningGvproxy | undefined;
  /** Marks and warnings so far. */
  readonly records: readonly EventRecord[];
  readonly signal: AbortSignal;
  /** The program's streams to their end. */
  readonly run: (stdin?: Uint8Array) => Promise<Outcome>;
}

/** How the guest's program ended. */
export interface Outcome {
  readonly code: number;
  readonly stdout: Uint8Array;
  readonly text: string;
  readonly stderr: string;
}

/** Boots a guest whose one program is the given one. */
export async function bootGuest(bench: Bench, options: GuestOptions): Promise<Guest> {
  const records: EventRecord[] = [];
  const log = new EventLog();
  log.addSink((record) => void records.push(record));
  const span = log.span("guest");
  const signal = AbortSignal.timeout(bench.timeoutMs);
  const stack = new AsyncDisposableStack();
  try {
    const name = `c-${crypto.randomUUID().slice(0, 6)}`;
    const dir = join(bench.dir, name);
    await Deno.mkdir(dir, { mode: 0o700 });
    stack.defer(() => Deno.remove(dir, { recursive: true }).catch(() => {}));
    const gvproxy = options.net !== "gvproxy" ? undefined : stack.use(
      await startGvproxy({
        binary: bench.gvproxy,
        socketDir: dir,
        logPath: join(dir, "gvproxy.log"),
        span,
        signal,
        egress: { nets: bench.hostAddress ? [{ net: `${bench.hostAddress}/32`, port: null }] : [] },
        vfkit: options.datagrams,
      }),
    );
    const transport = options.datagrams ? "unixgram" : "stream";
    const socket = gvproxy ? gvproxyNetSocket(dir, transport) : null;
    const spec = specFor(bench, options, name, dir, socket);
    await writePayload(join(dir, "payload.tar"), {
      env: {
        GW_MODE: "exec",
        GW_NAME: name,
        GW_HOSTNAME: "gateway",
        GW_NET: options.net ?? "none",
        GW_CLOCK: (Date.now() / 1000).toFixed(3),
      },
      exec: { argv: options.argv, env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" }, cwd: "/" },
    });
    const vm = stack.use(await bench.vmm.start(spec, { span, signal }));
    const [controlPath, stdioPath] = spec.consolePorts.map(({ socketPath }) => socketPath);
    const control = stack.use(await ControlPort.connect(controlPath!, { span, signal }));
    const conn = await waitFor({
      what: "the stdio port",
      probe: () => connectUnix(stdioPath!),
      timeoutMs: 5000,
      intervalMs: 5,
      signal,
    });
    stack.defer(() => close(conn));
    const run = (stdin?: Uint8Array) => runStreams(new StdioPort(conn), stdin, bench.timeoutMs);
    const moved = stack.move();
    return {
      ...{ vm, spec, control, gvproxy, records, signal, run },
      [Symbol.asyncDispose]: () => moved.disposeAsync(),
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

function specFor(
  bench: Bench,
  options: GuestOptions,
  name: string,
  dir: string,
  netSocket: string | null,
): VmSpec {
  const spec = planVm({
    name,
    mode: "exec",
    cpus: options.cpus ?? 1,
    memoryMiB: 512,
    vmm: bench.vmm.name,
    arch: bench.arch ?? "amd64",
    os: options.datagrams ? "darwin" : "linux",
    kernelPath: bench.kernelPath,
    rootImage: bench.rootImage,
    dir,
    runtimeDir: dir,
    netSocket,
    stateDisk: null,
    ramLayers: false,
    emulated: bench.emulated,
    tscKHz: bench.tscKHz,
  });
  const [root, payload] = spec.disks;
  const state = options.stateDisk === undefined ? [] : [{
    serial: "state" as const,
    path: options.stateDisk,
    format: "raw" as const,
    readonly: false,
  }];
  const planned = { ...spec, disks: [root!, ...state, payload!] };
  return options.change ? options.change(planned) : planned;
}

async function runStreams(
  port: StdioPort,
  stdin: Uint8Array | undefined,
  timeoutMs: number,
): Promise<Outcome> {
  const [out, err]: [number[], number[]] = [[], []];
  const collect = (into: number[]) => ({
    write: (data: Uint8Array) => {
      for (const byte of data) into.push(byte);
      return Promise.resolve(data.length);
    },
  });
  const input = new ReadableStream<Uint8Array>({
    start(controller) {
      if (stdin) controller.enqueue(stdin);
      controller.close();
    },
  });
  const code = await settleWithin(
    port.run({ stdin: input, stdout: collect(out), stderr: collect(err) }),
    { what: "the program's end", timeoutMs },
  );
  const decode = (bytes: number[]) => new TextDecoder().decode(Uint8Array.from(bytes));
  return { code, stdout: Uint8Array.from(out), text: decode(out), stderr: decode(err) };
}

function close(conn: Deno.UnixConn): void {
  try {
    conn.close();
  } catch {
    // The VM closed it first.
  }
}

/** What to read when a case fails. */
export async function guestEvidence(spec: VmSpec): Promise<string> {
  const tail = async (path: string) =>
    (await Deno.readTextFile(path).catch(() => "(none)")).split("\n").slice(-15).join("\n");
  return `--- console\n${await tail(spec.consoleLogPath)}\n--- vmm\n${await tail(spec.vmmLogPath)}`;
}
