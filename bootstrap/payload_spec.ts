/**
 * A payload: what runs in the cluster, as a folder with payload.yaml. Reads the folder and checks all of it, so that
 * nothing that is wrong in it is found by a guest minutes later. docs/payload.md explains the format.
 * It must not pull, build or apply anything.
 *
 * @module
 */
import { basename, join } from "@std/path";
import { digestBytes } from "../vm/digest.ts";
import type { JsonValue } from "../vm/event.ts";
import { checkChart, checkChartSize, listFiles, PayloadFolder } from "./payload_files.ts";
import { readManifest, refuseTwice } from "./payload_objects.ts";
import { ManifestPatches } from "./payload_patches.ts";
import { parseSpec, type PayloadSpec } from "./payload_schema.ts";
import { type FieldPath, YamlSource } from "./payload_source.ts";

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

/** The file that makes a folder a payload. */
export const SPEC_FILE = "payload.yaml";

/** All files of a payload together: it travels on the guest's payload disk and stays in its memory. */
const MAX_TOTAL_BYTES = 16 * 1024 * 1024;

/**
 * Reads and checks a payload.
 *
 * @throws GatewayError `payload-invalid` that names file, line, column and field of the first fault.
 */
export async function readPayload(dir: string): Promise<Payload> {
  const folder = await PayloadFolder.open(dir, SPEC_FILE);
  const source = new YamlSource(folder.dir, SPEC_FILE, await folder.text(SPEC_FILE));
  const spec = parseSpec(source);
  checkTogether(spec, source);
  const manifests = await readManifests(spec, source, folder);
  const charts = await readCharts(spec, source, folder);
  if (folder.readBytes > MAX_TOTAL_BYTES) {
    throw source.fault([], {
      why: `its files have ${folder.readBytes} bytes together and ${MAX_TOTAL_BYTES} are the most`,
      fix: "leave out what the cluster does not need, or put large data into an image",
    });
  }
  const { name, namespace, images, secrets, service, login, recreatePodsOf, notes } = spec;
  const digest = digestBytes(folder.lines().join("\n"));
  return {
    ...{ name, namespace, dir: folder.dir, digest, charts, manifests },
    ...{ images, secrets, service, recreatePodsOf, notes },
    ...(login && { login }),
  };
}

/** What no field can know by itself: sources that exclude each other, things that come twice. */
function checkTogether(spec: PayloadSpec, source: YamlSource): void {
  spec.charts.forEach((chart, at) => {
    const field: FieldPath = ["charts", at];
    const named = (["folder", "archive", "oci"] as const).filter((key) => chart[key] !== undefined);
    if (named.length !== 1) {
      throw source.fault(field, {
        why: named.length === 0
          ? "it says nowhere where the chart comes from"
          : `it names ${named.join(" and ")}, and a chart has one source`,
        fix: "name one of folder, archive and oci",
      });
    }
    if (chart.oci !== undefined && chart.digest === undefined) {
      throw source.missing([...field, "digest"]);
    }
    if (chart.folder !== undefined && chart.digest !== undefined) {
      throw source.fault([...field, "digest"], {
        why: "a folder has no digest to compare with",
        fix: "leave it out, or pack the chart and name it as archive",
      });
    }
  });
  const { health, protocol } = spec.service;
  const misplaced = health.path !== undefined && !protocol.startsWith("http")
    ? "path"
    : protocol === "grpcs"
    ? undefined
    : (["grpcService", "grpcMethod"] as const).find((key) => health[key] !== undefined);
  if (misplaced) {
    throw source.fault(["service", "health", misplaced], {
      why: `a service that speaks ${protocol} is not asked that way`,
      fix: misplaced === "path"
        ? "leave it out, or make the protocol http or https"
        : "leave it out, or make the protocol grpcs",
    });
  }
  if (health.grpcService !== undefined && health.grpcMethod !== undefined) {
    throw source.fault(["service", "health", "grpcMethod"], {
      why: "it names a method, and grpcService is asked of the gRPC health service",
      fix: "leave one of them out",
    });
  }
  const { login } = spec;
  if (login !== undefined && protocol !== "https" && protocol !== "grpcs") {
    throw source.fault(["login"], {
      why: `a service that speaks ${protocol} would be sent the token in the clear`,
      fix: "leave it out, or make the protocol https or grpcs",
    });
  }
  if (login?.grpcMethod !== undefined && protocol !== "grpcs") {
    throw source.fault(["login", "grpcMethod"], {
      why: `a service that speaks ${protocol} is not asked that way`,
      fix: "leave it out, or make the protocol grpcs",
    });
  }
  const inNamespace = (one: { name: string; namespace?: string }) =>
    `${one.namespace ?? spec.namespace}/${one.name}`;
  // All charts' objects are in one namespace of the cluster's, whatever they install where.
  refuseTwice(source, "charts", spec.charts.map(({ name }) => name));
  refuseTwice(source, "secrets", spec.secrets.map(inNamespace));
  refuseTwice(source, "images", spec.images.map(({ ref }) => ref));
  refuseTwice(source, "manifests", spec.manifests.map((path) => basename(path)));
}

async function readManifests(
  spec: PayloadSpec,
  source: YamlSource,
  folder: PayloadFolder,
): Promise<PayloadManifest[]> {
  // What gateway itself puts there must not come a second time.
  const seen = new Map<string, string>([[`Namespace /${spec.namespace}`, "gateway itself"]]);
  for (const { name, namespace = spec.namespace } of spec.secrets) {
    seen.set(`Namespace /${namespace}`, "gateway itself");
    seen.set(`Secret ${namespace}/${name}`, `${SPEC_FILE}'s secrets`);
  }
  const patches = new ManifestPatches(spec.patches, source);
  const manifests: PayloadManifest[] = [];
  for (const [at, path] of spec.manifests.entries()) {
    const text = await folder.text(path, source, ["manifests", at]);
    const objects = readManifest(new YamlSource(folder.dir, path, text), seen, patches);
    manifests.push({ name: basename(path), text: objects });
  }
  patches.checkAllFound();
  return manifests;
}

async function readCharts(
  spec: PayloadSpec,
  source: YamlSource,
  folder: PayloadFolder,
): Promise<PayloadChart[]> {
  const charts: PayloadChart[] = [];
  for (const [at, chart] of spec.charts.entries()) {
    const { name, namespace, version, values, oci, digest } = chart;
    const base = {
      ...{ name, values },
      ...(namespace === undefined ? {} : { namespace }),
      ...(version === undefined ? {} : { version }),
    };
    if (oci !== undefined) {
      charts.push({ ...base, from: { kind: "oci", ref: oci, digest: digest! } });
      continue;
    }
    const kind = chart.folder === undefined ? "archive" : "folder";
    const field: FieldPath = ["charts", at, kind];
    const path = chart.folder ?? chart.archive!;
    const names = kind === "folder" ? await listFiles(folder, path, source, field) : [path];
    for (const one of names) await folder.bytes(one, source, field);
    await checkChart({ folder, path, kind, version, digest, source, at });
    charts.push({ ...base, from: { kind, path: join(folder.dir, path) } });
    await checkChartSize(charts.at(-1)!, source, field);
  }
  return charts;
}
