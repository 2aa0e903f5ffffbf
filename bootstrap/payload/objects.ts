/**
 * Looks at the objects of a payload's manifests before a cluster does: each has what makes it one, and none comes twice.
 * It must not judge what an object says; the cluster's API does.
 *
 * @module
 */
import { type KubeValue, toJsonText } from "../yaml/kube_yaml.ts";
import { fieldName, type FieldPath, type YamlSource } from "../yaml/source.ts";
import type { ManifestPatches } from "./patches.ts";
import { findNoText } from "./texts.ts";

/**
 * Checks one manifest, patched, and returns its documents as JSON, one a line, with `---` between: every reader of the
 * cluster takes them for what was checked here. `seen` holds every object so far and where it is from, and grows.
 *
 * @throws GatewayError `payload-invalid`.
 */
export function readManifest(
  source: YamlSource,
  seen: Map<string, string>,
  patches: ManifestPatches,
): string {
  const objects: string[] = [];
  for (const document of source.documents) {
    const value = source.value(document);
    if (value === null || value === undefined) continue;
    const patched = patchAll(value as KubeValue, source.name, patches);
    const refuse = (path: FieldPath, why: string, fix: string) =>
      patched === undefined
        ? source.fault(path, { why, fix }, document)
        : patches.fault(patched, path, { why, fix });
    const object = value as KubernetesObject;
    if (typeof value !== "object" || Array.isArray(value)) {
      throw refuse([], "it is no object of Kubernetes", "begin it with apiVersion and kind");
    }
    for (const key of ["apiVersion", "kind"] as const) {
      if (typeof object[key] === "string" && object[key] !== "") continue;
      throw refuse([key], ...noText(object[key]));
    }
    const wrong = findNoText(value as KubeValue);
    if (wrong) throw refuse(wrong.path, ...noText(wrong.value));
    objects.push(toJsonText(value));
    if (object.kind!.endsWith("List") && Array.isArray(object.items)) continue;
    const name = object.metadata?.name;
    if (typeof name !== "string" || name === "") {
      throw refuse(["metadata", "name"], ...noText(name));
    }
    const namespace = object.metadata?.namespace ?? "";
    // The version may differ: the same object in another form.
    const key = `${object.kind} ${namespace}/${name}`;
    const group = object.apiVersion!.includes("/") ? object.apiVersion!.split("/")[0] : "";
    const identity = group === "" ? key : `${group} ${key}`;
    const first = seen.get(identity);
    if (first !== undefined) {
      throw refuse(
        ["metadata", "name"],
        `the ${object.kind} "${name}" comes from ${first}, too`,
        "leave one of them",
      );
    }
    seen.set(identity, source.name);
  }
  if (objects.length === 0) {
    throw source.fault([], {
      why: "it holds no object",
      fix: "write one into it, or take it off the list of manifests",
    });
  }
  return objects.map((one) => `${one}\n`).join("---\n");
}

/** Applies the patches to an object, or to the items of a list; gives the place of the last one that was. */
function patchAll(
  value: KubeValue,
  manifest: string,
  patches: ManifestPatches,
): number | undefined {
  const { kind, items } = value as KubernetesObject;
  const objects: readonly KubeValue[] =
    typeof kind === "string" && kind.endsWith("List") && Array.isArray(items) ? items : [value];
  return objects.map((one) => patches.apply(one, manifest)).findLast((at) => at !== undefined);
}

/** Why something is no text, and what to do: a name such as `on` or `123` has to stand in quotes. */
function noText(value: unknown): [why: string, fix: string] {
  if (value === undefined || value === null || value === "") {
    return ["it is missing", "add it; every object has one"];
  }
  return typeof value === "object" ? ["it is no text", "write a name"] : [
    `YAML reads it as ${toJsonText(value as KubeValue)}, which is no text`,
    "put it into quotes",
  ];
}

interface KubernetesObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: { readonly name?: unknown; readonly namespace?: string };
  readonly items?: unknown;
}

/** Refuses a list in which two entries are the same. @throws GatewayError `payload-invalid` at the second one. */
export function refuseTwice(source: YamlSource, list: string, keys: readonly string[]): void {
  keys.forEach((key, at) => {
    const first = keys.indexOf(key);
    if (first === at) return;
    const words: Readonly<Record<string, readonly [what: string, fix: string]>> = {
      charts: ["a chart of that name", "give it another name"],
      secrets: ["a Secret of that name and namespace", "give it another name, or join the two"],
      images: ["that image", "leave one of them"],
      manifests: ["a file of that name", "give it another name, whatever folder it is in"],
    };
    const [what, fix] = words[list] ?? ["the same", "leave one of them"];
    throw source.fault([list, at], {
      why: `${what} is ${fieldName([list, first])} already`,
      fix,
    });
  });
}
