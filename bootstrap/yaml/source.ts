/**
 * A YAML file of a payload with the places of its fields, so that every fault can say where it is.
 * It must not know what the fields mean.
 *
 * @module
 */
import {
  type Document,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseAllDocuments,
  type Scalar,
  type YAMLError,
} from "yaml";
import { GatewayError } from "../../vm/base/error.ts";
import {
  controlCharacter,
  documentValue,
  KubeYamlError,
  PARSE_OPTIONS,
  plainValue,
  withinStack,
} from "./kube_yaml.ts";

/** From the top of a document down to a field. */
export type FieldPath = readonly (string | number)[];

/** What is wrong with a field, and what to do. */
export interface FaultWords {
  readonly why: string;
  readonly fix: string;
}

/** A line and a column, both from 1 on. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

/** How a field is called in messages: `charts[0].digest`. */
export function fieldName(path: FieldPath): string {
  return path.map((step, at) =>
    typeof step === "number" ? `[${step}]` : at === 0 ? step : `.${step}`
  ).join("");
}

/** The error of a payload that cannot be used. `where` is a file with line and column, and a field if there is one. */
export function payloadFault(dir: string, where: string, words: FaultWords): GatewayError {
  return new GatewayError({
    code: "payload-invalid",
    what: `Cannot use the payload "${dir}"`,
    why: `${where}: ${words.why}`,
    fix: words.fix,
  });
}

/** One file. */
export class YamlSource {
  readonly #lines = new LineCounter();
  /** Its documents; a stream may have several. */
  readonly documents: readonly Document.Parsed[];

  /** @throws GatewayError `payload-invalid` for the first place that is no YAML. */
  constructor(readonly dir: string, readonly name: string, text: string) {
    this.documents = this.#parse(text);
    const control = controlCharacter(text);
    if (control) {
      throw payloadFault(dir, this.#at(this.#place(control.offset)), {
        why: control.why,
        fix: 'write it as an escape in double quotes, such as "\\u0007"',
      });
    }
    const errors: readonly YAMLError[] = this.documents.flatMap((document) => document.errors);
    const [error] = errors;
    if (error !== undefined) {
      throw payloadFault(dir, this.#at(this.#place(error.pos[0])), {
        why: error.message.split("\n")[0]!.trim(),
        fix: "correct the YAML there; nested lines are indented by spaces, and a key comes once",
      });
    }
  }

  #parse(text: string): Document.Parsed[] {
    const options = { ...PARSE_OPTIONS, lineCounter: this.#lines, prettyErrors: false };
    return this.#checked(() =>
      withinStack(() => parseAllDocuments(text, options) as Document.Parsed[])
    );
  }

  /**
   * A document as the cluster's programs read it.
   *
   * @throws GatewayError `payload-invalid` for what they refuse, and for aliases that lead nowhere or grow too much.
   */
  value(document: Document.Parsed): unknown {
    return this.#checked(() => documentValue(document));
  }

  #checked<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof KubeYamlError)) throw error;
      throw payloadFault(this.dir, this.#at(this.#place(error.offset)), {
        why: error.message,
        fix: "correct the YAML there; a text that YAML takes for something else stands in quotes",
      });
    }
  }

  /** The error for a field. A field that is not there is placed at the nearest one above it. */
  fault(path: FieldPath, words: FaultWords, document = this.documents[0]): GatewayError {
    const field = fieldName(path);
    const where = this.#at(this.placeOf(path, document));
    return payloadFault(this.dir, field === "" ? where : `${where}: ${field}`, words);
  }

  /** The error for a field that has to be there. */
  missing(path: FieldPath): GatewayError {
    return this.fault(path, { why: "it is missing", fix: exampleFix(path, "add it") });
  }

  /** Where a field is: its key, for an entry of a list the entry. */
  placeOf(path: FieldPath, document: Document.Parsed | undefined): Place {
    let node: Node | null | undefined = document?.contents;
    let offset = node?.range?.[0] ?? 0;
    for (const step of path) {
      if (isSeq(node)) {
        const item: unknown = node.items[Number(step)];
        node = isNode(item) ? item : undefined;
        offset = node?.range?.[0] ?? offset;
      } else if (isMap(node)) {
        const pair: { key: unknown; value: unknown } | undefined = node.items.find(({ key }) =>
          isScalar(key) && keyText(key) === String(step)
        );
        if (isNode(pair?.key)) offset = pair.key.range?.[0] ?? offset;
        node = isNode(pair?.value) ? pair.value : undefined;
      } else break;
      if (node === undefined) break;
    }
    return this.#place(offset);
  }

  #place(offset: number): Place {
    const { line, col } = this.#lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  }

  #at({ line, column }: Place): string {
    return `${this.name}:${line}:${column}`;
  }
}

