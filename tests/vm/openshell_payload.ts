/**
 * What a home needs to get the payload openshell: a registry with stand-ins for what it names, the page that its
 * manifest is released on, and the user's folder of it.
 * It must not start an instance.
 *
 * @module
 */
import { join } from "@std/path";
import { sourcePath } from "../../vm/base/source.ts";
import { mirrors, pushOpenshell, type StandIns, writeOpenshell } from "../fakes/openshell.ts";
import { agentSandboxManifest } from "../fakes/openshell/agent_sandbox.ts";
import { programImages } from "../fakes/openshell/programs.ts";
import type { TestRegistry } from "../fakes/registry.ts";
import { ReleasePage } from "../fakes/release_page.ts";
import { FROM_SOURCES, TestHome } from "./harness.ts";

const BUILD_TIMEOUT_MS = 75 * 60_000;

/** The built-in payload's folder, and its lock file. */
export const BUILT_IN = sourcePath("rootfs/payloads/openshell");
export const LOCK = JSON.parse(await Deno.readTextFile(join(BUILT_IN, "lock.json")));
/** Whether it comes with its digests, so that nothing is left to pin on first use. */
export const PINNED: boolean = LOCK.chart.digest !== null;

/** A home where nobody has said what a new instance runs. */
export const undecidedHome = () => TestHome.make(FROM_SOURCES, { GATEWAY_PAYLOAD: "" });

/** Images that stand for OpenShell's; sandboxes get our busybox. */
async function standIns(home: TestHome): Promise<StandIns> {
  const built = await home.ok(["build", "images", "--json"], { timeoutMs: BUILD_TIMEOUT_MS });
  const rows = JSON.parse(built.stdout) as { artifact: string; path: string }[];
  const base = rows.find(({ artifact }) => artifact === "image-busybox")!.path;
  return { ...await programImages(), base };
}

/** Leads the home's pulls to a registry. */
async function lead(home: TestHome, registry: TestRegistry): Promise<void> {
  await Deno.mkdir(join(home.home, "config/gateway"), { recursive: true });
  await Deno.writeTextFile(join(home.home, "config/gateway/registries.yaml"), mirrors(registry), {
    mode: 0o600,
  });
}

/** The page that agent-sandbox is released on, as far as we need it; its authority goes into the home's folder. */
export async function releasePage(home: TestHome): Promise<ReleasePage> {
  const { hostname, pathname } = new URL(LOCK.manifests[0].url);
  // The real one leads to a store of files, too.
  return await ReleasePage.start(
    home.home,
    hostname,
    (path) =>
      path === pathname
        ? new Response(null, { status: 302, headers: { location: "/files/1" } })
        : path === "/files/1"
        ? new Response(agentSandboxManifest)
        : new Response("none", { status: 404 }),
  );
}

/** Leads the home's pulls to a registry that has all of openshell; gives the digest of each name, and the stand-ins. */
export async function serveOpenshell(home: TestHome, registry: TestRegistry) {
  const images = await standIns(home);
  const pushed = await pushOpenshell(registry, images);
  await lead(home, registry);
  return { images, pushed };
}

/** Writes a user's folder of the payload, with the digests of stand-ins that the registry then has; `sized` may pad them. */
export async function offerOpenshell(
  home: TestHome,
  dir: string,
  registry: TestRegistry,
  sized: (images: StandIns) => Promise<StandIns> = (images) => Promise.resolve(images),
): Promise<void> {
  await writeOpenshell(dir, registry, await sized(await standIns(home)));
  await lead(home, registry);
}
