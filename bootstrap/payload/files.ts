/**
 * The files of a payload's folder: read once, counted into its digest, and never from outside of it. Charts are looked
 * into and packed here.
 * It must not know the fields of payload.yaml.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { gzipSync } from "node:zlib";
import { join } from "@std/path";
import { type Document, parseDocument } from "yaml";
import { digestBytes } from "../../vm/base/digest.ts";
import { describeError, GatewayError } from "../../vm/base/error.ts";
import { documentValue, PARSE_OPTIONS } from "../yaml/kube_yaml.ts";
import { type FaultWords, type FieldPath, payloadFault, type YamlSource } from "../yaml/source.ts";
import type { PayloadChart } from "./payload.ts";

/** What one file may have; a larger one is no text that a person wrote, nor a chart. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;

/** The Helm controller keeps a chart in a ConfigMap, as base64; those end at 1 MiB. */
const MAX_CHART_BYTES = 760 * 1024;

/** Reads below one folder. */
export class PayloadFolder {
  readonly #seen = new Map<string, { readonly line: string; readonly bytes: Uint8Array }>();
  #readBytes = 0;

  private constructor(readonly dir: string) {}

  /** The folder, if it holds the file that makes it a payload. @throws GatewayError `payload-invalid`. */
  static async open(dir: string, specFile: string): Promise<PayloadFolder> {
    const refuse = (why: string, fix: string) =>
      new GatewayError({
        code: "payload-invalid",
        what: `Cannot use the payload "${dir}"`,
        why,
        fix,
      });
    const real = await Deno.realPath(dir).catch((error) => {
      throw refuse(
        error instanceof Deno.errors.NotFound ? "there is no such folder" : describeError(error),
        `name a folder with a ${specFile}; docs/payload.md has a whole example`,
      );
    });
    if (!(await Deno.stat(real)).isDirectory) {
      throw refuse("it is no folder", `name the folder that holds ${specFile}`);
    }
    const info = await Deno.stat(join(real, specFile)).catch(() => undefined);
    if (!info?.isFile) {
      throw refuse(
        `it holds no ${specFile}`,
        `write one there; docs/payload.md has a whole example`,
      );
    }
    return new PayloadFolder(real);
  }

  /** Bytes of all files that were read. */
  get readBytes(): number {
    return this.#readBytes;
  }

  /** One line for each file that was read, in name order; equal folders have equal lines. */
  lines(): string[] {
    return [...this.#seen.values()].map(({ line }) => line).sort();
  }

  /** A file as text. `source` and `field` say who named it. @throws GatewayError `payload-invalid`. */
  async text(path: string, source?: YamlSource, field: FieldPath = []): Promise<string> {
    const bytes = await this.bytes(path, source, field);
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch {
      throw this.#refuse(path, source, field, {
        why: `"${path}" is no UTF-8 text`,
        fix: "save it as UTF-8",
      });
    }
  }

  /** A file as it is. @throws GatewayError `payload-invalid`. */
  async bytes(path: string, source?: YamlSource, field: FieldPath = []): Promise<Uint8Array> {
    const known = this.#seen.get(path);
    if (known) return known.bytes;
    const refuse = (why: string, fix: string) => this.#refuse(path, source, field, { why, fix });
    const real = await this.inside(path, refuse);
    const info = await Deno.stat(real);
    if (!info.isFile) throw refuse(`"${path}" is no file`, "name a file");
    if (info.size > MAX_FILE_BYTES) {
      throw refuse(
        `"${path}" has ${info.size} bytes and ${MAX_FILE_BYTES} are the most`,
        "leave out what the cluster does not need, or put large data into an image",
      );
    }
    const bytes = await Deno.readFile(real).catch((error) => {
      throw refuse(`"${path}" cannot be read: ${describeError(error)}`, "make it readable");
    });
    const executable = ((info.mode ?? 0) & 0o111) !== 0;
    const line = `${path}\0${executable ? "x" : "-"}\0${digestBytes(bytes)}`;
    this.#seen.set(path, { line, bytes });
    this.#readBytes += bytes.length;
    return bytes;
  }

  /** The real path of something in the folder. A link may lead elsewhere in it, not out of it. */
  async inside(
    path: string,
    refuse: (why: string, fix: string) => GatewayError,
  ): Promise<string> {
    const real = await Deno.realPath(join(this.dir, path)).catch(() => {
      throw refuse(`"${path}" is not there`, "correct the path; it starts at the payload's folder");
    });
    if (real.startsWith(`${this.dir}/`)) return real;
    throw refuse(
      `"${path}" is a link that leads out of the payload's folder`,
      "put the file itself into the folder",
    );
  }

  #refuse(
    path: string,
    source: YamlSource | undefined,
    field: FieldPath,
    words: FaultWords,
  ): GatewayError {
    return source ? source.fault(field, words) : payloadFault(this.dir, path, words);
  }
}

