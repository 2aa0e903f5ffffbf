/**
 * The commands about container images, `image load` and `image list`, and the options of `up` that say how the cluster
 * reaches registries.
 * It must not print or exit by itself; cli.ts lends both.
 *
 * @module
 */
import type { Command } from "commander";
import type { CliKit } from "./instances.ts";
import type { CommandIo } from "./io.ts";

type Flags = CommandIo["flags"] & { readonly name: string };

/** `image load`, `image list`; `up` has to be there already. */
export function addImages(root: Command, kit: CliKit): void {
  root.commands.find((one) => one.name() === "up")!
    .option("--host-proxy", "the cluster's pulls go through this host's proxy")
    .option("--no-host-proxy", "no longer")
    .option("--host-ca <file>", "the cluster's pulls trust these authorities too")
    .option("--no-host-ca", "no longer");
  const image = root.command("image")
    .description("bring container images into a running instance, and list them")
    .addHelpText("after", "\nExample:\n  docker save my/app:1 | gateway image load -\n");
  kit.withJson(
    kit.command(
      image,
      "load <file>",
      "load an archive, OCI or docker; - is stdin",
      "gateway image load --name dev app.tar",
    ),
  ).action((file: string, flags: Flags) =>
    kit.finish(async (signal) => {
      const { runImageLoad } = await import("./image_load.ts");
      return await runImageLoad({ ...kit.io(flags, signal), name: flags.name, file });
    })
  );
  kit.withJson(
    kit.command(image, "list [instance]", "what pods can use without a pull", "gateway image list"),
  )
    .alias("ls")
    .action((_instance: string | undefined, flags: Flags) =>
      kit.finish(async (signal) => {
        const { runImageList } = await import("./image_load.ts");
        return await runImageList({ ...kit.io(flags, signal), name: flags.name });
      })
    );
}
