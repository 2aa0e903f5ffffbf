/**
 * The namespace and the three Secrets that OpenShell's chart and client expect, from the instance's certificates.
 * Pure: builds objects, writes nothing. What it returns is secret and goes only into the payload (0600).
 *
 * @module
 */
import type { V1Namespace, V1Secret } from "@kubernetes/client-node";
import type { Pki } from "./pki.ts";

/** The namespace everything of the service lives in. */
export const NAMESPACE = "openshell";

/** Names of the Secrets, as OpenShell's chart has them. */
export const SECRET_NAMES = {
  /** `kubernetes.io/tls`: the server's certificate and key. */
  serverTls: "openshell-server-tls",
  /** `ca.crt`: who signs the clients that the server lets in. */
  serverClientCa: "openshell-server-client-ca",
  /** The client's certificate and key with the authority that signs the server. */
  clientTls: "openshell-client-tls",
} as const;

/** The part of a {@linkcode Pki} that goes into the cluster; the authority's key is not among it. */
export type ClusterCertificates = Pick<Pki, "caPem"> & {
  readonly server: Pick<Pki["server"], "certPem" | "keyPem">;
  readonly client: Pick<Pki["client"], "certPem" | "keyPem">;
};

/** Labels of everything that gateway puts into the cluster. */
export const LABELS: Readonly<Record<string, string>> = {
  "app.kubernetes.io/managed-by": "gateway",
};

/** The service's namespace. */
export function namespaceObject(): object {
  const namespace: V1Namespace = {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: NAMESPACE, labels: { ...LABELS } },
  };
  return namespace;
}

/** The three Secrets, in the order of {@linkcode SECRET_NAMES}. Secret. */
export function secretObjects(certificates: ClusterCertificates): object[] {
  const { caPem, server, client } = certificates;
  return [
    secret(SECRET_NAMES.serverTls, "kubernetes.io/tls", {
      "tls.crt": server.certPem,
      "tls.key": server.keyPem,
    }),
    secret(SECRET_NAMES.serverClientCa, "Opaque", { "ca.crt": caPem }),
    secret(SECRET_NAMES.clientTls, "Opaque", {
      "ca.crt": caPem,
      "tls.crt": client.certPem,
      "tls.key": client.keyPem,
    }),
  ];
}

function secret(name: string, type: string, texts: Readonly<Record<string, string>>): V1Secret {
  const data: Record<string, string> = {};
  for (const [key, text] of Object.entries(texts)) data[key] = toBase64(text);
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name, namespace: NAMESPACE, labels: { ...LABELS } },
    type,
    data,
  };
}

function toBase64(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}
