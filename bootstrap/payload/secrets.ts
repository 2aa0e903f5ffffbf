/**
 * The namespaces and Secrets of a payload, filled from the instance's certificates and keys.
 * Pure: builds objects, writes nothing. What it returns is secret and goes only into the payload disk (0600) or, over
 * TLS, to the cluster's API.
 *
 * @module
 */
import type { V1Namespace, V1Secret } from "@kubernetes/client-node";
import type { JwtKeys } from "../credentials/jwt.ts";
import type { Pki } from "../credentials/pki.ts";
import type { Payload, SecretSource } from "./payload.ts";

/** The part of a {@linkcode Pki} that goes into the cluster; the authority's key is not among it. Secret. */
export type ClusterCertificates = Pick<Pki, "caPem"> & {
  readonly server: Pick<Pki["server"], "certPem" | "keyPem">;
  readonly client: Pick<Pki["client"], "certPem" | "keyPem">;
};

/** Everything that Secrets can be filled with. Secret. */
export interface SecretMaterial {
  readonly certificates: ClusterCertificates;
  /** Only where a payload asks for them. */
  readonly jwt?: JwtKeys;
  /** Signs the user's token in a cluster that was another's; only where a payload has a login. PEM. */
  readonly tokenKey?: string;
}

/** What decides which objects there are. */
export type SecretNeeds = Pick<Payload, "namespace" | "secrets" | "charts">;

/** Labels of everything that gateway puts into the cluster. */
export const LABELS: Readonly<Record<string, string>> = {
  "app.kubernetes.io/managed-by": "gateway",
};

/** Every cluster has these, and what does not make them must not remove them either. */
const OF_THE_CLUSTER = ["default", "kube-system", "kube-public", "kube-node-lease"];

/** The namespaces that a payload lives in, its own first. */
export function namespacesOf(payload: SecretNeeds): string[] {
  const { namespace, secrets, charts } = payload;
  const further = [...secrets, ...charts].map((one) => one.namespace ?? namespace);
  return [...new Set([namespace, ...further])];
}

/** The names of the payload's Secrets in one namespace. */
export function secretNames(
  { namespace: home, secrets }: Pick<Payload, "namespace" | "secrets">,
  namespace: string,
): ReadonlySet<string> {
  const there = secrets.filter((one) => (one.namespace ?? home) === namespace);
  return new Set(there.map(({ name }) => name));
}

/** The namespaces that are made for a payload. */
export function namespaceObjects(payload: SecretNeeds): V1Namespace[] {
  return namespacesOf(payload).filter((name) => !OF_THE_CLUSTER.includes(name)).map((name) => ({
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name, labels: { ...LABELS } },
  }));
}

/** Whether a payload wants keys that sign tokens. */
export function wantsJwt(payload: Pick<Payload, "secrets">): boolean {
  return payload.secrets.some(({ data }) =>
    Object.values(data).some((source) => source.startsWith("jwt-"))
  );
}

/** The Secrets of a payload, in its order. Secret. */
export function secretObjects(payload: SecretNeeds, material: SecretMaterial): V1Secret[] {
  return payload.secrets.map(({ name, namespace = payload.namespace, type, data }) => ({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name, namespace, labels: { ...LABELS } },
    type,
    data: Object.fromEntries(
      Object.entries(data).map(([key, source]) => [key, toBase64(textOf(source, material))]),
    ),
  }));
}

function textOf(source: SecretSource, { certificates, jwt }: SecretMaterial): string {
  const { caPem, server, client } = certificates;
  const texts: Readonly<Record<SecretSource, string | undefined>> = {
    "ca.crt": caPem,
    "server.crt": server.certPem,
    "server.key": server.keyPem,
    "client.crt": client.certPem,
    "client.key": client.keyPem,
    "jwt-signing.pem": jwt?.signingPem,
    "jwt-public.pem": jwt?.publicPem,
    "jwt-kid": jwt?.kid,
  };
  const text = texts[source];
  if (text === undefined) throw new Error(`no ${source} was made for this payload`);
  return text;
}

function toBase64(text: string): string {
  return new TextEncoder().encode(text).toBase64();
}
