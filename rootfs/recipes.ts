/**
 * All recipes of this room, wired to each other: the one call that the rooms above make.
 * It must not build anything by itself but the pinned k3s release, which decides by working or not.
 *
 * @module
 */
import type { Arch } from "../vm/base/arch.ts";
import { GatewayError } from "../vm/base/error.ts";
import type { Span } from "../vm/base/event.ts";
import { sourcePath } from "../vm/base/source.ts";
import type { ArtifactStore, Recipe } from "../vm/store/artifact.ts";
import {
  clusterFromFile,
  clusterFromModules,
  clusterFromRelease,
  type ClusterRecipe,
  type ClusterSource,
} from "./cluster/cluster.ts";
import { helmImageRecipe, imageRecipes } from "./images/images.ts";
import { defaultSuite, k3sPin } from "./pins/lock.ts";
import { agentRecipe, cniRecipe } from "./pins/programs.ts";
import { rootImageRecipe } from "./root/root.ts";
import { type KnownBase, knownBase, rootBaseRecipe } from "./root/root_base.ts";

/** What decides the recipes. */
export interface RootfsOptions {
  readonly arch: Arch;
  readonly store: ArtifactStore;
  readonly span: Span;
  readonly signal: AbortSignal;
  /** Install missing host tools without asking. */
  readonly assumeYes: boolean;
  /** The user's own cluster binary. */
  readonly clusterBinary?: string;
  /** Insist on one source instead of the first that works. */
  readonly clusterSource?: ClusterSource;
  /** Suite of the root image. */
  readonly suite?: string;
  /** Archive that the packages come from. */
  readonly mirror?: string;
}

/** Ready to be ensured; `root` builds whatever of the others is missing, side by side. */
export interface RootfsRecipes {
  /** Its output `root.erofs` is the first disk. */
  readonly root: Recipe;
  /** Before it was built, root and the busybox image have keys that nothing is built to. */
  readonly base: KnownBase;
  readonly cluster: ClusterRecipe;
  readonly agent: Recipe;
  readonly cniPlugins: Recipe;
  readonly images: readonly Recipe[];
  /** Its output `helm.tar` is the image of the jobs that install charts; no part of `root`. */
  readonly helmImage: Recipe;
}

/**
 * The recipes of the root image and of all its parts.
 *
 * @throws GatewayError `usage` for an unknown suite, a cluster binary that is none, or a k3s release that is not
 * pinned.
 */
export async function rootfsRecipes(options: RootfsOptions): Promise<RootfsRecipes> {
  const { arch, assumeYes } = options;
  const suite = options.suite ?? defaultSuite;
  const base = await knownBase(
    options.store,
    rootBaseRecipe({ suite, mirror: options.mirror, arch }),
  );
  const [cluster, agent, cniPlugins, images, helmImage] = await Promise.all([
    chooseCluster(options),
    agentRecipe(arch),
    cniRecipe(arch),
    imageRecipes({ arch, base, assumeYes }),
    helmImageRecipe({ arch, assumeYes }),
  ]);
  const root = await rootImageRecipe({
    arch,
    base,
    cluster,
    agent,
    cniPlugins,
    images,
    guestDir: sourcePath("rootfs/guest"),
    manifestsDir: sourcePath("rootfs/manifests"),
    // A file that both rooms read, not code: the kernel room writes it.
    capabilitiesPath: sourcePath("kernel/capabilities.tsv"),
    assumeYes,
  });
  return { root, base, cluster, agent, cniPlugins, images, helmImage };
}

/** The first source that works: the user's file, the pinned release, our own build. */
async function chooseCluster(options: RootfsOptions): Promise<ClusterRecipe> {
  const { arch, clusterBinary, clusterSource, span } = options;
  if (clusterBinary !== undefined) return await clusterFromFile(clusterBinary, arch);
  if (clusterSource === "k3s") return clusterFromRelease(arch);
  if (clusterSource === "file") {
    throw new GatewayError({
      code: "usage",
      what: "Cannot take the cluster binary from a file",
      why: "no file was named",
      fix: "name the file",
    });
  }
  if (clusterSource === "kubenode" || k3sPin(arch).sha256 === null) {
    return await clusterFromModules(arch);
  }
  const release = clusterFromRelease(arch);
  try {
    await options.store.ensure(release, options);
    return release;
  } catch (error) {
    if (options.signal.aborted) throw error;
    span.warn(
      `${
        error instanceof Error ? error.message : error
      }; building Kubernetes from its modules instead`,
    );
    return await clusterFromModules(arch);
  }
}
