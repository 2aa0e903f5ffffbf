/**
 * A payload: what runs in the cluster, as a folder with payload.yaml. Reads the folder and checks all of it, so that
 * nothing that is wrong in it is found by a guest minutes later. docs/payload.md explains the format.
 * It must not pull, build or apply anything.
 *
 * @module
 */
import { basename, join } from "@std/path";
import { digestBytes } from "../../vm/base/digest.ts";
import { type FieldPath, YamlSource } from "../yaml/source.ts";
import { checkChart, checkChartSize, listFiles, PayloadFolder } from "./files.ts";
import { readManifest, refuseTwice } from "./objects.ts";
import { ManifestPatches } from "./patches.ts";
import type { Payload, PayloadChart, PayloadManifest } from "./payload.ts";
import { parseSpec, type PayloadSpec } from "./schema.ts";

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
