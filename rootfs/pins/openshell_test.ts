import { assert, assertEquals, assertMatch } from "@std/assert";
import { parse } from "yaml";
import { HOST_SERVICE_ADDRESS } from "../../net/host_service.ts";
import { exists } from "../../vm/base/layout.ts";
import { sourcePath } from "../../vm/base/source.ts";
import { digestFile } from "../../vm/store/artifact.ts";

const DIR = sourcePath("rootfs/payloads/openshell");

interface Pin {
  readonly ref: string;
  readonly digest: string | null;
}

interface Lock {
  readonly chart: Pin & { readonly name: string; readonly version: string };
  readonly images: readonly (Pin & { readonly name: string })[];
  readonly manifests: readonly { readonly name: string; readonly sha256: string | null }[];
}

const lock: Lock = JSON.parse(await Deno.readTextFile(`${DIR}/lock.json`));
// deno-lint-ignore no-explicit-any
const payload: any = parse(await Deno.readTextFile(`${DIR}/payload.yaml`));
const image = (name: string) => lock.images.find((one) => one.name === name)!;

Deno.test("openshell's payload names what its lock file pins", () => {
  const [{ oci, digest, version }] = payload.charts;
  assertEquals({ oci, digest, version }, {
    ...{ oci: lock.chart.ref, digest: lock.chart.digest, version: lock.chart.version },
  });
  const images = (list: readonly { ref: string; digest: string | null }[]) =>
    list.map(({ ref, digest }) => ({ ref, digest }));
  assertEquals(images(payload.images), images(lock.images));
  // READY does not wait for the sandbox's base, by far the largest.
  const later = payload.images.filter(({ when }: { when?: string }) => when === "later");
  assertEquals(later.map(({ ref }: { ref: string }) => /\/base:/.test(ref)), [true]);
  assertEquals(payload.manifests, lock.manifests.map(({ name }) => name));
});

Deno.test("openshell's lock file has whole digests or none", async () => {
  for (const { digest } of [lock.chart, ...lock.images]) {
    if (digest !== null) assertMatch(digest, /^sha256:[0-9a-f]{64}$/);
  }
  for (const { name, sha256 } of lock.manifests) {
    const path = `${DIR}/${name}`;
    assertEquals(await exists(path), sha256 !== null, `${name} is there without its sum, or not`);
    if (sha256 !== null) assertEquals(await digestFile(path), sha256);
  }
});

Deno.test("openshell's values make pods ask for the images that are pinned, and pull none", () => {
  const [{ values }] = payload.charts;
  const tagged = (name: string, { tag }: { tag: string }) =>
    assert(image(name).ref.endsWith(`/${name}:${tag}`), image(name).ref);
  tagged("gateway", values.image);
  tagged("supervisor", values.supervisor.image);
  assertEquals(values.server.sandboxImage, image("sandbox").ref);
  const { server, supervisor } = values;
  assertEquals(
    [values.image.pullPolicy, supervisor.image.pullPolicy, server.sandboxImagePullPolicy],
    ["Never", "Never", "Never"],
  );
  assertEquals(values.service.nodePort, payload.service.nodePort);
});

Deno.test("openshell's probes wait for a guest that is busy, and its policies are on", () => {
  const [{ values: { probes, networkPolicy } }] = payload.charts;
  const waits = ({ timeoutSeconds, failureThreshold }: Record<string, number>) => [
    timeoutSeconds,
    failureThreshold,
  ];
  assertEquals(
    [waits(probes.startup), waits(probes.liveness), waits(probes.readiness)],
    [[10, 150], [15, 12], [10, 6]],
  );
  assertEquals(networkPolicy, { enabled: true });
});

Deno.test("openshell's chart mounts Secrets that the payload fills", () => {
  const [{ values: { server } }] = payload.charts;
  const named = payload.secrets.map(({ name }: { name: string }) => name);
  assertEquals(named, [
    server.tls.certSecretName,
    server.tls.clientCaSecretName,
    server.tls.clientTlsSecretName,
    server.sandboxJwt.signingSecretName,
  ]);
});

Deno.test("openshell's sandboxes find the host services where gvproxy has them", () => {
  assertEquals(payload.charts[0].values.server.hostGatewayIP, HOST_SERVICE_ADDRESS);
});
