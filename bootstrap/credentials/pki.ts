/**
 * This room makes and keeps keys, certificates and the files of OpenShell's client. How they reach a cluster is in the
 * rooms payload and cluster. Read client_files.ts next.
 *
 * The certificates of one instance: its own CA, a server and a client certificate, made on the host,
 * checked on every start and renewed in time. Nothing leaves the instance's folder from here.
 * It must not log or return anything secret in an error, and it must not know Kubernetes.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { join } from "@std/path";
import { abortError, describeError, GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { readTextIfThere, recoverDirectory, replaceDirectory } from "./files.ts";

/** Names a client may call the server by: DNS names of its certificate. */
const SERVER_DNS_NAMES: readonly string[] = [
  "openshell",
  "openshell.openshell.svc",
  "openshell.openshell.svc.cluster.local",
  "localhost",
  "openshell.localhost",
  "*.openshell.localhost",
  "host.docker.internal",
  "host.containers.internal",
];

/** Addresses a client may call the server by. */
const SERVER_IP_ADDRESSES: readonly string[] = ["127.0.0.1", "::1"];

const SERVER_COMMON_NAME = "openshell";
const CLIENT_COMMON_NAME = "openshell-client";
/** What OpenShell's own certificates give a user's client as their unit. */
const CLIENT_UNIT = "openshell-user";

const DAY_MS = 24 * 60 * 60 * 1000;
/** A guest's or a client's clock may be a little behind ours. */
const BACKDATE_MS = 60 * 60 * 1000;
const CA_LIFETIME_MS = 3650 * DAY_MS;
/** Below the 825 days that Apple's verifier allows a server certificate. */
const LEAF_LIFETIME_MS = 730 * DAY_MS;
/** Leafs with less time left are renewed on the next start, which a running instance makes by itself. */
export const LEAF_RENEW_MS = 60 * DAY_MS;
/** More than LEAF_RENEW_MS, or a dying CA would have its leafs renewed on every start. */
export const CA_RENEW_MS = 90 * DAY_MS;

/** A certificate and its key, as files of the instance and as text. */
export interface Identity {
  /** Mode 0600. */
  readonly certPath: string;
  /** Mode 0600. */
  readonly keyPath: string;
  /** Certificate, PEM. */
  readonly certPem: string;
  /** Secret. */
  readonly keyPem: string;
}

/** A whole, checked set of certificates. Holds secrets: never to be logged or put in an event. */
export interface Pki {
  /** 0700. */
  readonly dir: string;
  /** The authority's certificate. */
  readonly caPath: string;
  /** Certificate of the authority, PEM. */
  readonly caPem: string;
  /** The service's certificate, with the names a client may call it by. */
  readonly server: Identity;
  /** The certificate that the service lets in. */
  readonly client: Identity;
  /** What this call did: "kept" the set, "renewed" the two leafs, or "created" all three. */
  readonly change: "kept" | "renewed" | "created";
}

/** What {@linkcode ensurePki} needs besides the folder. */
export interface EnsurePkiOptions {
  /** Where it is told what is done. */
  readonly span: Span;
  /** Ends it with its reason. */
  readonly signal: AbortSignal;
  /** The host's clock; tests pass their own. */
  readonly now?: Date;
  /** What the server is called by besides the names it always has: DNS names and IP addresses. */
  readonly extraNames?: readonly string[];
}

/** The files of a set. */
export const PKI_FILES = [
  "ca.crt",
  "ca.key",
  "server.crt",
  "server.key",
  "client.crt",
  "client.key",
] as const;
type FileName = typeof PKI_FILES[number];
type KeySet = Readonly<Record<FileName, string>>;

/**
 * Gives the instance's certificates: the stored set when it is whole, matching and not about to expire;
 * else the leafs are renewed under the stored CA, or all is made anew when the CA itself is not sound.
 * The folder is swapped as a whole, so no half-written set is ever used. The caller holds the instance lock.
 *
 * @throws GatewayError `pki-invalid` when the new set does not pass its own checks, `disk-full`, or the signal's reason.
 */
