/**
 * This room is the guest's network on the host: gvproxy (a Go program in gvproxy/), forwards, host services, and ssh.
 * It starts no VM. Read egress.ts next, then forward.ts and ssh.ts.
 *
 * Starts our gvproxy and talks to its host-only API: forwards, leases, statistics.
 * It must not start VMs or choose ports.
 *
 * @module
 */
import { join } from "@std/path";
import * as v from "valibot";
import { clearedEnv } from "../vm/base/child_env.ts";
import { writeCacheFile } from "../vm/base/durable.ts";
import { abortError, describeError, type ErrorCode, GatewayError } from "../vm/base/error.ts";
import type { JsonValue, Span } from "../vm/base/event.ts";
import { socketPath } from "../vm/base/layout.ts";
import { connectUnix, readLines } from "../vm/base/lines.ts";
import { type ChildProcess, spawnChild } from "../vm/base/process.ts";
import { waitFor } from "../vm/base/wait.ts";
import type { HostService } from "../vm/instance/instance.ts";
import { type Egress, Refusal, type RefusedCounts } from "./egress.ts";
import { describeHolder, hostPort, LOOPBACK, portHolder } from "./forward.ts";
import { HOST_SERVICE_ADDRESS, hostServiceText } from "./host_service.ts";

/** How a gvproxy is started. */
export interface StartGvproxyOptions {
  /** Path of the program. */
  readonly binary: string;
  /** 0700 and short; the sockets and the configuration go here. */
  readonly socketDir: string;
  /** Written anew, 0600. */
  readonly logPath: string;
  /** Gets one line when gvproxy runs. */
  readonly span: Span;
  /** Ends the wait for its start. */
  readonly signal: AbortSignal;
  /** Ports of this host's loopback that the guest may reach from the start on. */
  readonly hostServices?: readonly HostService[];
  /** What the guest may reach through this host. */
  readonly egress?: Egress;
  /** Listen for datagrams too, as libkrun on a Mac sends them; by default on a Mac. */
  readonly vfkit?: boolean;
}

/** One forward as gvproxy has it, `host:port` on both sides. */
export interface GvproxyForward {
  /** What is forwarded. */
  readonly protocol: "tcp" | "udp";
  /** On this host. */
  readonly local: string;
  /** In the virtual network. */
  readonly remote: string;
}

/** How a gvproxy is confined. */
export interface GvproxyConfinement {
  /** Numeric id. */
  readonly user: number;
  /** Version; 0 where the host has none. */
  readonly landlock: number;
  /** What is missing and why; "" when nothing is. */
  readonly why: string;
}

const RefusedStats = v.object({
  refusedTcp: v.number(),
  refusedUdp: v.number(),
  refusedIcmp: v.number(),
  refusedDns: v.number(),
});

/** By what a gvproxy is confined, for people. */
export function gvproxyConfinementText({ landlock, why }: GvproxyConfinement): string {
  const by = Deno.build.os === "linux"
    ? [landlock > 0 ? `seccomp and Landlock ${landlock}` : "seccomp"]
    : [];
  return [...by, ...why === "" ? [] : [why]].join("; ");
}

/** It answers at once; on a host whose processors all had other work a call was seen to take more than 5 s. */
const CALL_TIMEOUT_MS = 15_000;

/** The client of a running gvproxy's API. */
export class GvproxyClient implements Disposable {
  readonly #http: Deno.HttpClient;

  /** Connects when it is first used. */
  constructor(apiSocket: string) {
    this.#http = Deno.createHttpClient({ proxy: { transport: "unix", path: apiSocket } });
  }

  /**
   * Opens a listener on the host that leads to the guest, and returns it as it is: port 0 becomes a free one, an empty
   * host 127.0.0.1. The same forward again is no error.
   *
   * @throws GatewayError `port-in-use` when the host's port is taken, `port-forward-failed` else.
   */
  async expose(local: string, remote: string, signal?: AbortSignal): Promise<GvproxyForward> {
    const body = { protocol: "tcp", local, remote };
    return await this.#call("POST", "/forwards", body, signal) as unknown as GvproxyForward;
  }

  /**
   * Opens a listener on this host's loopback, on a port that the host chooses unless one is given, and returns its number.
   *
   * @throws GatewayError as {@linkcode expose}.
   */
  async exposeLoopback(remote: string, port = 0): Promise<number> {
    const { local } = await this.expose(hostPort(LOOPBACK, port), remote);
    return Number(local.slice(local.lastIndexOf(":") + 1));
  }

  /** Closes a listener; connections made through it go on. @throws GatewayError `port-forward-failed`. */
  async unexpose(local: string, signal?: AbortSignal): Promise<void> {
    await this.#call("DELETE", "/forwards", { protocol: "tcp", local }, signal);
  }

