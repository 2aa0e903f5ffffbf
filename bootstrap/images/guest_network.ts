/**
 * What the guest is given so that its cluster's own pulls go the way of this host: the user's registries.yaml with the
 * files it names, the host's proxy, and an authority that the user trusts.
 * It must not write anything: the files go into the payload, which is the instance's own and 0600.
 *
 * @module
 */
import { isAbsolute } from "@std/path";
import { AUTHORITIES_DIR, REGISTRIES_DIR } from "../../rootfs/contract.ts";
import { describeError, GatewayError, usageError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import type { InstanceConfig } from "../../vm/instance/instance.ts";
import { toJsonText } from "../yaml/kube_yaml.ts";
import { readRegistries, type Registries } from "./registries.ts";

/** Files of the payload by name. Secret. */
export interface GuestNetworkFiles {
  /** registries.yaml, the certificates and keys it names, and containerd.env. */
  readonly registries: Readonly<Record<string, string>>;
  /** Trusted for every registry. */
  readonly authorities: Readonly<Record<string, string>>;
}

/** Addresses that are the cluster's own; a proxy would not find them. */
const CLUSTER_ADDRESSES =
  "localhost,127.0.0.0/8,::1,10.42.0.0/16,10.43.0.0/16,192.168.127.0/24,.svc,.cluster.local";

/**
 * The files of one start.
 *
 * @throws GatewayError `settings-invalid` for a proxy that the guest cannot reach, for none at all, and for a file of
 * registries.yaml that cannot be read; `usage` for an authority's file without a certificate.
 */
export async function guestNetworkFiles(
  choice: InstanceConfig["network"],
  registries: Registries | undefined,
  env: (name: string) => string | undefined = (name) => Deno.env.get(name),
): Promise<GuestNetworkFiles> {
  const settings: string[] = choice?.hostProxy ? proxySettings(env) : [];
  const authorities: Record<string, string> = {};
  if (choice && choice.hostCa !== null) {
    authorities["host-ca.pem"] = await readAuthority(choice.hostCa);
    settings.push(`SSL_CERT_DIR=${AUTHORITIES_DIR}`);
  }
  return {
    registries: {
      ...(registries && await guestRegistries(registries)),
      ...(settings.length > 0 && {
        "containerd.env": settings.map((line) => `${line}\n`).join(""),
      }),
    },
    authorities,
  };
}

/** The files of one start with the user's registries.yaml. @throws GatewayError as the two that it calls. */
export async function guestNetworkFor(
  config: InstanceConfig,
  span: Span,
): Promise<GuestNetworkFiles> {
  return await guestNetworkFiles(config.network, await readRegistries(span));
}

type Env = (name: string) => string | undefined;

const valueOf = (env: Env, name: string) => env(name.toLowerCase()) ?? env(name) ?? "";

/** The proxies that this host's programs use, by variable. */
function proxyVariables(env: Env): (readonly [name: string, proxy: string])[] {
  return ["HTTP_PROXY", "HTTPS_PROXY"].map((name) => [name, valueOf(env, name)] as const)
    .filter(([, proxy]) => proxy !== "");
}

/** This host's proxies as its environment names them. Secret: they may hold passwords. */
export function hostProxies(env: Env = (name) => Deno.env.get(name)): string[] {
  return proxyVariables(env).map(([, proxy]) => proxy);
}

/** The variables of this host, or its registries.yaml, cannot be used as they are. */
function invalid(what: string, why: string, fix: string): GatewayError {
  return new GatewayError({ code: "settings-invalid", what, why, fix });
}

/** The proxy variables of this host as containerd takes them. */
function proxySettings(env: Env): string[] {
  const found = proxyVariables(env);
  if (found.length === 0) {
    throw invalid(
      "Cannot give the guest this host's proxy",
      "neither HTTPS_PROXY nor HTTP_PROXY is set",
      "set them as for curl, or pass --no-host-proxy",
    );
  }
  for (const [name, proxy] of found) checkProxy(name, proxy);
  const direct = [valueOf(env, "NO_PROXY"), CLUSTER_ADDRESSES].filter((list) => list !== "").join(
    ",",
  );
  return [...found.map(([name, proxy]) => `${name}=${proxy}`), `NO_PROXY=${direct}`];
}

/** The address may hold a password, so it is in no message. */
function checkProxy(name: string, proxy: string): void {
  const refuse = (why: string, fix: string) =>
    invalid("Cannot give the guest this host's proxy", `${name} ${why}`, fix);
  let host: string;
  try {
    host = new URL(proxy.includes("://") ? proxy : `http://${proxy}`).hostname;
  } catch {
    throw refuse("is no address", "correct it, or pass --no-host-proxy");
  }
  // deno-lint-ignore no-control-regex
  if (/[\x00-\x20\x7f]/.test(proxy)) {
    throw refuse("holds a space or a control character", "correct it, or pass --no-host-proxy");
  }
  if (/^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\]|\[::ffff:7f.*\]|0\.0\.0\.0)$/.test(host)) {
    throw refuse(
      "names a proxy on this host's loopback, which the guest cannot reach",
      "let the proxy listen on an address of the network and name that, or pass --no-host-proxy",
    );
  }
}

/** A PEM file's text. @throws GatewayError `usage`. */
export async function readAuthority(path: string): Promise<string> {
  const refuse = (why: string) =>
    usageError(
      `Cannot use --host-ca "${path}"`,
      why,
      "name a file with the authority's certificate in PEM form, or pass --no-host-ca",
    );
  if (!isAbsolute(path)) throw refuse("it is not an absolute path");
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    throw refuse(describeError(error));
  }
  if (/^-----BEGIN [A-Z ]*PRIVATE KEY-----/m.test(text)) throw refuse("it holds a private key");
  if (!/^-----BEGIN CERTIFICATE-----/m.test(text)) throw refuse("it holds no certificate");
  return text;
}

/** registries.yaml as it is in the guest, with the files that it names beside it. */
async function guestRegistries(registries: Registries): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  const configs: Record<string, unknown> = {};
  for (const [at, [host, config]] of Object.entries(registries.configs ?? {}).entries()) {
    const tls: Record<string, unknown> = { ...config.tls };
    for (const field of ["ca_file", "cert_file", "key_file"] as const) {
      const path = config.tls?.[field];
      if (path === undefined) continue;
      const name = `${at}-${field.replace("_file", "")}.pem`;
      files[name] = await readNamed(path, `configs.${host}.tls.${field}`);
      tls[field] = `${REGISTRIES_DIR}/${name}`;
    }
    configs[host] = { ...config, ...(config.tls && { tls }) };
  }
  // JSON: a password such as "on" or "1_000" is a text for the cluster's reader, too.
  files["registries.yaml"] = toJsonText({ ...registries, configs }) + "\n";
  return files;
}

async function readNamed(path: string, field: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    throw invalid(
      `Cannot read "${path}"`,
      describeError(error),
      `correct ${field} in registries.yaml`,
    );
  }
}
