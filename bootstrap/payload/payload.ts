/**
 * This room reads a payload's folder, checks it, and makes the manifests and Secrets that the guest gets. It asks no
 * cluster, and images are pulled by the room images. Read read.ts next, then manifests.ts.
 *
 * What a payload is once it was read and passed every check. docs/payload.md explains the fields.
 *
 * @module
 */
import type { JsonValue } from "../../vm/base/event.ts";

/** Values of a chart. */
export type JsonObject = { readonly [key: string]: JsonValue };

/** What a Secret's entry is filled with. */
export type SecretSource =
  | "ca.crt"
  | "server.crt"
  | "server.key"
  | "client.crt"
  | "client.key"
  | "jwt-signing.pem"
  | "jwt-public.pem"
  | "jwt-kid";

/** A chart that the cluster's Helm controller installs. */
export interface PayloadChart {
  /** The release, a DNS label. */
  readonly name: string;
  /** Where it is installed; the payload's own where it is absent. */
  readonly namespace?: string;
  /** The one that the chart has to have. */
  readonly version?: string;
  /** Over the chart's own; none: empty. */
  readonly values: JsonObject;
  /** Absolute path of a folder or .tgz, or a reference with the digest of its manifest. */
  readonly from:
    | { readonly kind: "folder" | "archive"; readonly path: string }
    | { readonly kind: "oci"; readonly ref: string; readonly digest: string };
}

/** Objects of Kubernetes as text. */
export interface PayloadManifest {
  /** The file's name without its folder. */
  readonly name: string;
  /** Documents of JSON, one a line, with `---` between; patched. */
  readonly text: string;
}

/** An image that the cluster gets from the host. */
export interface PayloadImage {
  /** What pods say, such as `ghcr.io/x/y:1.2`. */
  readonly ref: string;
  /** `sha256:…` of its index or manifest. */
  readonly digest: string;
  /** `later`: brought after READY. */
  readonly when: "ready" | "later";
}

/** A Secret that is filled with the instance's certificates and keys. */
export interface PayloadSecret {
  /** A DNS subdomain. */
  readonly name: string;
  /** Such as `kubernetes.io/tls`; `Opaque` by default. */
  readonly type: string;
  /** The payload's own where it is absent. */
  readonly namespace?: string;
  /** What each of its entries is filled with. */
  readonly data: Readonly<Record<string, SecretSource>>;
}

/** What answers when the payload is ready. */
export interface PayloadService {
  /** On the node; the host's port leads there. */
  readonly nodePort: number;
  /** How it is spoken to; the first two over TLS with the instance's certificates. */
  readonly protocol: "https" | "grpcs" | "http" | "tcp";
  /** How it is asked, and for how long. */
  readonly health: {
    /** Of a GET, for http and https. */
    readonly path?: string;
    /** Asked of the gRPC health service; the server as a whole where it is absent. */
    readonly grpcService?: string;
    /** For grpcs: `package.Service/Method` of the service's own, in place of the gRPC health service. */
    readonly grpcMethod?: string;
    /** From the moment the guest's ports are open. */
    readonly timeoutSeconds: number;
  };
}

/** How the instance's user logs in: with a token of a service account, which the cluster signs (OpenID Connect). */
export interface PayloadLogin {
  /** Who the token is for; the service takes no token that names another. */
  readonly audience: string;
  /** In the payload's namespace; made when it is not there. */
  readonly serviceAccount: string;
  /** For grpcs: a method that the service refuses without a token; tried with and without one before READY. */
  readonly grpcMethod?: string;
}

/** A payload that passed every check. */
export interface Payload {
  /** A DNS label. */
  readonly name: string;
  /** Where its objects are; made when it is not there. */
  readonly namespace: string;
  /** Absolute. */
  readonly dir: string;
  /** sha256 over payload.yaml and every file it names. */
  readonly digest: string;
  /** Installed after the manifests are applied. */
  readonly charts: readonly PayloadChart[];
  /** Applied in this order. */
  readonly manifests: readonly PayloadManifest[];
  /** Brought by the host, so that the cluster need not reach a registry. */
  readonly images: readonly PayloadImage[];
  /** Made for each instance. */
  readonly secrets: readonly PayloadSecret[];
  /** What READY waits for. */
  readonly service: PayloadService;
  /** Undefined where the service knows its users by their certificate, or not at all. */
  readonly login?: PayloadLogin;
  /** `Kind.group` of owners whose pods are created again after a boot that ended them. */
  readonly recreatePodsOf: readonly string[];
  /** For people, once it is READY; may name {endpoint}, {port}, {instance} and {clientFiles}. */
  readonly notes: string;
}
