/**
 * Where a deployed service answers: the address the user names, its load balancer's, or a node's with the NodePort.
 * It must not try whether anything answers there.
 *
 * @module
 */
import { isIP } from "node:net";
import { usageError } from "../../vm/base/error.ts";
import { ApiFailure, type ClusterApi, type KubeObject } from "../cluster/api.ts";

/** A host and a port. */
export interface Address {
  /** A DNS name or an IPv4 address. */
  readonly host: string;
  readonly port: number;
}

const NAME =
  /^(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/i;

/** `--address` as it was typed; the port may be left out. @throws GatewayError `usage`. */
export function parseAddress(text: string): { readonly host: string; readonly port?: number } {
  const bad = (why: string) =>
    usageError(
      `Cannot use --address "${text}"`,
      why,
      "write it as cluster.example or 192.0.2.10:30051",
    );
  if (isIP(text.replace(/^\[([^\]]*)\].*$/, "$1")) === 6) {
    throw bad("certificates are made for DNS names and IPv4 addresses only");
  }
  const match = /^([^:]+)(?::(\d{1,5}))?$/.exec(text);
  if (!match) throw bad("it is not HOST or HOST:PORT");
  const [, host = "", port] = match;
  const digits = /^[\d.]+$/.test(host);
  if (digits ? isIP(host) !== 4 : !NAME.test(host)) {
    throw bad(digits ? `"${host}" is no IPv4 address` : `"${host}" is no DNS name`);
  }
  if (port === undefined) return { host: host.toLowerCase() };
  if (Number(port) < 1 || Number(port) > 65535) throw bad(`${port} is not a port`);
  return { host: host.toLowerCase(), port: Number(port) };
}

/** The Service that leads outside, if one of the objects does: that with the NodePort before a load balancer. */
export function outerService(
  objects: readonly KubeObject[],
  nodePort: number,
): KubeObject | undefined {
  const services = objects.filter(({ kind, apiVersion }) =>
    kind === "Service" && apiVersion === "v1"
  );
  const has = ({ spec }: KubeObject) =>
    spec?.ports?.some((port: { nodePort?: number }) => port.nodePort === nodePort);
  return services.find(has) ?? services.find(({ spec }) => spec?.type === "LoadBalancer") ??
    services.find(({ spec }) => spec?.type === "NodePort");
}

/** A load balancer's address as the Service's status has it; undefined while there is none. */
export function balancerAddress(service: KubeObject): Address | undefined {
  const [ingress] = service.status?.loadBalancer?.ingress ?? [];
  const host = ingress?.hostname || ingress?.ip;
  const port = service.spec?.ports?.[0]?.port;
  return host && port ? { host, port } : undefined;
}

/** The port of a Service on each node; the payload's where the Service says none. */
export function servicePort(service: KubeObject | undefined, nodePort: number): number {
  const ports: { nodePort?: number }[] = service?.spec?.ports ?? [];
  return ports.find((port) => port.nodePort === nodePort)?.nodePort ??
    ports.find((port) => port.nodePort)?.nodePort ?? nodePort;
}

/** The cluster's nodes; undefined when this user may not list them. */
export async function listNodes(
  api: ClusterApi,
  signal: AbortSignal,
): Promise<readonly KubeObject[] | undefined> {
  try {
    return await api.list("/api/v1/nodes", signal);
  } catch (error) {
    if (error instanceof ApiFailure && error.status === 403) return undefined;
    throw error;
  }
}

/**
 * A node's address: that of the last time while a node has it, so that certificates stay as they are; else an
 * outer one of a ready node, else an inner one.
 */
export function nodeAddress(
  nodes: readonly KubeObject[],
  previous: string | undefined,
): string | undefined {
  const usable = nodes.filter(({ status }) =>
    status?.conditions?.some((one: { type: string; status: string }) =>
      one.type === "Ready" && one.status === "True"
    )
  ).sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  const of = (type: string) =>
    usable.flatMap(({ status }) => status.addresses ?? [])
      .filter((one: { type: string; address: string }) => one.type === type)
      .map((one: { address: string }) => one.address)
      .filter((address: string) => isIP(address) === 4 || NAME.test(address));
  const all = [...of("ExternalIP"), ...of("InternalIP")];
  return previous !== undefined && all.includes(previous) ? previous : all[0];
}
