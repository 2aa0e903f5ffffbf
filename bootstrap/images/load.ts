/**
 * Container images in a running instance: archives go through the guest's ssh into containerd, and what it holds is
 * listed the same way. One way for `up`, `gateway image load` and the golden state; no disk beside.
 * It must not pull anything.
 *
 * @module
 */
import { runSsh } from "../../net/guest_command.ts";
import { sshArgs, sshConfigPath } from "../../net/ssh.ts";
import { GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import type { RunResult } from "../../vm/base/process.ts";
import { waitFor } from "../../vm/base/wait.ts";
import type { ImageArchive } from "./ensure.ts";

/** A running guest, as its instance's paths name it. */
export interface GuestSsh {
  /** The instance's name, which is the host's name in its ssh config. */
  readonly name: string;
  /** Folder of the ssh config. */
  readonly sshDir: string;
}

/** One image of the guest. */
export interface GuestImage {
  /** What pods call it. */
  readonly ref: string;
  /** Of the manifest or index. */
  readonly digest: string;
  /** As containerd tells it: "3.2 MiB". */
  readonly size: string;
  /** Such as "linux/amd64". */
  readonly platforms: readonly string[];
  /** Kubelet's garbage collection leaves it alone. */
  readonly pinned: boolean;
}

/** How the functions here may act. */
export interface LoadOptions {
  readonly span: Span;
  readonly signal: AbortSignal;
}

const CTR = ["k3s", "ctr", "-n", "k8s.io", "images"];

/** kubenode's own way: whole images only, complete for CRI, and no blob twice. */
const KUBENODE = ["k3s", "image"];

/**
 * For k3s's own binary. kubelet leaves a pinned image alone. Without the label `io.cri-containerd.image` CRI adds it, and
 * with it the reference by ID that image volumes are mounted by.
 */
const CTR_IMPORT = [...CTR, "import", "--local", "--label", "io.cri-containerd.pinned=pinned", "-"];

/** The bound of one archive: containerd unpacks it under emulation, which is slow. */
const LOAD_TIMEOUT_MS = 30 * 60_000;
const LIST_TIMEOUT_MS = 60_000;
/** A guest that boots cold starts containerd within seconds; under emulation on a busy machine within minutes. */
const CONTAINERD_TIMEOUT_MS = 8 * 60_000;

/**
 * Brings archives into the guest, one after the other; one whose names are all there with their digests costs nothing.
 * Returns the references that were loaded now.
 *
 * @throws GatewayError `guest-failed`, `image-platform`, `disk-full`, `guest-unreachable`.
 */
export async function loadImages(
  guest: GuestSsh,
  archives: readonly ImageArchive[],
  options: LoadOptions,
): Promise<string[]> {
  if (archives.length === 0) return [];
  const there = new Map((await listImages(guest, options)).map((one) => [one.ref, one.digest]));
  const loaded: string[] = [];
  for (const { ref, path, sizeBytes, names, digest } of archives) {
    if (names.length > 0 && names.every((name) => there.get(name) === digest)) continue;
    await options.span.run(`load ${ref}`, async (span) => {
      const { readable } = await Deno.open(path);
      await importImages(guest, readable, { ...options, span, what: ref, sizeBytes });
    });
    loaded.push(ref);
  }
  return loaded;
}

/**
 * Loads images as {@linkcode loadImages} does once containerd answers: it may still start, or start again since a new
 * instance has registries of its own.
 *
 * @throws GatewayError as loadImages(), or `guest-unreachable` when containerd does not answer in time.
 */
export async function bringImages(
  guest: GuestSsh,
  archives: readonly ImageArchive[],
  options: LoadOptions,
): Promise<void> {
  await waitFor({
    what: "the guest's containerd",
    probe: (signal) => listImages(guest, { signal }),
    timeoutMs: CONTAINERD_TIMEOUT_MS,
    intervalMs: 1000,
    probeTimeoutMs: LIST_TIMEOUT_MS,
    signal: options.signal,
    code: "guest-unreachable",
  });
  await loadImages(guest, archives, options);
}

/**
 * Imports an archive (OCI or docker) from a stream, which it reads to the end.
 *
 * @throws GatewayError `guest-failed`, `image-platform`, `disk-full`, `guest-unreachable`.
 */
export async function importImages(
  guest: GuestSsh,
  stream: ReadableStream<Uint8Array>,
  options: LoadOptions & { readonly what: string; readonly sizeBytes: number | null },
): Promise<void> {
  const { what, sizeBytes, span, signal } = options;
  const has = await guestBlobs(guest, signal);
  const filtered = has && (await import("./missing_blobs.ts")).withoutBlobs(stream, has);
  let read = 0;
  let reportedAt = 0;
  const counted = (filtered?.stream ?? stream).pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(piece, sink) {
        read += piece.length;
        const now = performance.now();
        if (now - reportedAt > 250) {
          reportedAt = now;
          span.progress(filtered?.report.readBytes ?? read, sizeBytes, "bytes");
        }
        sink.enqueue(piece);
      },
    }),
  );
  const words = has ? [...KUBENODE, "load"] : CTR_IMPORT;
  const result = await inGuest(guest, words, {
    stdin: counted,
    signal,
    timeoutMs: LOAD_TIMEOUT_MS,
  });
  if (result.code !== 0) throw importError(what, result);
  const omitted = filtered?.report.omitted.size ?? 0;
  if (omitted > 0) span.log(`${omitted} blobs were not sent, the guest has them`);
}

