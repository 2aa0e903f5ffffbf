/**
 * `gateway build root --refresh`: the root image from Debian packages of today.
 * A base whose root image cannot be built is replaced by the one before it.
 *
 * @module
 */
import type { KnownBase } from "../../rootfs/root/root_base.ts";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { ensureTools } from "../../vm/base/host_tools.ts";
import { type Artifact, ArtifactStore, recipeKey } from "../../vm/store/artifact.ts";
import { unsignedRenewal } from "../../vm/store/errors.ts";
import { allRecipes, type EnsureArtifactsOptions } from "../artifacts/ensure.ts";

/**
 * Builds the base anew and the root image from it. When that fails, the base that was there before counts again.
 *
 * @throws GatewayError as a build; `signature-invalid` where no trusted key could sign the outcome.
 */
export async function refreshRoot(options: EnsureArtifactsOptions): Promise<Artifact[]> {
  const { store = new ArtifactStore(undefined, { repair: true }) } = options;
  const { base, root, cluster, images } = (await allRecipes(options, store)).rootfs;
  if (!await store.signsBuilds()) throw unsignedRenewal(root);
  const parts = [base.recipe, root, cluster, ...images];
  await ensureTools(parts.flatMap(({ tools }) => tools), options);
  return await orAsBefore(store, base, async () => {
    const built = await store.rebuild(base.recipe, options);
    const renewed = (await allRecipes(options, store)).rootfs;
    if (renewed.base.key === base.key) options.span.log("the packages are the same as before");
    return [built, await store.ensure(renewed.root, options)];
  });
}

/** Does the work. If it fails, the manifest of the base is again what it was before; a first base stays. */
export async function orAsBefore<T>(
  store: ArtifactStore,
  { recipe, record }: Pick<KnownBase, "recipe" | "record">,
  work: () => Promise<T>,
): Promise<T> {
  const manifest = store.manifestPath(recipe.name, recipeKey(recipe));
  const before = await Promise.all(
    [`${manifest}.sig`, manifest].map(async (path) =>
      [path, await Deno.readTextFile(path).catch(() => undefined)] as const
    ),
  );
  try {
    return await work();
  } catch (error) {
    for (const [path, text] of record ? before : []) {
      if (text === undefined) await Deno.remove(path).catch(() => {});
      else await writeFileAtomic(path, text, 0o644);
    }
    throw error;
  }
}
