/**
 * registries.yaml of the user, in the form that k3s has: mirrors, credentials and certificates of registries. One file
 * for the pulls of this host and for those of the cluster.
 * It must not reach a registry, and nothing of the file but names of fields and hosts may get into an error.
 *
 * @module
 */
import { dirname, isAbsolute, join } from "@std/path";
import * as v from "valibot";
import { isMap, isScalar, LineCounter, parseDocument, type Range, visit } from "yaml";
import { describeError, GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { xdgConfigHome } from "../../vm/base/layout.ts";
import { PARSE_OPTIONS, plainValue } from "../yaml/kube_yaml.ts";

/** Where a registry's images are looked for instead. */
export interface RegistryMirror {
  /** Tried in order, the registry itself after them. */
  readonly endpoint?: readonly string[];
  /** Regular expressions of repositories and what takes their place, for the endpoints. */
  readonly rewrite?: Readonly<Record<string, string>>;
}

/** What is needed to talk to one host. */
export interface RegistryConfig {
  readonly auth?: {
    readonly username?: string;
    readonly password?: string;
    readonly auth?: string;
    readonly identity_token?: string;
  };
  readonly tls?: {
    readonly ca_file?: string;
    readonly cert_file?: string;
    readonly key_file?: string;
    readonly insecure_skip_verify?: boolean;
  };
}

/** The whole file. Secret: it may hold credentials. */
export interface Registries {
  readonly mirrors?: Readonly<Record<string, RegistryMirror>>;
  readonly configs?: Readonly<Record<string, RegistryConfig>>;
}

const text = v.string("it has to be a text");
/** True or false in any of the words that YAML 1.1 has. */
const flag = v.pipe(
  text,
  v.check((word) => typeof plainValue(word) === "boolean", "it has to be true or false"),
  v.transform((word) => plainValue(word) === true),
);

/** A group of fields that may stand there with nothing in it, as in files with all of it commented out. */
function group<T extends v.GenericSchema>(schema: T) {
  return v.pipe(v.unknown(), v.transform((found) => found === null ? {} : found), schema);
}

/** As the guest checks it (rootfs/kubenode/internal/registries): of each name it makes a folder. */
const host = v.pipe(
  v.string(),
  v.regex(
    /^(?:\*|(?:[A-Za-z0-9][\w-]*(?:\.[A-Za-z0-9][\w-]*)*|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?)$/,
    'it is not a registry\'s host, such as registry.example:5000, or "*"',
  ),
);

const Mirror = v.strictObject({
  endpoint: v.nullish(v.array(text, "it has to be a list")),
  rewrite: v.nullish(v.record(v.string(), text, "it has to be a mapping")),
  // Known from containerd's own files. k3s ignores it: an endpoint with a path is taken as it is.
  override_path: v.nullish(v.unknown()),
}, "it is no field of a mirror, which has endpoint and rewrite");
const Auth = v.strictObject({
  username: v.nullish(text),
  password: v.nullish(text),
  auth: v.nullish(text),
  identity_token: v.nullish(text),
}, "it is no field of auth, which has username, password, auth and identity_token");
const Tls = v.strictObject({
  ca_file: v.nullish(text),
  cert_file: v.nullish(text),
  key_file: v.nullish(text),
  insecure_skip_verify: v.nullish(flag),
}, "it is no field of tls, which has ca_file, cert_file, key_file and insecure_skip_verify");
const Config = v.strictObject({
  auth: v.nullish(Auth),
  tls: v.nullish(Tls),
}, "it is no field of a configuration, which has auth and tls");
const File = v.strictObject({
  mirrors: v.nullish(v.record(host, group(Mirror), "it has to be a mapping")),
  configs: v.nullish(v.record(host, group(Config), "it has to be a mapping")),
}, "it is no field of this file, which has mirrors and configs");

/** Where the user puts it: `$XDG_CONFIG_HOME/gateway/registries.yaml`. */
export function registriesPath(): string {
  return join(xdgConfigHome(), "gateway", "registries.yaml");
}

/**
 * The user's file with every path made absolute; undefined where there is none.
 *
 * @throws GatewayError `settings-invalid` that names line and field, `permission` for a file that cannot be read.
 */
export async function readRegistries(
  span: Span,
  path: string = registriesPath(),
): Promise<Registries | undefined> {
  let source: string;
  try {
    source = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw new GatewayError({
      code: "permission",
      what: `Cannot read "${path}"`,
      why: describeError(error),
      fix: "make it readable for you, or remove it",
    });
  }
  const found = parseRegistries(source, path);
  const secret = Object.values(found.configs ?? {}).some(({ auth }) => auth !== undefined);
  const mode = (await Deno.stat(path)).mode ?? 0;
  if (secret && (mode & 0o077) !== 0) {
    span.warn(`${path} holds credentials and others can read it: run chmod 600 ${path}`);
  }
  return found;
}

/** The checked content of registries.yaml; relative paths are taken from the file's folder. @throws GatewayError `settings-invalid`. */
export function parseRegistries(source: string, path: string): Registries {
  const lines = new LineCounter();
  const { document, value } = readDocument(source, path, lines);
  const result = v.safeParse(File, value);
  const [issue] = result.issues ?? [];
  if (issue) {
    const keys = (issue.path ?? []).map(({ key }) => key as string | number);
    throw wrong(path, lineOf(document, keys, lines), `${keys.join(".")}: ${issue.message}`);
  }
  const found = withoutNothing(result.output) as Registries;
  for (const [name, { endpoint = [], rewrite = {} }] of Object.entries(found.mirrors ?? {})) {
    const at = (keys: (string | number)[]) => lineOf(document, ["mirrors", name, ...keys], lines);
    endpoint.forEach((one, index) => {
      if (isEndpoint(one)) return;
      const why = `mirrors.${name}.endpoint.${index}: it is no http or https address`;
      throw wrong(path, at(["endpoint", index]), why);
    });
    for (const expression of Object.keys(rewrite)) {
      if (isExpression(expression)) continue;
      const why = `mirrors.${name}.rewrite: "${expression}" is no regular expression`;
      throw wrong(path, at(["rewrite", expression]), why);
    }
  }
  return withAbsolutePaths(found, dirname(path));
}

function readDocument(source: string, path: string, lines: LineCounter) {
  try {
    const document = parseDocument(source, { ...PARSE_OPTIONS, lineCounter: lines });
    const [broken] = document.errors;
    if (broken) {
      throw wrong(path, lines.linePos(broken.pos[0]).line, "it is no YAML: " + broken.code);
    }
    // A user's name or password is the text that stands there, also where YAML has a number or a word for it.
    visit(document, {
      Scalar: (_, node) => {
        const isNothing = node.type === "PLAIN" && plainValue(String(node.value)) === null;
        if (isNothing) node.value = null;
      },
    });
    return { document, value: document.toJS({ maxAliasCount: 100 }) ?? {} };
  } catch (error) {
    // The parser calls itself for each level, and throws for aliases only when it follows them.
    if (error instanceof RangeError) throw wrong(path, 1, "it is nested too deeply");
    if (!(error instanceof ReferenceError)) throw error;
    throw wrong(path, 1, "an alias in it leads nowhere or unfolds to too many values");
  }
}

/** Leaves out fields that hold nothing, and those that are ignored. */
function withoutNothing(value: unknown): unknown {
  if (Array.isArray(value) || typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value)
    .filter(([key, inner]) => inner !== null && inner !== undefined && key !== "override_path")
    .map(([key, inner]) => [key, withoutNothing(inner)] as const);
  return Object.fromEntries(fields);
}

function isEndpoint(endpoint: string): boolean {
  try {
    const url = new URL(endpoint.includes("://") ? endpoint : `https://${endpoint}`);
    const plain = url.username === "" && url.search === "" && url.hash === "";
    return ["http:", "https:"].includes(url.protocol) && url.host !== "" && plain;
  } catch {
    return false;
  }
}

function isExpression(expression: string): boolean {
  try {
    new RegExp(expression);
    return true;
  } catch {
    return false;
  }
}

function withAbsolutePaths(found: Registries, dir: string): Registries {
  const absolute = (file: string | undefined) =>
    file === undefined || isAbsolute(file) ? file : join(dir, file);
  const configs = Object.entries(found.configs ?? {}).map(([host, { auth, tls }]) => {
    const { ca_file, cert_file, key_file, ...rest } = tls ?? {};
    const files = Object.entries({
      ca_file: absolute(ca_file),
      cert_file: absolute(cert_file),
      key_file: absolute(key_file),
    }).filter(([, file]) => file !== undefined && file !== "");
    const all = { ...rest, ...Object.fromEntries(files) };
    return [host, { ...(auth && { auth }), ...(tls && { tls: all }) }] as const;
  });
  return { ...found, ...(found.configs && { configs: Object.fromEntries(configs) }) };
}

/** The line of the deepest part of the path that is in the file. */
function lineOf(
  document: ReturnType<typeof parseDocument>,
  keys: readonly (string | number)[],
  lines: LineCounter,
): number {
  let line = 1;
  for (let depth = 1; depth <= keys.length; depth++) {
    const above = depth === 1
      ? document.contents
      : document.getIn(keys.slice(0, depth - 1) as string[], true);
    const key = keys[depth - 1];
    const pair = isMap(above)
      ? above.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key))
      : undefined;
    const node = pair?.key ?? document.getIn(keys.slice(0, depth) as string[], true);
    const range = (node as { range?: Range } | undefined)?.range;
    if (range) line = lines.linePos(range[0]).line;
  }
  return line;
}

function wrong(path: string, line: number, why: string): GatewayError {
  return new GatewayError({
    code: "settings-invalid",
    what: `Cannot use "${path}"`,
    why: `line ${line}: ${why}`,
    fix: "correct the file; docs/images.md has an example",
  });
}