  /** The open forwards. */
  async list(signal?: AbortSignal): Promise<GvproxyForward[]> {
    return await this.#call(
      "GET",
      "/forwards",
      undefined,
      signal,
    ) as unknown as GvproxyForward[];
  }

  /**
   * Opens a port of this host's loopback to the guest. The same service again is no error.
   *
   * @throws GatewayError `port-in-use` when the guest's port leads to another one, `port-forward-failed` else.
   */
  async addHostService(service: HostService, signal?: AbortSignal): Promise<void> {
    await this.#call("POST", "/services", { ...service }, signal);
  }

  /** Closes a host service and the connections to it. @throws GatewayError `port-forward-failed`. */
  async removeHostService(service: HostService, signal?: AbortSignal): Promise<void> {
    await this.#call("DELETE", "/services", { ...service }, signal);
  }

  /** The open host services, by port of the guest. */
  async hostServices(signal?: AbortSignal): Promise<HostService[]> {
    return await this.#call("GET", "/services", undefined, signal) as unknown as HostService[];
  }

  /** Counters, as gvproxy gives them. */
  async stats(signal?: AbortSignal): Promise<Readonly<Record<string, number>>> {
    return await this.#call("GET", "/stats", undefined, signal) as Record<string, number>;
  }

  /** What the guest was refused so far. */
  async refused(signal?: AbortSignal): Promise<RefusedCounts> {
    const stats = v.parse(RefusedStats, await this.stats(signal));
    const { refusedTcp: tcp, refusedUdp: udp, refusedIcmp: icmp, refusedDns: dns } = stats;
    return { tcp, udp, icmp, dns };
  }

  /** The first refusal of each kind, when it happens, until the signal or gvproxy ends it. */
  async *refusals(signal: AbortSignal): AsyncGenerator<Refusal> {
    const response = await fetch("http://gvproxy/refusals", { client: this.#http, signal });
    for await (const line of readLines(response.body!)) yield v.parse(Refusal, JSON.parse(line));
  }

  /** What gvproxy has given up: whom it runs as, by which Landlock its files are confined, and what is missing of that. */
  async confinement(signal?: AbortSignal): Promise<GvproxyConfinement> {
    const told = await this.#call("GET", "/confinement", undefined, signal);
    return told as unknown as GvproxyConfinement;
  }

  /** The guest's hardware addresses by IP address. */
  async leases(signal?: AbortSignal): Promise<Readonly<Record<string, string>>> {
    return await this.#call("GET", "/leases", undefined, signal) as Record<string, string>;
  }

  async #call(
    method: string,
    path: string,
    body: JsonValue | undefined,
    signal?: AbortSignal,
  ): Promise<JsonValue> {
    const bound = AbortSignal.timeout(CALL_TIMEOUT_MS);
    let response: Response;
    try {
      response = await fetch(`http://gvproxy${path}`, {
        method,
        client: this.#http,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: signal ? AbortSignal.any([signal, bound]) : bound,
      });
    } catch (error) {
      if (signal?.aborted) throw abortError(signal);
      const why = bound.aborted
        ? `it gave no answer within ${CALL_TIMEOUT_MS / 1000} s`
        : describeError(error);
      throw forwardError("port-forward-failed", body, why);
    }
    const reply = await response.json().catch(() => ({})) as JsonValue;
    if (response.ok) return reply;
    const { error, code } = reply as { error?: string; code?: string };
    const why = error ?? `gvproxy answered ${response.status}`;
    if (code !== "port-in-use") throw forwardError("port-forward-failed", body, why);
    throw forwardError("port-in-use", body, await nameHolder(body, why));
  }

  /** Closes the client's connections; gvproxy runs on. */
  [Symbol.dispose](): void {
    this.#http.close();
  }
}

/** gvproxy sees that a port is taken; /proc often shows by whom. */
async function nameHolder(body: JsonValue | undefined, why: string): Promise<string> {
  if (!why.endsWith("in use by another process")) return why;
  const [, address, port] = /^(.*):(\d+)$/.exec((body as { local: string }).local) ?? [];
  const holder = await portHolder(Number(port), address?.replace(/^\[|\]$/g, "") || undefined);
  return holder ? describeHolder(holder) : why;
}

function forwardError(code: ErrorCode, body: JsonValue | undefined, why: string): GatewayError {
  const { local, guestPort } = (body ?? {}) as { local?: string; guestPort?: number };
  const service = guestPort === undefined ? undefined : body as unknown as HostService;
  return new GatewayError({
    code,
    what: local
      ? `Cannot forward "${local}"`
      : service
      ? `Cannot change the host service "${hostServiceText(service)}"`
      : "Cannot talk to gvproxy",
    why,
    fix: code !== "port-in-use"
      ? "read gvproxy.log in the instance's folder"
      : service
      ? `choose another port of the guest: ${service.hostPort}:GUESTPORT`
      : "choose another port with --port, or stop what holds this one",
  });
}

