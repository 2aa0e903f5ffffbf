/**
 * The lock of an artifact's name: one process builds it at a time, the others wait.
 * It must not know what is built.
 *
 * @module
 */
import { join } from "@std/path";
import type { Span } from "../base/event.ts";
import { ownLock, releaseLock } from "../base/file_lock.ts";
import { waitFor } from "../base/wait.ts";
import type { Recipe } from "./recipe.ts";

/** Takes the lock below a store's folder; disposing of it gives it back. @throws GatewayError `timeout`. */
export async function lockArtifact(
  root: string,
  recipe: Pick<Recipe, "name" | "label">,
  { span, signal }: { readonly span: Span; readonly signal: AbortSignal },
): Promise<Disposable> {
  const dir = join(root, "work");
  await Deno.mkdir(dir, { recursive: true });
  const file = await Deno.open(join(dir, `${recipe.name}.lock`), { create: true, write: true });
  try {
    if (!await file.tryLock(true)) {
      span.log(`another process builds ${recipe.label}; waiting for it`);
      await waitFor({
        what: `the other build of ${recipe.label}`,
        probe: async () => (await file.tryLock(true)) || undefined,
        timeoutMs: 90 * 60_000,
        intervalMs: 250,
        signal,
      });
    }
    return ownLock(file);
  } catch (error) {
    releaseLock(file);
    throw error;
  }
}