/** The files below a folder of the payload, by path from the payload's, in name order. Hidden ones do not count. */
export async function listFiles(
  folder: PayloadFolder,
  path: string,
  source: YamlSource,
  field: FieldPath,
): Promise<string[]> {
  const refuse = (why: string, fix: string) => source.fault(field, { why, fix });
  const top = await folder.inside(path, refuse);
  if (!(await Deno.stat(top)).isDirectory) {
    throw refuse(`"${path}" is no folder`, "name the chart's folder, or name a .tgz as archive");
  }
  const found: string[] = [];
  const walk = async (below: string) => {
    for await (const entry of Deno.readDir(join(folder.dir, below))) {
      if (entry.name.startsWith(".") && entry.name !== ".helmignore") continue;
      const name = `${below}/${entry.name}`;
      if (entry.isSymlink) {
        throw refuse(`"${name}" is a link`, "put the file itself into the chart");
      }
      if (entry.isDirectory) await walk(name);
      else found.push(name);
    }
  };
  await walk(path);
  return found.sort();
}

/** What is looked at of one chart. */
export interface ChartCheck {
  readonly folder: PayloadFolder;
  /** From the payload's folder. */
  readonly path: string;
  readonly kind: "folder" | "archive";
  /** As payload.yaml has it. */
  readonly version: string | undefined;
  readonly digest: string | undefined;
  readonly source: YamlSource;
  /** Which of the charts. */
  readonly at: number;
}

/** Reads Chart.yaml and compares version and digest. @throws GatewayError `payload-invalid`. */
export async function checkChart(check: ChartCheck): Promise<void> {
  const { folder, path, kind, version, digest, source, at } = check;
  const field = ["charts", at, kind];
  const refuse = (why: string, fix: string, key: FieldPath = field) =>
    source.fault(key, { why, fix });
  let text: string | undefined;
  if (kind === "folder") {
    const inside = (await listFiles(folder, path, source, field)).includes(`${path}/Chart.yaml`);
    text = inside ? await folder.text(`${path}/Chart.yaml`, source, field) : undefined;
  } else {
    const bytes = await folder.bytes(path, source, field);
    const found = `sha256:${digestBytes(bytes)}`;
    if (digest !== undefined && digest !== found) {
      throw refuse(
        `"${path}" has the digest ${found}`,
        "take the archive that was meant, or its digest",
        [
          ...["charts", at, "digest"],
        ],
      );
    }
    text = await chartYaml(bytes).catch((error) => {
      throw refuse(
        `"${path}" is no packed chart (${describeError(error)})`,
        "pack the chart's folder with `helm package`, or name the folder",
      );
    });
  }
  if (text === undefined) {
    throw refuse(`"${path}" holds no Chart.yaml`, "name the folder or archive of a Helm chart");
  }
  const about = readChartYaml(text);
  if (typeof about?.name !== "string" || typeof about.version !== "string") {
    throw refuse(
      `the Chart.yaml in "${path}" has no name or no version`,
      "add both; Helm refuses the chart without them",
    );
  }
  if (version !== undefined && about.version !== version) {
    throw refuse(
      `the chart in "${path}" has the version ${about.version}`,
      `write version: "${about.version}", or take the chart that was meant`,
      ["charts", at, "version"],
    );
  }
}

function readChartYaml(text: string): { name?: unknown; version?: unknown } | undefined {
  try {
    const document = parseDocument(text, PARSE_OPTIONS) as Document.Parsed;
    const value = document.errors.length > 0 ? undefined : documentValue(document);
    return typeof value === "object" && value !== null
      ? value as Record<string, unknown>
      : undefined;
  } catch {
    return undefined;
  }
}

/** The Chart.yaml of a packed chart, undefined when there is none. */
async function chartYaml(archive: Uint8Array): Promise<string | undefined> {
  const { readChartFiles } = await import("./tar.ts");
  let found: string | undefined;
  for (const { name, data } of await readChartFiles(archive)) {
    if (/^[^/]+\/Chart\.yaml$/.test(name)) found = new TextDecoder().decode(data);
  }
  return found;
}

/** @throws GatewayError `payload-invalid` for a chart that no ConfigMap can hold. */
export async function checkChartSize(
  chart: PayloadChart,
  source: YamlSource,
  field: FieldPath,
): Promise<void> {
  const { length } = await packedChart(chart);
  if (length <= MAX_CHART_BYTES) return;
  throw source.fault(field, {
    why: `packed it has ${length} bytes and a cluster takes ${MAX_CHART_BYTES}`,
    fix: "leave out what the chart does not need, such as tests and pictures",
  });
}

/** A chart of the payload's folder as .tgz: an archive as it is, a folder packed; equal folders give equal bytes. */
export async function packedChart(chart: PayloadChart): Promise<Uint8Array> {
  const { from } = chart;
  if (from.kind === "archive") return await Deno.readFile(from.path);
  if (from.kind === "oci") throw new Error("a chart of a registry is pulled, not packed");
  const names: string[] = [];
  const walk = async (below: string) => {
    for await (const entry of Deno.readDir(join(from.path, below))) {
      if (entry.name.startsWith(".") && entry.name !== ".helmignore") continue;
      const name = below === "" ? entry.name : `${below}/${entry.name}`;
      if (entry.isDirectory) await walk(name);
      else names.push(name);
    }
  };
  await walk("");
  const { packTar } = await import("./tar.ts");
  const entries = await Promise.all(
    names.sort().map(async (name) => ({
      // Helm wants one folder at the top and reads the chart's name from Chart.yaml.
      name: `${chart.name}/${name}`,
      data: await Deno.readFile(join(from.path, name)),
      mode: 0o644,
    })),
  );
  const packed = gzipSync(Buffer.from(await packTar(entries)), { level: 9 });
  // The system that packed it; Helm does not look.
  packed[9] = 255;
  return packed;
}