/** What a gvproxy is started with. */
export interface GvproxyCommand {
  readonly program: string;
  /** The content of the file that `-config` names. */
  readonly config: Readonly<Record<string, unknown>>;
  /** It is ready once this is there. */
  readonly apiSocket: string;
}

/** A gvproxy of ours; disposing ends it. */
export interface RunningGvproxy extends AsyncDisposable {
  /** Its process. */
  readonly pid: number;
  readonly command: GvproxyCommand;
  /** Never rejects. */
  readonly exited: ChildProcess["exited"];
  /** Where QEMU's `-netdev stream` connects to. */
  readonly qemuSocket: string;
  /** Closed when gvproxy is disposed of. */
  readonly client: GvproxyClient;
}

/** Whom root's gvproxy becomes. It needs no file but settings that every user may read. */
const NOBODY = 65_534;

/** The socket a VMM connects to, in an instance's runtime folder. */
export function gvproxyNetSocket(
  socketDir: string,
  transport: "stream" | "unixgram" = "stream",
): string {
  return socketPath(socketDir, transport === "stream" ? "net" : "net-vfkit");
}

/** Where an instance's gvproxy serves its API. */
export function gvproxyApiSocket(socketDir: string): string {
  return socketPath(socketDir, "net-api");
}

/**
 * Starts gvproxy and waits until its API answers. It ends by itself when we do: its stdin is our pipe.
 *
 * @throws GatewayError `network-failed` with the end of its log.
 */
export async function startGvproxy(options: StartGvproxyOptions): Promise<RunningGvproxy> {
  const { socketDir, logPath, signal } = options;
  const qemuSocket = gvproxyNetSocket(socketDir);
  const vfkit = options.vfkit ?? Deno.build.os === "darwin";
  const vfkitSocket = vfkit ? gvproxyNetSocket(socketDir, "unixgram") : undefined;
  const api = gvproxyApiSocket(socketDir);
  const configPath = join(socketDir, "gvproxy.json");
  const config = {
    listenQemu: qemuSocket,
    listenVfkit: vfkitSocket,
    api,
    serviceIp: HOST_SERVICE_ADDRESS,
    hostServices: options.hostServices ?? [],
    egress: options.egress?.mode,
    allowNets: options.egress?.nets?.map(({ net, port }) => ({ net, port: port ?? undefined })),
    allowHosts: options.egress?.hosts,
    exitWithParent: true,
    // Datagrams are answered at the VMM's own socket, which only its user may reach.
    user: Deno.build.os === "linux" && Deno.uid() === 0 && !vfkit ? NOBODY : 0,
    logLevel: "info",
  };
  await writeCacheFile(configPath, JSON.stringify(config));
  const child = spawnChild("/bin/sh", {
    // The shell opens the private log and becomes gvproxy.
    args: [
      "-c",
      'umask 077; exec "$1" -config "$2" >"$3" 2>&1',
      "sh",
      options.binary,
      configPath,
      logPath,
    ],
    ...clearedEnv(),
    stdin: "piped",
    ownGroup: true,
  });
  try {
    await answering(child, api, logPath, signal);
  } catch (error) {
    await child[Symbol.asyncDispose]();
    throw error;
  }
  options.span.log("gvproxy started", { pid: child.pid });
  const client = new GvproxyClient(api);
  return {
    pid: child.pid,
    command: { program: options.binary, config, apiSocket: api },
    exited: child.exited,
    qemuSocket,
    client,
    async [Symbol.asyncDispose]() {
      client[Symbol.dispose]();
      await child.stop(2000);
      // Of root's it can no longer remove them itself.
      for (const path of [qemuSocket, vfkitSocket, api]) {
        if (path) await Deno.remove(path).catch(() => {});
      }
    },
  };
}

async function answering(
  child: ChildProcess,
  api: string,
  logPath: string,
  signal: AbortSignal,
): Promise<void> {
  // Its end ends the wait: there is nothing to wait for then.
  const ended = new AbortController();
  void child.exited.then(async () => ended.abort(await startError(logPath)));
  await waitFor({
    what: "gvproxy's API",
    probe: async () => {
      using conn = await connectUnix(api);
      return conn && true;
    },
    timeoutMs: 10_000,
    intervalMs: 4,
    signal: AbortSignal.any([signal, ended.signal]),
    code: "network-failed",
    hint: `read ${logPath}`,
  });
}

async function startError(logPath: string): Promise<GatewayError> {
  const text = await Deno.readTextFile(logPath).catch(() => "");
  return new GatewayError({
    code: "network-failed",
    what: "Cannot start gvproxy",
    why: text.trim().split("\n").at(-1)?.slice(0, 300) || "it ended at once",
    fix: `read ${logPath}`,
  });
}