export async function ensurePki(dir: string, options: EnsurePkiOptions): Promise<Pki> {
  const now = options.now ?? new Date();
  await recoverDirectory(dir);
  const stored = await readSet(dir, options.span);
  const names = serverNames(options.extraNames ?? []);
  const caFault = findCaFault(stored, now);
  const fault = caFault ?? findLeafFault(stored, now, names);
  if (fault === undefined) return describeSet(dir, stored as KeySet, "kept");
  if (options.signal.aborted) throw abortError(options.signal);

  const renewing = caFault === undefined;
  if (renewing) options.span.log(`server and client certificates are renewed: ${fault}`);
  else if (Object.keys(stored).length > 0) {
    options.span.warn(`a new certificate authority replaces the stored one: ${fault}`);
  }
  const made = await issueSet(renewing ? stored as KeySet : undefined, now, names);
  const bad = findCaFault(made, now) ?? findLeafFault(made, now, names);
  if (bad !== undefined) {
    throw new GatewayError({
      code: "pki-invalid",
      what: `Cannot use the certificates made for "${dir}"`,
      why: bad,
      fix: `remove the folder "${dir}" and start the instance again`,
    });
  }
  if (options.signal.aborted) throw abortError(options.signal);
  await replaceDirectory(
    dir,
    Object.fromEntries(PKI_FILES.map((name) => [name, { data: made[name], mode: 0o600 }])),
  );
  return describeSet(dir, made, renewing ? "renewed" : "created");
}

function describeSet(dir: string, set: KeySet, change: Pki["change"]): Pki {
  const identity = (name: "server" | "client"): Identity => ({
    certPath: join(dir, `${name}.crt`),
    keyPath: join(dir, `${name}.key`),
    certPem: set[`${name}.crt`],
    keyPem: set[`${name}.key`],
  });
  return {
    dir,
    caPath: join(dir, "ca.crt"),
    caPem: set["ca.crt"],
    server: identity("server"),
    client: identity("client"),
    change,
  };
}

async function readSet(dir: string, span: Span): Promise<Partial<KeySet>> {
  await tightenModes(dir, span);
  const found: Partial<Record<FileName, string>> = {};
  for (const name of PKI_FILES) {
    const text = await readTextIfThere(join(dir, name));
    if (text !== undefined) found[name] = text;
  }
  return found;
}

