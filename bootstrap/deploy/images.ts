/**
 * Images that no cluster can pull: those that are built on this machine and are in no registry.
 * It must not pull or push anything.
 *
 * @module
 */
import { GatewayError } from "../../vm/base/error.ts";
import type { KubeObject } from "../cluster/api.ts";
import { BUILT_PREFIX, imagesOf } from "./objects.ts";

/** A node tells no more images than this, the largest ones, so that one that is missing may still be there. */
const TOLD_BY_A_NODE = 50;

/** What was found: nothing to say, or a sentence for a warning. */
export interface ImageFinding {
  readonly warning?: string;
}

/**
 * Looks for images that are built here among the objects, and whether the nodes have them. `nodes` is undefined where
 * this user may not list them.
 *
 * @throws GatewayError `not-supported` when it is certain that no node has one of them.
 */
export function checkImages(
  objects: readonly KubeObject[],
  nodes: readonly KubeObject[] | undefined,
): ImageFinding {
  const built = [
    ...new Set(objects.flatMap(imagesOf).filter((image) => image.startsWith(BUILT_PREFIX))),
  ];
  if (built.length === 0) return {};
  const listed = (nodes ?? []).map(({ status }) =>
    (status?.images ?? []) as { names?: string[] }[]
  );
  const there = new Set(listed.flat().flatMap(({ names }) => names ?? []));
  const missing = built.filter((image) => !there.has(image));
  if (missing.length === 0) return {};
  const words = missing.map((image) => `"${image}"`).join(", ");
  const fix = "push them to a registry that the cluster reaches and pass --image-prefix " +
    "REGISTRY/PATH, or load them into each node";
  const certain = nodes !== undefined && nodes.length > 0 &&
    listed.every((images) => images.length < TOLD_BY_A_NODE);
  if (!certain) {
    return {
      warning: `the images ${words} are built by gateway and cannot be pulled, and the nodes do ` +
        `not tell whether they have them; if they do not, ${fix}`,
    };
  }
  throw new GatewayError({
    code: "not-supported",
    what: `Cannot run the images ${words} in this cluster`,
    why: "they are built by gateway and are in no registry, and no node has them",
    fix,
  });
}
