/**
 * What a cluster writes for its administrator.
 *
 * @module
 */

/** A client's certificate and the authority of its server, PEM. */
export interface ClientCertificate {
  readonly caPem: string;
  readonly client: { readonly certPem: string; readonly keyPem: string };
}

/** A cluster's own kubeconfig, with a client's certificate in it. */
export function kubeconfig({ caPem, client }: ClientCertificate): string {
  return [
    "apiVersion: v1",
    "kind: Config",
    "clusters:",
    "- name: default",
    "  cluster:",
    "    server: https://127.0.0.1:6443",
    `    certificate-authority-data: ${btoa(caPem)}`,
    "users:",
    "- name: default",
    "  user:",
    `    client-certificate-data: ${btoa(client.certPem)}`,
    `    client-key-data: ${btoa(client.keyPem)}`,
    "contexts:",
    "- name: default",
    "  context: { cluster: default, user: default }",
    "current-context: default",
    "",
  ].join("\n");
}
