/**
 * Images that no start waits for: brought into the guest after READY, beside everything else. How far they are is in the
 * run's record; a failure of theirs is a warning and never the end of a run.
 *
 * @module
 */
import { describeError, GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { type Background, startBeside } from "../../vm/base/together.ts";
import { waitFor } from "../../vm/base/wait.ts";
import type { LaterImages, RunRecord } from "../../vm/instance/instance.ts";
import type { ImageArchive } from "../images/ensure.ts";

/** Tries that a guest which cannot be reached for a moment gets. */
const TRIES = 3;
const LOAD_ALL_TIMEOUT_MS = 60 * 60_000;

/** What {@linkcode startLaterImages} acts with. */
export interface LaterOptions {
  readonly images: readonly ImageArchive[];
  /** Brings those that the guest lacks. */
  readonly load: (
    images: readonly ImageArchive[],
    how: { readonly span: Span; readonly signal: AbortSignal },
  ) => Promise<unknown>;
  readonly save: (change: Partial<RunRecord>) => Promise<unknown>;
  readonly span: Span;
  /** Ends it. */
  readonly signal: AbortSignal;
}

/** The record of images that are still to come; nothing where there are none. */
export function laterImages(
  images: readonly Pick<ImageArchive, "ref">[],
): Pick<RunRecord, "laterImages"> {
  if (images.length === 0) return {};
  return { laterImages: { state: "loading", refs: images.map(({ ref }) => ref), why: null } };
}

/** Starts to bring the images in. */
export function startLaterImages(options: LaterOptions): Background {
  return startBeside(options.signal, async (signal) => {
    if (options.images.length > 0) await bring({ ...options, signal });
  });
}

async function bring({ images, load, save, span, signal }: LaterOptions): Promise<void> {
  const refs = images.map(({ ref }) => ref);
  const report = (state: LaterImages["state"], why: string | null) =>
    save({ laterImages: { state, refs, why } }).catch(() => {});
  try {
    await span.run("later images", async (inner) => {
      for (let attempt = 1;; attempt++) {
        try {
          return await load(images, { span: inner, signal });
        } catch (error) {
          const unreachable = error instanceof GatewayError && error.code === "guest-unreachable";
          if (signal.aborted || !unreachable || attempt === TRIES) throw error;
        }
      }
    });
    await report("loaded", null);
  } catch (error) {
    if (signal.aborted) return;
    const why = describeError(error);
    span.warn(`images that the payload needs later are not in the instance: ${why}`);
    await report("failed", why);
  }
}

/**
 * Waits until all images of a run are in.
 *
 * @throws GatewayError `build-failed` when they cannot be, `timeout`, or the signal's reason.
 */
export async function waitLaterImages(
  read: () => Promise<Pick<RunRecord, "laterImages"> | "unreadable" | undefined>,
  signal: AbortSignal,
): Promise<void> {
  const state = await waitFor({
    what: "the images that are loaded after READY",
    probe: async () => {
      const record = await read();
      if (record === "unreadable") return undefined;
      const { laterImages } = record ?? {};
      return laterImages?.state === "loading" ? undefined : { laterImages };
    },
    timeoutMs: LOAD_ALL_TIMEOUT_MS,
    intervalMs: 500,
    signal,
  });
  if (state.laterImages?.state !== "failed") return;
  throw new GatewayError({
    code: "build-failed",
    what: "Cannot save a state with all images of the payload",
    why: state.laterImages.why ?? "an image could not be loaded",
    fix: "run the command again",
  });
}
