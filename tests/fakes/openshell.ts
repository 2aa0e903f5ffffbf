/**
 * The payload openshell with what stands in for OpenShell: a chart of the same shape and images built here, under the
 * real names in a registry on loopback. payload.yaml is the product's own; only its missing digests are filled in.
 * It must not hold a test.
 *
 * @module
 */
import { join } from "@std/path";
import { parse, stringify } from "yaml";
import { packedChart } from "../../bootstrap/payload_files.ts";
import { sourcePath } from "../../vm/source.ts";
import { run } from "../../vm/process.ts";
import type { TestRegistry } from "./registry.ts";

const PAYLOAD = sourcePath("rootfs/payloads/openshell/payload.yaml");
const FAKE = sourcePath("tests/fakes/openshell");
const CONFIG = "application/vnd.cncf.helm.config.v1+json";
const LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

/** Whose registries the payload's references name. */
const HOSTS = ["ghcr.io", "registry.k8s.io"];

/** Our own images that stand for others: the path of each one's OCI archive. */
export interface StandIns {
  /** Serves with mutual TLS like the gateway does. */
  readonly demo: string;
  /** Has a shell, for all the others. */
  readonly busybox: string;
}

/** Pushes everything to the registry under the names that payload.yaml has; gives the digest of each reference. */
export async function pushOpenshell(
  registry: TestRegistry,
  images: StandIns,
): Promise<ReadonlyMap<string, string>> {
  const payload = parse(await Deno.readTextFile(PAYLOAD));
  const layouts = { demo: await unpack(images.demo), busybox: await unpack(images.busybox) };
  const pushed = new Map<string, string>();
  try {
    for (const { ref } of payload.images) {
      const { repo, tag } = split(ref);
      const layout = repo.endsWith("/gateway") ? layouts.demo : layouts.busybox;
      pushed.set(ref, (await registry.push(repo, layout, tag)).digest);
    }
    for (const { oci } of payload.charts) {
      const { repo, tag } = split(oci);
      pushed.set(oci, await pushChart(registry, repo, tag));
    }
  } finally {
    for (const layout of Object.values(layouts)) await Deno.remove(layout, { recursive: true });
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
  await Deno.copyFile(join(FAKE, "agent-sandbox.yaml"), join(dir, "agent-sandbox.yaml"));
}

/** What stands for the manifest of agent-sandbox's release. */
export const AGENT_SANDBOX = join(FAKE, "agent-sandbox.yaml");

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
  return { repo, tag };
}

async function pushChart(registry: TestRegistry, repo: string, tag: string): Promise<string> {
  const archive = await packedChart({
    name: "openshell",
    values: {},
    from: { kind: "folder", path: join(FAKE, "chart") },
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
