/**
 * The payload openshell with what stands in for OpenShell: a chart of the same shape and programs that refuse what the
 * real ones refuse, under the real names in a registry on loopback. payload.yaml is the product's own; only its missing digests are filled in.
 * It must not hold a test.
 *
 * @module
 */
import { join } from "@std/path";
import { parse, stringify } from "yaml";
import { packedChart } from "../../bootstrap/payload/files.ts";
import { run } from "../../vm/base/process.ts";
import { sourcePath } from "../../vm/base/source.ts";
import { agentSandboxManifest } from "./openshell/agent_sandbox.ts";
import type { ProgramImages } from "./openshell/programs.ts";
import type { TestRegistry } from "./registry.ts";

const PAYLOAD = sourcePath("rootfs/payloads/openshell/payload.yaml");
/** The folder of the chart. */
export const STAND_IN_CHART = sourcePath("tests/fakes/openshell/chart");
const CONFIG = "application/vnd.cncf.helm.config.v1+json";
const LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

/** Whose registries the payload's references name. */
const HOSTS = ["ghcr.io", "registry.k8s.io"];

/** Images that stand for others: the path of each one's OCI archive. */
export interface StandIns extends ProgramImages {
  /** What sandboxes run: something with a shell. */
  readonly base: string;
}

/** Which of them stands for the image that a reference names. */
function roleOf(repo: string): keyof StandIns {
  if (repo.endsWith("/gateway")) return "gateway";
  if (repo.endsWith("/supervisor")) return "supervisor";
  return repo.endsWith("/agent-sandbox-controller") ? "controller" : "base";
}

/** Pushes everything to the registry under the names that payload.yaml has; gives the digest of each reference. */
export async function pushOpenshell(
  registry: TestRegistry,
  images: StandIns,
): Promise<ReadonlyMap<string, string>> {
  const payload = parse(await Deno.readTextFile(PAYLOAD));
  const pushed = new Map<string, string>();
  for (const { ref } of payload.images) {
    const { repo, tag } = split(ref);
    const layout = await unpack(images[roleOf(repo)]);
    try {
      pushed.set(ref, (await registry.push(repo, layout, tag)).digest);
    } finally {
      await Deno.remove(layout, { recursive: true });
    }
  }
  for (const { oci } of payload.charts) {
    const { repo, tag } = split(oci);
    pushed.set(oci, await pushChart(registry, repo, tag));
  }
  return pushed;
}

/** Pushes everything to the registry and writes the payload's folder. */
export async function writeOpenshell(
  dir: string,
  registry: TestRegistry,
  images: StandIns,
): Promise<void> {
  await Deno.mkdir(dir, { recursive: true });
  const payload = parse(await Deno.readTextFile(PAYLOAD));
  const pushed = await pushOpenshell(registry, images);
  for (const image of payload.images) image.digest = pushed.get(image.ref);
  for (const chart of payload.charts) chart.digest = pushed.get(chart.oci);
  await Deno.writeTextFile(join(dir, "payload.yaml"), stringify(payload));
  await Deno.writeTextFile(join(dir, "agent-sandbox.yaml"), agentSandboxManifest);
}

/** registries.yaml that leads every pull of the payload to the registry. */
export function mirrors(registry: TestRegistry): string {
  const endpoint = [`http://${registry.host}`];
  return stringify({ mirrors: Object.fromEntries(HOSTS.map((host) => [host, { endpoint }])) });
}

async function unpack(archive: string): Promise<string> {
  const layout = await Deno.makeTempDir({ prefix: "gw-layout-" });
  await run("tar", { args: ["-xf", archive, "-C", layout] });
  return layout;
}

function split(ref: string): { repo: string; tag: string } {
  const [, repo, tag] = /^[^/]+\/(.+):([^:]+)$/.exec(ref)!;
  return { repo: repo!, tag: tag! };
}

async function pushChart(registry: TestRegistry, repo: string, tag: string): Promise<string> {
  const archive = await packedChart({
    name: "openshell",
    values: {},
    from: { kind: "folder", path: STAND_IN_CHART },
  });
  const config = new TextEncoder().encode(JSON.stringify({ name: "helm-chart", version: tag }));
  const manifest = await registry.manifest(repo, {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: await registry.blob(repo, config, CONFIG),
    layers: [await registry.blob(repo, new Uint8Array(archive), LAYER)],
  }, tag);
  return manifest.digest;
}
