/**
 * The user's kubeconfig for one instance: the guest's k3s.yaml with our loopback port and our names, in a file of
 * its own. What comes from the guest is not trusted: only certificates and a key are taken over, never a
 * command, a path or an address. It must not touch the user's main kubeconfig.
 *
 * @module
 */
import { basename, dirname, join, resolve } from "@std/path";
import * as v from "valibot";
import { type Document, parseDocument, stringify, visit } from "yaml";
import { KUBECONFIG } from "../../rootfs/contract.ts";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { asHostError, describeError, GatewayError } from "../../vm/base/error.ts";
import { homeDir } from "../../vm/base/layout.ts";
import { readTextIfThere, removeIfThere } from "../credentials/files.ts";
import { isSameOwner, type Owner, publicName } from "../credentials/owner.ts";
import { documentValue, PARSE_OPTIONS } from "../yaml/kube_yaml.ts";

/** Name of the extension that marks a kubeconfig as ours. */
const MARKER = "gateway.local/instance";
const MAX_BYTES = 256 * 1024;

const base64Pem = (label: string) =>
  v.pipe(
    v.string(`${label} is missing`),
    v.transform((text) => text.replace(/\s+/g, "")),
    v.base64(`${label} is not base64`),
    v.check(
      (text) => /^-----BEGIN [A-Z ]+-----\n[\s\S]+-----END [A-Z ]+-----\s*$/.test(atob(text)),
      `${label} is not PEM`,
    ),
  );

// Messages of our own everywhere: the library's would quote what it received.
const GuestConfig = v.object({
  clusters: v.tuple([v.object({
    cluster: v.object({
      "certificate-authority-data": base64Pem("certificate-authority-data"),
    }, "its cluster has no certificate-authority-data"),
  }, "its cluster is not a map")], "it does not name exactly one cluster"),
  users: v.tuple([v.object({
    user: v.object({
      "client-certificate-data": base64Pem("client-certificate-data"),
      "client-key-data": base64Pem("client-key-data"),
    }, "its user has no client certificate"),
  }, "its user is not a map")], "it does not name exactly one user"),
}, "it does not name a cluster and a user");

const MarkedConfig = v.object({
  extensions: v.array(v.object({ name: v.string(), extension: v.unknown() })),
});

const OwnerSchema = v.object({ instance: v.string(), instanceDir: v.string() });

/** What the API of an instance needs from a caller; the key is secret. All PEM. */
export interface ApiCredentials {
  /** Certificate of the authority, PEM. */
  readonly caPem: string;
  /** Certificate, PEM. */
  readonly certPem: string;
  /** Private key, PEM. Secret. */
  readonly keyPem: string;
}

/** One kubeconfig to write. */
export interface WriteKubeconfigOptions {
  /** Text of the guest's /etc/rancher/k3s/k3s.yaml. */
  readonly k3sYaml: string;
  /** Loopback port that leads to the API. */
  readonly apiPort: number;
  /** The instance it belongs to. */
  readonly owner: Owner;
  /** Where to; {@linkcode kubeconfigPath} by default. */
  readonly path?: string;
}

/** A kubeconfig that was written. */
export interface WrittenKubeconfig {
  /** Mode 0600. */
  readonly path: string;
  /** Name of its context, cluster and user. */
  readonly context: string;
}

/** Where an instance's kubeconfig goes: `~/.kube/gateway.yaml`, or `~/.kube/gateway-NAME.yaml`. */
export function kubeconfigPath(instance: string): string {
  return join(homeDir(), ".kube", `${publicName(instance)}.yaml`);
}

/**
 * Takes the credentials out of the guest's k3s.yaml and nothing else.
 *
 * @throws GatewayError `guest-failed` when the text is not the kubeconfig of one cluster and one user.
 */
export function readCredentials(k3sYaml: string): ApiCredentials {
  const config = parseGuestConfig(k3sYaml);
  const user = config.users[0].user;
  return {
    caPem: atob(config.clusters[0].cluster["certificate-authority-data"]),
    certPem: atob(user["client-certificate-data"]),
    keyPem: atob(user["client-key-data"]),
  };
}

/** The kubeconfig's text for a port and an owner. Pure; secret, since it holds the client's key. */
export function renderKubeconfig(k3sYaml: string, apiPort: number, owner: Owner): string {
  const config = parseGuestConfig(k3sYaml);
  const name = publicName(owner.instance);
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{
      name,
      cluster: { ...config.clusters[0].cluster, server: `https://127.0.0.1:${apiPort}` },
    }],
    users: [{ name, user: config.users[0].user }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    "current-context": name,
    extensions: [{
      name: MARKER,
      extension: { instance: owner.instance, instanceDir: owner.instanceDir },
    }],
    // kubectl reads YAML 1.1: an instance named "on" or "0b11" stands in quotes.
  }, { lineWidth: 0, compat: "yaml-1.1" });
}

