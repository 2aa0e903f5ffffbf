/**
 * What commands and supervisor share about what a guest may reach through this host: flags, the hosts that the user's
 * other settings name, and the events of refusals.
 *
 * @module
 */
import {
  type AllowedHost,
  type Egress,
  parseAllowedNet,
  refusalText,
  type RefusedCounts,
} from "../../net/egress.ts";
import { gvproxyApiSocket, GvproxyClient } from "../../net/gvproxy.ts";
import type { Span } from "../../vm/base/event.ts";
import { cleanText } from "../../vm/base/plain_text.ts";
import type { AllowedNet, InstanceConfig } from "../../vm/instance/instance.ts";
import { hostProxies } from "../images/guest_network.ts";
import { readRegistries, type Registries } from "../images/registries.ts";

/** `--allow-net` and `--no-allow-net`; undefined where the user said nothing. */
export function allowNetFlags(
  { allowNet }: { readonly allowNet?: readonly string[] | boolean },
): AllowedNet[] | false | undefined {
  if (allowNet === false) return false;
  return Array.isArray(allowNet) && allowNet.length > 0 ? allowNet.map(parseAllowedNet) : undefined;
}

/** What a start tells gvproxy. @throws GatewayError as readRegistries() does. */
export async function egressOf(config: InstanceConfig, span: Span): Promise<Egress> {
  const { egress: mode, allowNets: nets } = config;
  const proxies = config.network?.hostProxy ? hostProxies() : [];
  return { mode, nets, hosts: namedHosts(await readRegistries(span), proxies) };
}

const DEFAULT_PORTS: Readonly<Record<string, number>> = {
  "http:": 80,
  "https:": 443,
  "socks5:": 1080,
  "socks5h:": 1080,
};

/** Mirrors and hosts of registries.yaml and the given proxies, once each. Pure. */
export function namedHosts(
  registries: Registries | undefined,
  proxies: readonly string[],
): AllowedHost[] {
  const mirrors = Object.values(registries?.mirrors ?? {}).flatMap(({ endpoint }) =>
    endpoint ?? []
  );
  const urls = [
    ...[...mirrors, ...Object.keys(registries?.configs ?? {})].map((one) =>
      withScheme(one, "https")
    ),
    ...proxies.map((one) => withScheme(one, "http")),
  ];
  const found = new Map<string, AllowedHost>();
  for (const url of urls) {
    if (!URL.canParse(url)) continue; // "*" in registries.yaml
    const { hostname, port, protocol } = new URL(url);
    const host = hostname.replace(/^\[|\]$/g, "");
    const number = port === "" ? DEFAULT_PORTS[protocol] : Number(port);
    if (host !== "" && host !== "*" && number) {
      found.set(`${host} ${number}`, { host, port: number });
    }
  }
  return [...found.values()];
}

const withScheme = (text: string, scheme: string) =>
  text.includes("://") ? text : `${scheme}://${text}`;

/** Warns of the first refusal of each kind until the signal aborts or gvproxy ends. Never rejects. */
export async function watchRefusals(
  gvproxy: Pick<GvproxyClient, "refusals">,
  span: Pick<Span, "warn">,
  signal: AbortSignal,
): Promise<void> {
  try {
    for await (const one of gvproxy.refusals(signal)) span.warn(cleanText(refusalText(one)));
  } catch {
    // The end of the run or of gvproxy, which others look after.
  }
}

const ASK_TIMEOUT_MS = 2000;

/** What a running instance's guest was refused; null when gvproxy does not answer. */
export async function refusedCounts(runtimeDir: string): Promise<RefusedCounts | null> {
  try {
    using client = new GvproxyClient(gvproxyApiSocket(runtimeDir));
    return await client.refused(AbortSignal.timeout(ASK_TIMEOUT_MS));
  } catch {
    return null;
  }
}