/** Somebody's chmod must not stay: the folder and the files are the owner's alone. */
async function tightenModes(dir: string, span: Span): Promise<void> {
  const modes: readonly (readonly [path: string, mode: number])[] = [
    [dir, 0o700],
    ...PKI_FILES.map((name) => [join(dir, name), 0o600] as const),
  ];
  for (const [path, mode] of modes) {
    try {
      const info = await Deno.stat(path);
      if (((info.mode ?? 0) & 0o077) === 0) continue;
      await Deno.chmod(path, mode);
      span.warn(`"${path}" was open to other users; its mode is now ${mode.toString(8)}`);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

/** What the server's certificate has to hold. */
interface ServerNames {
  readonly dns: readonly string[];
  readonly ip: readonly string[];
}

function serverNames(extra: readonly string[]): ServerNames {
  const both = (own: readonly string[], more: readonly string[]) => [...new Set([...own, ...more])];
  return {
    dns: both(SERVER_DNS_NAMES, extra.filter((name) => isIP(name) === 0)),
    ip: both(SERVER_IP_ADDRESSES, extra.filter((name) => isIP(name) !== 0)),
  };
}

async function issueSet(
  kept: KeySet | undefined,
  now: Date,
  names: ServerNames,
): Promise<KeySet> {
  const { generateKey, importSigningKey, issueCertificate } = await import("./x509.ts");
  const [ca, server, client] = await Promise.all([
    kept === undefined ? generateKey() : undefined,
    generateKey(),
    generateKey(),
  ]);
  const notBefore = new Date(now.getTime() - BACKDATE_MS);
  const caPem = ca === undefined ? kept!["ca.crt"] : await issueCertificate({
    role: "ca",
    // Two instances' authorities must be told apart by name in a trust store.
    commonName: `gateway CA ${crypto.randomUUID().slice(0, 8)}`,
    publicKeyDer: ca.publicKeyDer,
    issuer: ca,
    notBefore,
    notAfter: new Date(now.getTime() + CA_LIFETIME_MS),
  });
  const authority = new X509Certificate(caPem);
  const issuer = {
    certificatePem: caPem,
    privateKey: ca?.privateKey ?? await importSigningKey(kept!["ca.key"]),
    publicKeyDer: new Uint8Array(exportPublic(authority)),
  };
  // A leaf outside its authority's time would be refused by some verifiers and accepted by others.
  const leaf = {
    issuer,
    notBefore: new Date(Math.max(notBefore.getTime(), authority.validFromDate.getTime())),
    notAfter: new Date(
      Math.min(now.getTime() + LEAF_LIFETIME_MS, authority.validToDate.getTime()),
    ),
  };
  const [serverPem, clientPem] = await Promise.all([
    issueCertificate({
      ...leaf,
      role: "server",
      commonName: SERVER_COMMON_NAME,
      publicKeyDer: server.publicKeyDer,
      dnsNames: names.dns,
      ipAddresses: names.ip,
    }),
    issueCertificate({
      ...leaf,
      role: "client",
      commonName: CLIENT_COMMON_NAME,
      organizationalUnit: CLIENT_UNIT,
      publicKeyDer: client.publicKeyDer,
    }),
  ]);
  return {
    "ca.crt": caPem,
    "ca.key": ca?.privateKeyPem ?? kept!["ca.key"],
    "server.crt": serverPem,
    "server.key": server.privateKeyPem,
    "client.crt": clientPem,
    "client.key": client.privateKeyPem,
  };
}

/** Why the stored authority cannot sign any more, or undefined when it is sound. */
function findCaFault(set: Partial<KeySet>, now: Date): string | undefined {
  return findFault("ca", set, (certificate, key) => {
    if (!certificate.ca) return "ca.crt is not a certificate authority";
    if (!certificate.verify(certificate.publicKey)) return "ca.crt is not signed by its own key";
    if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1") return "ca.key is not a P-256 key";
    return findTimeFault("ca", certificate, now, CA_RENEW_MS);
  });
}

/** Why one of the leafs must be made anew. The authority has been checked. */
function findLeafFault(
  set: Partial<KeySet>,
  now: Date,
  names: ServerNames,
): string | undefined {
  const authority = new X509Certificate(set["ca.crt"]!);
  const check = (name: "server" | "client", commonName: string) =>
    findFault(name, set, (certificate) => {
      if (!certificate.checkIssued(authority) || !certificate.verify(authority.publicKey)) {
        return `${name}.crt is not signed by ca.crt`;
      }
      if (certificate.ca) return `${name}.crt is a certificate authority`;
      if (!certificate.subject.split("\n").includes(`CN=${commonName}`)) {
        return `${name}.crt is not for "${commonName}"`;
      }
      if (name === "server") {
        const held = certificate.subjectAltName?.split(", ") ?? [];
        const missing = [
          ...names.dns.filter((host) => !held.includes(`DNS:${host}`)),
          ...names.ip.filter((address) => certificate.checkIP(address) === undefined),
        ];
        if (missing.length > 0) return `server.crt lacks the name "${missing[0]}"`;
      } else if (!certificate.subject.split("\n").includes(`OU=${CLIENT_UNIT}`)) {
        return `client.crt lacks the unit "${CLIENT_UNIT}"`;
      }
      return findTimeFault(name, certificate, now, LEAF_RENEW_MS);
    });
  return check("server", SERVER_COMMON_NAME) ?? check("client", CLIENT_COMMON_NAME);
}

function findFault(
  name: "ca" | "server" | "client",
  set: Partial<KeySet>,
  check: (certificate: X509Certificate, key: KeyObject) => string | undefined,
): string | undefined {
  const [certPem, keyPem] = [set[`${name}.crt`], set[`${name}.key`]];
  if (certPem === undefined) return `${name}.crt is missing`;
  if (keyPem === undefined) return `${name}.key is missing`;
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(certPem);
  } catch (error) {
    return `${name}.crt cannot be read: ${describeError(error)}`;
  }
  try {
    const key = createPrivateKey(keyPem);
    if (!certificate.checkPrivateKey(key)) return `${name}.key does not belong to ${name}.crt`;
    return check(certificate, key);
  } catch {
    // What a key parser says could quote the key.
    return `${name}.key cannot be read`;
  }
}

function findTimeFault(
  name: string,
  certificate: X509Certificate,
  now: Date,
  renewMs: number,
): string | undefined {
  if (now < certificate.validFromDate) {
    return `${name}.crt is valid only from ${certificate.validFromDate.toISOString()}`;
  }
  const leftMs = certificate.validToDate.getTime() - now.getTime();
  if (leftMs >= renewMs) return undefined;
  return leftMs <= 0
    ? `${name}.crt expired on ${certificate.validToDate.toISOString()}`
    : `${name}.crt expires in ${Math.floor(leftMs / DAY_MS)} days`;
}

function exportPublic(certificate: X509Certificate): Buffer {
  return certificate.publicKey.export({ type: "spki", format: "der" }) as Buffer;
}
