/**
 * One quick look whether registries and download places can be reached at all: a name and a TCP connection each, all at
 * once, through the mirrors and the proxy that a pull would take.
 * It must not send a byte, build anything, or judge what is there.
 *
 * @module
 */
import { abortError, describeError } from "../../vm/base/error.ts";
import { formatMs, raceAbort } from "../../vm/base/wait.ts";
import type { Registries } from "./registries.ts";

/** What a later pull needs. */
export interface Needs {
  /** References of images and charts. */
  readonly refs: readonly string[];
  /** Addresses of files. */
  readonly urls: readonly string[];
}

/** How the look is done. */
export interface LookOptions {
  readonly registries: Registries | undefined;
  readonly signal: AbortSignal;
  /** The environment's variables; the process's own by default. */
  readonly env?: (name: string) => string | undefined;
  /** Bound of the whole look; 2 s by default. */
  readonly timeoutMs?: number;
}

/** One end of a TCP connection. */
interface Place {
  readonly scheme: string;
  readonly hostname: string;
  readonly port: number;
  /** How it is called to people. */
  readonly words: string;
}

const LOOK_TIMEOUT_MS = 2000;
const HTTPS_PORT = 443;
const PORTS: Readonly<Record<string, number>> = { http: 80, https: HTTPS_PORT, socks5: 1080 };

/** What cannot be reached and why, on one line; undefined when all of it can. @throws the signal's reason. */
export async function whyUnreachable(
  needs: Needs,
  options: LookOptions,
): Promise<string | undefined> {
  const { registries, signal, env = (name) => Deno.env.get(name) } = options;
  const { timeoutMs = LOOK_TIMEOUT_MS } = options;
  const end = new AbortController();
  const late = new Error(`no answer within ${formatMs(timeoutMs)}`);
  const timer = setTimeout(() => end.abort(late), timeoutMs);
  const both = AbortSignal.any([signal, end.signal]);
  try {
    await Promise.all(
      placesOf(needs, registries).map((places) => reachOne(places, env, both)),
    );
    return undefined;
  } catch (error) {
    if (signal.aborted) throw abortError(signal);
    return describeError(error);
  } finally {
    clearTimeout(timer);
    // Whatever still knocks is not waited for.
    end.abort(late);
  }
}

/** For each thing that is needed the places of which one is enough. */
function placesOf({ refs, urls }: Needs, registries: Registries | undefined): string[][] {
  const mirrors = registries?.mirrors ?? {};
  const hosts = [...new Set(refs.map(registryOf))];
  const files = [...new Set(urls.map((url) => new URL(url).origin))];
  return [
    ...hosts.map((host) => [
      ...(mirrors[host] ?? mirrors["*"])?.endpoint ?? [],
      host === "docker.io" ? "registry-1.docker.io" : host,
    ]),
    ...files.map((origin) => [origin]),
  ];
}

/** The registry of a reference as people write it. */
export function registryOf(ref: string): string {
  const [first = "", rest] = ref.replace(/^oci:\/\//, "").split("/", 2);
  return rest !== undefined && /[.:]|^localhost$/.test(first) ? first : "docker.io";
}

async function reachOne(
  places: readonly string[],
  env: (name: string) => string | undefined,
  signal: AbortSignal,
): Promise<void> {
  const knocks = places.map((text) => knock(throughProxy(placeOf(text, "https"), env), signal));
  try {
    await Promise.any(knocks);
  } catch (error) {
    const reasons = (error as AggregateError).errors.map(describeError);
    throw new Error([...new Set(reasons)].join("; "));
  }
}

function placeOf(text: string, scheme: string): Place {
  const url = new URL(text.includes("://") ? text : `${scheme}://${text}`);
  const found = url.protocol.slice(0, -1);
  const hostname = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const port = Number(url.port) || (PORTS[found] ?? HTTPS_PORT);
  return { scheme: found, hostname, port, words: url.host };
}

/** The proxy that stands between, as Go's and Deno's HTTP take it from the environment. Its password is in no message. */
function throughProxy(place: Place, env: (name: string) => string | undefined): Place {
  const value = (name: string) => env(name) || env(name.toLowerCase()) || "";
  const proxy = value(place.scheme === "https" ? "HTTPS_PROXY" : "HTTP_PROXY");
  const loopback = /^(localhost|127(\.\d+){3}|::1)$/.test(place.hostname);
  if (proxy === "" || loopback || isExempt(place.hostname, value("NO_PROXY"))) return place;
  try {
    const found = placeOf(proxy, "http");
    return { ...found, words: `the proxy ${found.hostname}:${found.port}` };
  } catch {
    return place;
  }
}

/** Whether NO_PROXY names a host: itself, a domain above it, or all. */
function isExempt(hostname: string, list: string): boolean {
  return list.split(",").map((one) => one.trim().replace(/^\*?\./, "")).some((one) =>
    one !== "" && (one === "*" || hostname === one || hostname.endsWith(`.${one}`))
  );
}

async function knock({ hostname, port, words }: Place, signal: AbortSignal): Promise<void> {
  const connecting = Deno.connect({ hostname, port, signal });
  // One that comes too late is closed all the same.
  const closed = connecting.then((connection) => connection.close());
  try {
    await raceAbort(closed, signal);
  } catch (error) {
    throw new Error(`${words}: ${reasonOf(error)}`);
  }
}

function reasonOf(error: unknown): string {
  const text = describeError(error);
  if (/lookup address/.test(text)) return "no such host";
  if (error instanceof Deno.errors.ConnectionRefused) return "connection refused";
  return text.replace(/ \(os error \d+\)$/, "");
}