/** Digests of the blobs that kubenode's containerd has; undefined where the cluster is k3s's own binary. */
async function guestBlobs(
  guest: GuestSsh,
  signal: AbortSignal,
): Promise<ReadonlySet<string> | undefined> {
  const result = await inGuest(guest, [...KUBENODE, "blobs"], {
    signal,
    timeoutMs: LIST_TIMEOUT_MS,
  });
  if (result.code === 0) return new Set(result.stdout.split("\n").filter((line) => line !== ""));
  if (result.code !== SSH_FAILED) return undefined;
  throw guestError(`Cannot list the images of "${guest.name}"`, result);
}

/** The images that the cluster's containerd holds, by name. @throws GatewayError `guest-failed`, `guest-unreachable`. */
export async function listImages(
  guest: GuestSsh,
  options: Pick<LoadOptions, "signal">,
): Promise<GuestImage[]> {
  const result = await inGuest(guest, [...CTR, "list"], {
    signal: options.signal,
    timeoutMs: LIST_TIMEOUT_MS,
  });
  if (result.code === 0) return parseImages(result.stdout);
  throw guestError(`Cannot list the images of "${guest.name}"`, result);
}

/** Reads the table of `ctr images list`; references that are a bare digest are containerd's own and left out. */
export function parseImages(table: string): GuestImage[] {
  const row =
    /^(\S+)\s+(\S+)\s+(sha256:[0-9a-f]{64})\s+([\d.]+ [KMGT]?i?B|\S+)\s+(\S+)\s*(\S*)\s*$/;
  return table.split("\n").map((line) => row.exec(line)).filter((match) => match !== null)
    .map(([, ref = "", , digest = "", size = "", platforms = "", labels = ""]) => ({
      ref,
      digest,
      size,
      platforms: platforms.split(","),
      pinned: labels.split(",").includes("io.cri-containerd.pinned=pinned"),
    }))
    .filter(({ ref }) => !ref.startsWith("sha256:"));
}

async function inGuest(
  guest: GuestSsh,
  words: readonly string[],
  options: {
    readonly stdin?: ReadableStream<Uint8Array>;
    readonly signal: AbortSignal;
    readonly timeoutMs: number;
  },
): Promise<RunResult> {
  const args = sshArgs(sshConfigPath(guest.sshDir), guest.name, words);
  return await runSsh({ ...options, args, check: false });
}

/** OpenSSH's code when it did not come through. */
const SSH_FAILED = 255;

function importError(what: string, result: RunResult): GatewayError {
  const { stderr } = result;
  const known = (code: "disk-full" | "image-platform" | "usage", why: string, fix: string) =>
    new GatewayError({ code, what: `Cannot load the image "${what}"`, why, fix });
  if (/no space left on device/i.test(stderr)) {
    return known(
      "disk-full",
      "the instance's state disk is full",
      "remove what is not needed in the guest, or make a new instance with a larger --disk",
    );
  }
  if (
    /image might be filtered out|no match for platform/i.test(stderr)
  ) {
    return known(
      "image-platform",
      "the archive holds no image for the guest's architecture",
      "build or pull it for the processor that `gateway status` names",
    );
  }
  if (/names no image/.test(stderr)) {
    return known(
      "usage",
      "the archive does not say what its images are called",
      "save it by name: docker save NAME:TAG",
    );
  }
  if (/the archive lacks sha256:/.test(stderr)) {
    return known(
      "usage",
      lastWords(stderr),
      "run the command again; if it stays so, save the archive anew",
    );
  }
  if (
    /unrecognized image format|invalid tar header|unexpected EOF|archive\/tar|in OCI layout/i
      .test(stderr)
  ) {
    return known(
      "usage",
      `it is not a whole image archive: ${lastWords(stderr)}`,
      "name a tar that `docker save` or an OCI tool wrote",
    );
  }
  return guestError(`Cannot load the image "${what}"`, result);
}

function guestError(what: string, { code, stderr }: RunResult): GatewayError {
  const unreachable = code === SSH_FAILED;
  return new GatewayError({
    code: unreachable ? "guest-unreachable" : "guest-failed",
    what,
    why: lastWords(stderr) || `it ended with code ${code}`,
    fix: unreachable ? "run `gateway status`" : "run `gateway logs --source cluster`",
  });
}

function lastWords(text: string): string {
  return text.trim().split("\n").at(-1)?.replace(/^(?:ctr|k3s image load): /, "") ?? "";
}
