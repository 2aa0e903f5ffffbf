/**
 * One small text file from an https address, for what a payload takes from a project's release page.
 * It must not keep anything, follow a redirect away from https, or read more than it has room for.
 *
 * @module
 */
import {
  abortError,
  causeOf,
  describeError,
  type ErrorCode,
  GatewayError,
} from "../../vm/base/error.ts";
import { formatMs } from "../../vm/base/wait.ts";
import { readAuthority } from "./guest_network.ts";

const TIMEOUT_MS = 30_000;
const MAX_BYTES = 4 * 1024 * 1024;
const MAX_REDIRECTS = 5;

/** How {@linkcode downloadText} may act. */
export interface DownloadOptions {
  readonly signal: AbortSignal;
  /** `--host-ca`: trusted beside the host's own authorities. */
  readonly hostCa?: string | null;
}

/**
 * The file's text, within 30 s and 4 MiB.
 *
 * @throws GatewayError `registry-unreachable`, `registry-untrusted`, `registry-denied`, `image-unknown` for nothing there
 * or no text, `usage` for an authority that cannot be read, or the signal's reason.
 */
export async function downloadText(url: string, options: DownloadOptions): Promise<string> {
  const { signal, hostCa } = options;
  const late = AbortSignal.timeout(TIMEOUT_MS);
  const own = hostCa ? [await readAuthority(hostCa)] : [];
  using client = Deno.createHttpClient({ caCerts: [...own, ...await hostAuthorities()] });
  try {
    const init = { signal: AbortSignal.any([signal, late]), client };
    return await textOf(url, await follow(url, init));
  } catch (error) {
    if (signal.aborted) throw abortError(signal);
    if (error instanceof GatewayError) throw error;
    if (late.aborted) {
      throw refuse(url, "registry-unreachable", `it did not come within ${formatMs(TIMEOUT_MS)}`);
    }
    const why = describeError(causeOf(error)).replace(
      /^error sending request for url \([^)]*\): /,
      "",
    );
    const untrusted = /certificate|UnknownIssuer/i.test(why);
    throw refuse(url, untrusted ? "registry-untrusted" : "registry-unreachable", why);
  }
}

/** Where Linux distributions and macOS keep the certificates of the authorities that their programs trust. */
const HOST_AUTHORITIES = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

/** The host's authorities, as pulls trust them: the runtime by itself trusts those it came with. */
async function hostAuthorities(): Promise<string[]> {
  const named = Deno.env.get("SSL_CERT_FILE");
  for (const path of named ? [named] : HOST_AUTHORITIES) {
    const text = await Deno.readTextFile(path).catch(() => "");
    if (text.includes("-----BEGIN CERTIFICATE-----")) return [text];
  }
  return [];
}

/** The first answer that is no redirect. */
async function follow(
  url: string,
  init: RequestInit & { readonly client: Deno.HttpClient },
): Promise<Response> {
  let next = url;
  for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
    if (new URL(next).protocol !== "https:") {
      throw refuse(url, "registry-untrusted", "it is not on https, or leads away from it");
    }
    const response = await fetch(next, { ...init, redirect: "manual" });
    const location = response.headers.get("location");
    if (response.status < 300 || response.status >= 400 || location === null) return response;
    await response.body?.cancel();
    next = new URL(location, next).href;
  }
  throw refuse(url, "registry-unreachable", `it leads on more than ${MAX_REDIRECTS} times`);
}

async function textOf(url: string, response: Response): Promise<string> {
  const { status } = response;
  if (status !== 200) {
    await response.body?.cancel();
    const code = status === 404 || status === 410
      ? "image-unknown"
      : status === 401 || status === 403
      ? "registry-denied"
      : "registry-unreachable";
    throw refuse(url, code, `it answered ${status} ${response.statusText}`.trim());
  }
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of response.body ?? []) {
    size += piece.length;
    if (size > MAX_BYTES) {
      throw refuse(url, "image-unknown", `it has more than ${MAX_BYTES} bytes`);
    }
    pieces.push(piece);
  }
  const bytes = new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer());
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw refuse(url, "image-unknown", "what came is no text");
  }
}

function refuse(url: string, code: ErrorCode, why: string): GatewayError {
  const fix = code === "registry-untrusted"
    ? "find out which server answers there"
    : "look at the address and at this host's network, and run the command again";
  return new GatewayError({ code, what: `Cannot download "${url}"`, why, fix });
}
