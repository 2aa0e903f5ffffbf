/**
 * A user's folder with the payload openshell, and a registry that has what it names, for one home.
 * It must not start an instance.
 *
 * @module
 */
import { join } from "@std/path";
import { mirrors, writeOpenshell } from "../fakes/openshell.ts";
import type { TestRegistry } from "../fakes/registry.ts";
import type { TestHome } from "./harness.ts";

const BUILD_TIMEOUT_MS = 75 * 60_000;

/** Writes the payload's folder, fills the registry, and leads the home's pulls to it. */
export async function offerOpenshell(
  home: TestHome,
  dir: string,
  registry: TestRegistry,
): Promise<void> {
  const built = await home.ok(["build", "images", "--json"], { timeoutMs: BUILD_TIMEOUT_MS });
  const rows = JSON.parse(built.stdout) as { artifact: string; path: string }[];
  const archive = (name: string) => rows.find(({ artifact }) => artifact === `image-${name}`)!.path;
  await writeOpenshell(dir, registry, { demo: archive("demo"), busybox: archive("busybox") });
  await Deno.mkdir(join(home.home, "config/gateway"), { recursive: true });
  await Deno.writeTextFile(join(home.home, "config/gateway/registries.yaml"), mirrors(registry), {
    mode: 0o600,
  });
}
