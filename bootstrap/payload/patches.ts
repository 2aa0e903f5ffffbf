/**
 * Changes of a payload to single objects of its manifests, by JSON Patch (RFC 6902), so that a manifest of somebody else's
 * stays the file that its digest names. A patch that does not fit is refused before anything boots.
 *
 * @module
 */
import { applyPatch, type Operation } from "rfc6902";
import type { KubeValue } from "../yaml/kube_yaml.ts";
import { fieldName, type FieldPath, type YamlSource } from "../yaml/source.ts";
import type { PatchOperation, PayloadPatch } from "./schema.ts";

/** The fields that patches find an object by, as far as it has them. */
interface Named {
  readonly apiVersion?: unknown;
  readonly kind?: unknown;
  readonly metadata?: { readonly name?: unknown; readonly namespace?: unknown } | null;
}

/** The patches of one payload.yaml, and which of them have found their object. */
export class ManifestPatches {
  readonly #found = new Map<number, string>();

  constructor(
    private readonly patches: readonly PayloadPatch[],
    private readonly source: YamlSource,
  ) {
    patches.forEach(({ patch }, at) =>
      patch.forEach((operation, step) =>
        this.#checkFields(operation, ["patches", at, "patch", step])
      )
    );
  }

  /** RFC 6902 gives each operation its own fields. */
  #checkFields(operation: PatchOperation, field: FieldPath): void {
    const { op } = operation;
    const needed = op === "remove" ? undefined : op === "move" || op === "copy" ? "from" : "value";
    for (const key of ["from", "value"] as const) {
      const there = Object.hasOwn(operation, key);
      if (there === (key === needed)) continue;
      throw there
        ? this.source.fault([...field, key], {
          why: `the operation ${op} does not have this field`,
          fix: "remove it",
        })
        : this.source.missing([...field, key]);
    }
  }

  /**
   * Applies every patch that names the object, in their order and in place. Returns the place of the last one in the
   * list; undefined when none names it.
   *
   * @throws GatewayError `payload-invalid` for a second object of one patch, and for an operation that does not fit.
   */
  apply(object: KubeValue, manifest: string): number | undefined {
    const named = [...this.patches.entries()]
      .filter(([, patch]) => fits(patch, object as Named | null));
    for (const [at, patch] of named) {
      const before = this.#found.get(at);
      if (before !== undefined) {
        throw this.source.fault(["patches", at], {
          why: `${wordsOf(patch)} is in ${before} and again in ${manifest}`,
          fix: "name its namespace, or its kind with the group, such as `kind: Deployment.apps`",
        });
      }
      this.#found.set(at, manifest);
      patch.patch.forEach((operation, step) =>
        this.#applyOne(object, operation, ["patches", at, "patch", step])
      );
    }
    return named.at(-1)?.[0];
  }

  /** Refuses patches whose object no manifest held. @throws GatewayError `payload-invalid` */
  checkAllFound(): void {
    this.patches.forEach((patch, at) => {
      if (this.#found.has(at)) return;
      throw this.source.fault(["patches", at], {
        why: `no manifest holds ${wordsOf(patch)}`,
        fix: "correct its kind, name and namespace, or remove the patch",
      });
    });
  }

  /** The error for an object that a patch has made wrong. */
  fault(at: number, path: FieldPath, words: { why: string; fix: string }) {
    const where = path.length === 0 ? "the object" : fieldName(path);
    return this.source.fault(["patches", at, "patch"], {
      why: `after this patch ${where}: ${words.why}`,
      fix: words.fix,
    });
  }

  #applyOne(object: KubeValue, operation: PatchOperation, field: FieldPath): void {
    const { op, path, from } = operation;
    const missing = from !== undefined && !leads(object, from, "value")
      ? "from"
      : leads(object, path, op === "add" || op === "copy" || op === "move" ? "place" : "value")
      ? undefined
      : "path";
    if (missing) {
      throw this.source.fault([...field, missing], {
        why: `the object has nothing at "${operation[missing]}"`,
        fix: "correct the path; its steps are names of fields, and numbers from 0 in lists",
      });
    }
    const [error] = applyPatch(object, [operation as Operation]);
    if (!error) return;
    throw this.source.fault(field, {
      why: error.name === "TestError"
        ? `the object has another value at "${path}"`
        : `it cannot be applied: ${error.message}`,
      fix: "compare the patch with the manifest",
    });
  }
}

/** Whether a patch names an object. Without a namespace it is found in any. */
function fits({ kind, name, namespace }: PayloadPatch, object: Named | null): boolean {
  const { apiVersion, metadata } = object ?? {};
  const [group] = String(apiVersion).includes("/") ? String(apiVersion).split("/") : [""];
  return (kind === object?.kind || kind === `${object?.kind}.${group}`) &&
    name === metadata?.name &&
    (namespace === undefined || namespace === metadata.namespace);
}

function wordsOf({ kind, name, namespace }: PayloadPatch): string {
  return `the ${kind} "${name}"${
    namespace === undefined ? "" : ` of the namespace "${namespace}"`
  }`;
}

/**
 * Whether a JSON pointer leads to a value that is there, or else to a place where one can be added. The library follows
 * some that do not, such as a name in a list.
 */
function leads(object: KubeValue, pointer: string, to: "value" | "place"): boolean {
  const steps = pointer.slice(1).split("/")
    .map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  const last = steps.pop()!;
  let value: unknown = object;
  for (const step of steps) {
    if (!holds(value, step)) return false;
    value = (value as Record<string, unknown>)[step];
  }
  if (to === "value" || typeof value !== "object" || value === null) return holds(value, last);
  return !Array.isArray(value) || last === "-" || last === String(value.length) ||
    holds(value, last);
}

function holds(value: unknown, step: string): boolean {
  if (Array.isArray(value)) return /^(0|[1-9][0-9]*)$/.test(step) && Number(step) < value.length;
  return typeof value === "object" && value !== null && Object.hasOwn(value, step);
}