/** A key as the value has it: the plain key `on` is `true` there. */
function keyText({ type, value }: Scalar): string {
  return type === "PLAIN" ? String(plainValue(String(value))) : String(value);
}

/** How each field of payload.yaml is written, for the errors' advice; `*` stands for an entry's number or a key. */
const EXAMPLES: Readonly<Record<string, string>> = {
  "name": "name: hello",
  "namespace": "namespace: hello",
  "charts": "charts: [{name: hello, folder: chart}]",
  "charts.*.name": "name: hello",
  "charts.*.namespace": "namespace: hello",
  "charts.*.version": 'version: "1.2.3"',
  "charts.*.folder": "folder: charts/hello",
  "charts.*.archive": "archive: charts/hello-1.2.3.tgz",
  "charts.*.oci": "oci: ghcr.io/example/charts/hello:1.2.3",
  "charts.*.digest": "digest: sha256:<64 hexadecimal digits>",
  "charts.*.values": "values: {replicas: 1}",
  "manifests": "manifests: [hello.yaml]",
  "manifests.*": "- manifests/hello.yaml",
  "patches":
    "patches: [{kind: Deployment, name: hello, patch: [{op: remove, path: /spec/replicas}]}]",
  "patches.*.kind": "kind: Deployment",
  "patches.*.name": "name: hello",
  "patches.*.namespace": "namespace: hello",
  "patches.*.patch": "patch: [{op: replace, path: /spec/replicas, value: 2}]",
  "patches.*.patch.*.op": "op: replace",
  "patches.*.patch.*.path": "path: /spec/replicas",
  "patches.*.patch.*.from": "from: /spec/replicas",
  "patches.*.patch.*.value": "value: 2",
  "images": 'images: [{ref: "ghcr.io/example/hello:1.2", digest: "sha256:…"}]',
  "images.*.ref": "ref: ghcr.io/example/hello:1.2",
  "images.*.digest": "digest: sha256:<64 hexadecimal digits>",
  "images.*.when": "when: later",
  "secrets": "secrets: [{name: hello-tls, data: {tls.crt: server.crt}}]",
  "secrets.*.name": "name: hello-tls",
  "secrets.*.type": "type: kubernetes.io/tls",
  "secrets.*.namespace": "namespace: hello",
  "secrets.*.data": "data: {tls.crt: server.crt, tls.key: server.key}",
  "secrets.*.data.*": "tls.crt: server.crt",
  "service": "service: {nodePort: 30080, protocol: http}",
  "service.nodePort": "nodePort: 30080",
  "service.protocol": "protocol: https",
  "service.health": "health: {path: /healthz, timeoutSeconds: 300}",
  "service.health.path": "path: /healthz",
  "recreatePodsOf.*": "Sandbox.agents.x-k8s.io",
  "service.health.grpcService": "grpcService: hello.v1.Hello",
  "service.health.grpcMethod": "grpcMethod: hello.v1.Hello/Health",
  "service.health.timeoutSeconds": "timeoutSeconds: 300",
  "login": "login: {audience: hello}",
  "login.audience": "audience: hello",
  "login.serviceAccount": "serviceAccount: hello-user",
  "login.grpcMethod": "grpcMethod: hello.v1.Hello/List",
  "notes": "notes: Open {endpoint} in a browser.",
};

/** Advice with an example of the field. */
export function exampleFix(path: FieldPath, verb: string): string {
  const exact = path.map((step) => typeof step === "number" ? "*" : step).join(".");
  const open = exact.replace(/^secrets\.\*\.data\..+$/, "secrets.*.data.*");
  const example = EXAMPLES[open];
  return example === undefined ? "see docs/payload.md" : `${verb}, such as \`${example}\``;
}
