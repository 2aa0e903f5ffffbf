/**
 * The payload openshell before any boot: refused as it is made here, and pulled whole from a registry that holds
 * stand-ins under the real names.
 *
 * @module
 */
import { assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { mirrors, writeOpenshell } from "./fakes/openshell.ts";
import { TestRegistry } from "./fakes/registry.ts";
import { TestHome } from "./vm/harness.ts";

const BUILD_TIMEOUT_MS = 75 * 60_000;

Deno.test("the payload openshell is refused while nothing of it is pinned", async () => {
  await using home = await TestHome.make();
  const { code, stderr } = await home.call(["build", "payload", "openshell"]);
  assertEquals(code, 1, stderr);
  assertMatch(stderr, /no digest for its chart, gateway, .*agent-sandbox\.yaml/);
});

Deno.test("chart and images of the payload openshell are pulled by the names and digests it has", async () => {
  await using home = await TestHome.make();
  await using registry = await TestRegistry.start();
  const dir = join(home.home, "openshell");
  const build = async (...target: string[]) => {
    const { stdout } = await home.ok(["build", ...target, "--json"], {
      timeoutMs: BUILD_TIMEOUT_MS,
    });
    return JSON.parse(stdout) as { artifact: string; file: string; path: string }[];
  };
  const images = await build("images");
  const archive = (name: string) =>
    images.find(({ artifact }) => artifact === `image-${name}`)!.path;
  await writeOpenshell(dir, registry, { demo: archive("demo"), busybox: archive("busybox") });
  await Deno.mkdir(join(home.home, "config/gateway"), { recursive: true });
  await Deno.writeTextFile(join(home.home, "config/gateway/registries.yaml"), mirrors(registry));
  const files = (await build("payload", dir)).map(({ file }) => file).sort();
  const expected = [
    "agent-sandbox.yaml",
    "gateway.local/helm:1",
    "ghcr.io/nvidia/openshell-community/sandboxes/base:latest",
    "ghcr.io/nvidia/openshell/gateway:0.0.111",
    "ghcr.io/nvidia/openshell/supervisor:0.0.111",
    "openshell.tgz",
    "registry.k8s.io/agent-sandbox/agent-sandbox-controller:v0.5.0",
  ];
  assertEquals(files, expected);
  // What is there needs no registry.
  await registry.down();
  assertEquals((await build("payload", dir)).map(({ file }) => file).sort(), expected);
});
