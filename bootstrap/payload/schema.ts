/**
 * The form of payload.yaml: every field, what it may hold, and what is said of one that is wrong.
 * It must not look at other files.
 *
 * @module
 */
import * as v from "valibot";
import { exampleFix, type FieldPath, type YamlSource } from "../yaml/source.ts";
import type { JsonObject, PayloadService, SecretSource } from "./payload.ts";

/** What a Secret's entry can be filled with: files of the instance's own certificates and keys. */
const SECRET_SOURCES: readonly SecretSource[] = [
  ...["ca.crt", "server.crt", "server.key", "client.crt", "client.key"] as const,
  ...["jwt-signing.pem", "jwt-public.pem", "jwt-kid"] as const,
];

/** How a service can be spoken to; the first two over TLS with the instance's certificates. */
const PROTOCOLS: readonly PayloadService["protocol"][] = ["https", "grpcs", "http", "tcp"];

/** Whether READY waits for an image. */
const IMAGE_TIMES = ["ready", "later"] as const;

/** Of RFC 6902. */
const PATCH_OPERATIONS = ["add", "remove", "replace", "move", "copy", "test"] as const;

/** The range that Kubernetes hands out unless it is told otherwise. */
const NODE_PORTS = { from: 30_000, to: 32_767 };

const label = v.pipe(
  v.string(),
  v.regex(
    /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/,
    "only a-z, 0-9 and - inside are allowed",
  ),
  v.maxLength(63, "it has more than 63 characters"),
);

/** A release's name becomes part of others; Helm's limit. */
const release = v.pipe(label, v.maxLength(53, "it has more than 53 characters"));

const subdomain = v.pipe(
  v.string(),
  v.regex(
    /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/,
    "only a-z, 0-9, - and . inside are allowed",
  ),
  v.maxLength(253, "it has more than 253 characters"),
);

