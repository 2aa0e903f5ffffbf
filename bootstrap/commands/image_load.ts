/**
 * What `image load` and `image list` do.
 * It must not print by itself or exit.
 *
 * @module
 */
import { guestArch } from "../../vm/base/arch.ts";
import { describeError, GatewayError, usageError } from "../../vm/base/error.ts";
import { EventLog } from "../../vm/base/event.ts";
import { requireRunning } from "../../vm/instance/instance.ts";
import { ArchiveWatch, folderError, unzipped } from "../images/archive.ts";
import { type GuestImage, importImages, listImages } from "../images/load.ts";
import { attachProgress } from "../view/progress_view.ts";
import { columns } from "../view/table.ts";
import type { CommandIo } from "./io.ts";

type Io = CommandIo & { readonly name: string };

/** Runs `image load`; returns the exit code. @throws GatewayError of the import, or `usage` for the file. */
export async function runImageLoad(io: Io & { readonly file: string }): Promise<number> {
  const { name, file, signal, flags } = io;
  const guest = await guestOf(name);
  const platform = `linux/${guest.arch}`;
  const log = new EventLog();
  const before = await listImages(guest, { signal });
  {
    using source = await openArchive(file);
    using _view = attachProgress(log, { ...io, quiet: false });
    const what = file === "-" ? "stdin" : file;
    const watch = new ArchiveWatch();
    const stream = (await unzipped(source.readable, what)).pipeThrough(watch);
    await log.span("image").run(
      "load",
      async (span) => {
        try {
          // The unpacked size of a packed archive is not known in advance.
          await importImages(guest, stream, { what, sizeBytes: null, span, signal });
        } catch (error) {
          throw signal.aborted ? error : watch.fault(what, platform) ?? error;
        }
        const fault = watch.fault(what, platform);
        if (fault) throw fault;
      },
    );
  }
  const known = new Set(before.map(({ ref, digest }) => `${ref} ${digest}`));
  const all = await listImages(guest, { signal });
  const loaded = all.filter(({ ref, digest }) => !known.has(`${ref} ${digest}`));
  if (flags.json) io.json(loaded);
  else if (loaded.length === 0) io.err("Nothing new: the instance has these images already.");
  else for (const { ref } of loaded) io.out(ref);
  return 0;
}

/** Runs `image list`; returns the exit code. */
export async function runImageList(io: Io): Promise<number> {
  const images = await listImages(await guestOf(io.name), io);
  if (io.flags.json) io.json(images);
  else io.out(imagesText(images));
  return 0;
}

/** The list for people: name, size, short digest. Pure. */
export function imagesText(images: readonly GuestImage[]): string {
  return columns(images.map(({ ref, size, digest }) => [
    ref,
    size.padStart(10),
    digest.slice("sha256:".length, 19),
  ])).join("\n");
}

async function guestOf(name: string) {
  const { paths, config } = await requireRunning(name);
  return { name, sshDir: paths.sshDir, arch: guestArch(config) };
}

/** Something to read from. */
interface Archive extends Disposable {
  readonly readable: ReadableStream<Uint8Array>;
}

async function openArchive(path: string): Promise<Archive> {
  if (path === "-") {
    if (Deno.stdin.isTerminal()) {
      throw usageError(
        "Cannot load an image from stdin",
        "it is a terminal",
        "pipe an archive into it: docker save my/app:1 | gateway image load -",
      );
    }
    return { readable: Deno.stdin.readable, [Symbol.dispose]: () => {} };
  }
  try {
    const file = await Deno.open(path);
    if ((await file.stat()).isDirectory) {
      file.close();
      throw await folderError(path);
    }
    return {
      readable: file.readable,
      [Symbol.dispose]: () => {
        try {
          file.close();
        } catch {
          // The stream closed it when it was read to the end.
        }
      },
    };
  } catch (error) {
    if (error instanceof GatewayError) throw error;
    const fix = "name an archive that `docker save` or an OCI tool wrote";
    throw usageError(`Cannot load the image "${path}"`, describeError(error), fix);
  }
}
