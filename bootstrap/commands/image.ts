/**
 * The commands about container images: `image load` and `image list`.
 * It must not do a command's work, and imports what does only inside an action.
 *
 * @module
 */
import { type CliKit, group, named, type Parent, withJson } from "./kit.ts";

/** `image load`, `image list`. */
export function addImages(root: Parent, kit: CliKit): void {
  const image = group(
    root,
    "image",
    "bring container images into a running instance, and list them",
    "docker save my/app:1 | gateway image load -",
  );
  withJson(named(
    image,
    "load <file>",
    "load an archive, OCI or docker; - is stdin",
    "gateway image load --name dev app.tar",
  )).action((file, flags) =>
    kit.finish(async (signal) => {
      const { runImageLoad } = await import("./image_load.ts");
      return await runImageLoad({ ...kit.io(flags, signal), name: flags.name, file });
    })
  );
  withJson(named(
    image,
    "list [instance]",
    "what pods can use without a pull",
    "gateway image list",
  )).alias("ls").action((_, flags) =>
    kit.finish(async (signal) => {
      const { runImageList } = await import("./image_load.ts");
      return await runImageList({ ...kit.io(flags, signal), name: flags.name });
    })
  );
}
