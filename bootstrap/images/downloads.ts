/**
 * What a start is going to download, said before it does: sizes come from the manifests of the registries.
 * It must not download a layer, and never ends a start: what is wrong with a registry the pull itself tells.
 *
 * @module
 */
import { downloadBytes, pullerRecipe } from "../../rootfs/images/pulled.ts";
import { exists } from "../../vm/base/layout.ts";
import { together } from "../../vm/base/together.ts";
import { recipeKey } from "../../vm/store/artifact.ts";
import { bytesText } from "../view/text.ts";
import {
  type EnsureImagesOptions,
  NO_ACCESS,
  pullAccess,
  type Wanted,
  wantedRecipe,
} from "./ensure.ts";

/** Requests of manifests at a time. */
const PARALLEL = 4;

/** Says in one line what of a payload is not in the store and how large it is; nothing where all of it is there. */
export async function tellDownloads(
  wanted: readonly Wanted[],
  options: EnsureImagesOptions,
): Promise<void> {
  const { arch, store, span, assumeYes = false } = options;
  if (wanted.length === 0) return;
  const puller = await pullerRecipe();
  const missing: Wanted[] = [];
  for (const one of wanted) {
    const recipe = wantedRecipe(one, { access: NO_ACCESS, puller, assumeYes, arch });
    const here = await exists(store.manifestPath(recipe.name, recipeKey(recipe))) ||
      await store.brings(recipe);
    if (!here) missing.push(one);
  }
  if (missing.length === 0) return;
  const access = await pullAccess(options);
  const size = ({ ref, digest }: Wanted) => (signal: AbortSignal) =>
    downloadBytes({ ref, digest, access, puller, assumeYes, arch, store, span, signal })
      .catch(() => undefined);
  const sizes = await together(missing.map(size), { signal: options.signal, atOnce: PARALLEL });
  const said = downloadText(missing.map(({ ref }, at) => ({ ref, bytes: sizes[at] })));
  if (said !== undefined) span.log(said);
}

/** The line; undefined where nothing is known, or nothing is to come. Pure. */
export function downloadText(
  parts: readonly { readonly ref: string; readonly bytes: number | undefined }[],
): string | undefined {
  const known = parts.flatMap(({ bytes }) => bytes ?? []);
  const sum = known.reduce((all, bytes) => all + bytes, 0);
  if (sum === 0) return undefined;
  const total = known.length < parts.length ? `more than ${bytesText(sum)}` : bytesText(sum);
  const words = parts.filter(({ bytes }) => bytes !== 0)
    .map(({ ref, bytes }) =>
      `${ref} ${bytes === undefined ? "of unknown size" : bytesText(bytes)}`
    );
  return `to download: ${total} (${words.join(", ")})`;
}