/**
 * Writes the instance's kubeconfig, whole or not at all, mode 0600; a folder it has to make gets 0700.
 *
 * @throws GatewayError `guest-failed` for a bad k3s.yaml, `file-foreign` when the path is the user's main kubeconfig or a
 * file that is not gateway's, `permission`, `disk-full`.
 */
export async function writeKubeconfig(options: WriteKubeconfigOptions): Promise<WrittenKubeconfig> {
  const path = resolve(options.path ?? kubeconfigPath(options.owner.instance));
  const text = renderKubeconfig(options.k3sYaml, options.apiPort, options.owner);
  try {
    await refuseForeign(path);
    await Deno.mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFileAtomic(path, text, 0o600);
  } catch (error) {
    throw cannotWrite(error, path);
  }
  return { path, context: publicName(options.owner.instance) };
}

/** Whether the file that an instance's kubeconfig has is there and was written by this instance. */
export async function ownsKubeconfig(
  owner: Owner,
  path = kubeconfigPath(owner.instance),
): Promise<boolean> {
  const text = await readTextIfThere(path);
  const found = text === undefined ? undefined : findOwner(text);
  return found !== undefined && isSameOwner(found, owner);
}

/** Removes the instance's kubeconfig if this instance wrote it; false when it stays or was not there. */
export async function removeKubeconfig(owner: Owner, path?: string): Promise<boolean> {
  const target = resolve(path ?? kubeconfigPath(owner.instance));
  const text = await readTextIfThere(target);
  const found = text === undefined ? undefined : findOwner(text);
  if (found === undefined || !isSameOwner(found, owner)) return false;
  return await removeIfThere(target);
}

function cannotWrite(error: unknown, path: string): unknown {
  const host = asHostError(error);
  if (!(host instanceof GatewayError) || host.code !== "permission") return host;
  return new GatewayError({
    code: "permission",
    what: `Cannot write the kubeconfig "${path}"`,
    why: host.message,
    fix: `make "${
      dirname(path)
    }" a folder of your own, or start without a kubeconfig: --no-kube-api`,
    cause: error,
  });
}

async function refuseForeign(path: string): Promise<void> {
  const refuse = (why: string) =>
    new GatewayError({
      code: "file-foreign",
      what: `Cannot write the kubeconfig "${path}"`,
      why,
      fix: "name another file; KUBECONFIG can list it beside your own",
    });
  // By name too: a main kubeconfig that is not there yet must not become ours.
  if (basename(path) === "config" && basename(dirname(path)) === ".kube") {
    throw refuse("it is your main kubeconfig, which gateway leaves alone");
  }
  const text = await readTextIfThere(path);
  if (text === undefined || text.trim() === "" || findOwner(text) !== undefined) return;
  throw refuse("a file that gateway did not write is there");
}

function findOwner(text: string): Owner | undefined {
  try {
    const marked = v.parse(MarkedConfig, readYaml(text));
    const entry = marked.extensions.find((extension) => extension.name === MARKER);
    return entry && v.parse(OwnerSchema, entry.extension);
  } catch {
    return undefined;
  }
}

/** Bounded in depth and in values; the library's own reader takes hours for keys nested in keys. */
function readYaml(text: string): unknown {
  const document = parseDocument(text, PARSE_OPTIONS) as Document.Parsed;
  if (document.errors.length > 0) throw document.errors[0];
  visit(document, {
    // k3s writes none.
    Alias: () => {
      throw new Error("it holds an alias");
    },
  });
  return documentValue(document);
}

function parseGuestConfig(text: string): v.InferOutput<typeof GuestConfig> {
  try {
    if (text.length > MAX_BYTES) throw new Error(`it has more than ${MAX_BYTES} characters`);
    return v.parse(GuestConfig, readYaml(text));
  } catch (error) {
    throw new GatewayError({
      code: "guest-failed",
      what: "Cannot use the kubeconfig of the guest's cluster",
      // A YAML parser quotes the lines it trips over, and those may hold the key.
      why: error instanceof v.ValiError ? describeError(error) : "it is not a kubeconfig",
      fix: `run \`gateway exec -- ls -l ${KUBECONFIG}\` and \`gateway logs\``,
    });
  }
}