const path = v.pipe(
  v.string(),
  v.check((text) => !text.startsWith("/"), "it is not below the payload's folder"),
  v.check(
    (text) => !text.split("/").includes(".."),
    "it leads out of the payload's folder",
  ),
  v.regex(
    /^(\.\/)?[A-Za-z0-9_][\w.+-]*(\/[A-Za-z0-9_][\w.+-]*)*\/?$/,
    "its name has characters beyond letters, digits and . _ + -",
  ),
  v.transform((text) => text.replace(/^\.\//, "").replace(/\/$/, "")),
);

const manifestPath = v.pipe(
  path,
  v.regex(/\.(yaml|yml|json)$/, "a manifest ends in .yaml, .yml or .json"),
  v.check(
    (text) => text.slice(text.lastIndexOf("/") + 1).length <= 64,
    "its name has more than 64 characters",
  ),
);

const digest = v.pipe(
  v.string((issue) =>
    issue.received === "null" ? "it is null, so nobody has verified it yet" : wrongType(issue)
  ),
  v.regex(/^sha256:[0-9a-f]{64}$/, "it is no sha256 digest"),
);

/** Registry, repository, tag: how containerd keeps it, so that it is what the pod asks for. */
const reference = v.pipe(
  v.string(),
  v.check((text) => !text.includes("@"), "its digest belongs into the field digest"),
  v.regex(
    /^[a-z0-9][a-z0-9.-]*(:\d+)?(\/[a-z0-9]+([._-]+[a-z0-9]+)*)+:[\w][\w.-]{0,127}$/,
    "it is not REGISTRY/REPOSITORY:TAG",
  ),
  v.check(
    (text) => /[.:]|^localhost$/.test(text.split("/")[0]!),
    "it does not name its registry, so nobody knows where it comes from",
  ),
);

const imageReference = v.pipe(
  reference,
  v.check((text) => !text.startsWith("gateway.local/"), "gateway brings that image itself"),
);

const values = v.pipe(
  v.record(v.string(), v.unknown()),
  v.check((found) => isJson(found), "it holds a value that JSON cannot, such as .nan"),
  v.transform((found) => found as JsonObject),
);

function isJson(value: unknown): boolean {
  if (typeof value === "number") return Number.isFinite(value);
  if (typeof value === "bigint") return true;
  if (value === null || ["string", "boolean"].includes(typeof value)) return true;
  return typeof value === "object" && Object.values(value).every(isJson);
}

const Chart = v.strictObject({
  name: release,
  namespace: v.optional(label),
  version: v.optional(v.pipe(v.string(), v.nonEmpty("it is empty"))),
  folder: v.optional(path),
  archive: v.optional(v.pipe(path, v.regex(/\.(tgz|tar\.gz)$/, "an archive ends in .tgz"))),
  oci: v.optional(reference),
  digest: v.optional(digest),
  values: v.optional(values, {}),
});

const Secret = v.strictObject({
  name: subdomain,
  type: v.optional(v.pipe(v.string(), v.nonEmpty("it is empty")), "Opaque"),
  namespace: v.optional(label),
  data: v.pipe(
    v.record(
      v.pipe(
        v.string(),
        v.regex(/^[-._a-zA-Z0-9]{1,253}$/, "only letters, digits, -, _ and . are allowed in a key"),
      ),
      v.picklist(SECRET_SOURCES, `it is none of ${SECRET_SOURCES.join(", ")}`),
    ),
    v.check((data) => Object.keys(data).length > 0, "it is empty"),
  ),
});

const grpcMethod = v.pipe(
  v.string(),
  v.regex(/^(\w+\.)*\w+\/\w+$/, "it is no method in the form package.Service/Method"),
);

const Health = v.strictObject({
  path: v.optional(
    v.pipe(v.string(), v.regex(/^\/[!-~]*$/, "it is no path that begins with /")),
  ),
  grpcService: v.optional(
    v.pipe(v.string(), v.regex(/^[\w.]*$/, "it is no name of a gRPC service")),
  ),
  grpcMethod: v.optional(grpcMethod),
  timeoutSeconds: v.optional(
    v.pipe(
      v.number(),
      v.integer("it is no whole number"),
      v.minValue(5, "it is less than 5"),
      v.maxValue(7200, "it is more than 7200"),
    ),
    720,
  ),
});

const Service = v.strictObject({
  nodePort: v.pipe(
    v.number(),
    v.integer("it is no whole number"),
    v.minValue(NODE_PORTS.from, `node ports begin at ${NODE_PORTS.from}`),
    v.maxValue(NODE_PORTS.to, `node ports end at ${NODE_PORTS.to}`),
  ),
  protocol: v.picklist(PROTOCOLS, `it is none of ${PROTOCOLS.join(", ")}`),
  health: v.optional(Health, {}),
});

const Image = v.strictObject({
  ref: imageReference,
  digest,
  when: v.optional(v.picklist(IMAGE_TIMES, `it is none of ${IMAGE_TIMES.join(", ")}`), "ready"),
});

/** A JSON pointer; the library leaves out steps of these three names. */
const pointer = v.pipe(
  v.string(),
  v.regex(/^(\/([^~/]|~[01])*)+$/, "it is not a JSON pointer such as /spec/replicas"),
  v.check(
    (text) => !/\/(__proto__|constructor|prototype)(\/|$)/.test(text),
    "a patch cannot lead through __proto__, constructor or prototype",
  ),
);

const PatchStep = v.strictObject({
  op: v.picklist(PATCH_OPERATIONS, `it is none of ${PATCH_OPERATIONS.join(", ")}`),
  path: pointer,
  from: v.optional(pointer),
  value: v.optional(
    v.pipe(v.unknown(), v.check(isJson, "it holds a value that JSON cannot, such as .nan")),
  ),
});

const Patch = v.strictObject({
  kind: v.pipe(
    v.string(),
    v.regex(/^[A-Z][A-Za-z0-9]*(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/, "it is no kind"),
  ),
  name: v.pipe(v.string(), v.nonEmpty("it is empty")),
  namespace: v.optional(label),
  patch: v.pipe(v.array(PatchStep), v.nonEmpty("it is empty")),
});

const Login = v.strictObject({
  audience: v.pipe(
    v.string(),
    v.regex(/^[!-~]{1,200}$/, "it is no word of 1 to 200 characters"),
  ),
  serviceAccount: v.optional(subdomain, "gateway-login"),
  grpcMethod: v.optional(grpcMethod),
});

const Spec = v.strictObject({
  name: label,
  namespace: label,
  charts: v.optional(v.pipe(v.array(Chart), v.maxLength(10, "it has more than 10 entries")), []),
  manifests: v.optional(
    v.pipe(v.array(manifestPath), v.maxLength(80, "it has more than 80 entries")),
    [],
  ),
  patches: v.optional(v.array(Patch), []),
  images: v.optional(
    v.array(Image),
    [],
  ),
  secrets: v.optional(v.array(Secret), []),
  service: Service,
  login: v.optional(Login),
  recreatePodsOf: v.optional(
    v.array(
      v.pipe(
        v.string(),
        v.regex(/^[A-Z][A-Za-z0-9]*(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$/, "it is no Kind.group"),
      ),
    ),
    [],
  ),
  notes: v.optional(v.pipe(v.string(), v.maxLength(4000, "it has more than 4000 characters")), ""),
});

/** payload.yaml as it was written, with the defaults in. */
export type PayloadSpec = v.InferOutput<typeof Spec>;

/** A change to one object of the manifests. */
export type PayloadPatch = PayloadSpec["patches"][number];

/** One operation of it. */
export type PatchOperation = PayloadPatch["patch"][number];

/** The names that fields may have, by where they stand. */
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  "": Object.keys(Spec.entries),
  "charts.*": Object.keys(Chart.entries),
  "patches.*": Object.keys(Patch.entries),
  "patches.*.patch.*": Object.keys(PatchStep.entries),
  "images.*": Object.keys(Image.entries),
  "secrets.*": Object.keys(Secret.entries),
  "service": Object.keys(Service.entries),
  "login": Object.keys(Login.entries),
  "service.health": Object.keys(Health.entries),
};

/**
 * Checks a payload.yaml by itself.
 *
 * @throws GatewayError `payload-invalid` for the first fault in the file.
 */
export function parseSpec(source: YamlSource): PayloadSpec {
  const [document, second] = source.documents;
  if (second !== undefined) {
    throw source.fault([], {
      why: "it holds several documents",
      fix: "leave one; objects of Kubernetes belong into files that manifests names",
    }, second);
  }
  const value = document === undefined ? null : source.value(document);
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw source.fault([], {
      why: value === null ? "it is empty" : "it holds no fields",
      fix: "begin with name, namespace and service; docs/payload.md has a whole example",
    });
  }
  const result = v.safeParse(Spec, value);
  if (result.success) return result.output;
  const faults = result.issues.map((issue) => {
    const path = (issue.path ?? []).map(({ key }) => key as string | number);
    return { path, issue, place: source.placeOf(path, document) };
  }).sort((a, b) =>
    // What is missing often stands there under a wrong name, which is the one to correct.
    Number(isMissing(a.issue)) - Number(isMissing(b.issue)) || a.place.line - b.place.line ||
    a.place.column - b.place.column
  );
  const { path, issue } = faults[0]!;
  const words = wordsOf(issue, path);
  const more = new Set(faults.map(({ path }) => path.join("."))).size - 1;
  const why = more > 0 ? `${words.why} (and ${more} more to correct)` : words.why;
  throw source.fault(path, { ...words, why });
}

type Issue = v.BaseIssue<unknown>;

function isMissing(issue: Issue): boolean {
  return issue.received === "undefined";
}

function wordsOf(issue: Issue, path: FieldPath): { why: string; fix: string } {
  if (issue.type === "strict_object" && issue.expected === "never") {
    const where = path.slice(0, -1).map((step) => typeof step === "number" ? "*" : step).join(".");
    return {
      why: "there is no such field",
      fix: `remove it, or use one of ${FIELDS[where]?.join(", ")}`,
    };
  }
  if (isMissing(issue)) {
    return { why: "it is missing", fix: exampleFix(path, "add it") };
  }
  const custom = !issue.message.startsWith("Invalid ");
  return {
    why: custom ? issue.message : wrongType(issue),
    fix: exampleFix(path, "write it in its form"),
  };
}

/** What a value is in place of what it has to be. */
function wrongType(issue: Pick<Issue, "expected" | "received" | "input">): string {
  const kinds: Readonly<Record<string, string>> = {
    ...{ string: "a text", number: "a number", boolean: "true or false", Array: "a list" },
    ...{ Object: "a group of fields", null: "nothing" },
  };
  const expected = kinds[issue.expected ?? ""] ?? issue.expected ?? "something else";
  const { input } = issue;
  const kind = input === null ? "null" : Array.isArray(input) ? "Array" : typeof input;
  const found = kind === "object" ? kinds.Object : kinds[kind] ?? kind;
  return `it is ${found} and has to be ${expected}`;
}
