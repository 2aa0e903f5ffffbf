/**
 * Pulls of images and charts from Debian's real registry: what comes is what was asked for, a cut pull goes on, and
 * every way it can fail is told as what it is.
 *
 * @module
 */
import {
  assert,
  assertEquals,
  assertLess,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { join } from "@std/path";
import { ensurePki } from "../bootstrap/credentials/pki.ts";
import { tellDownloads } from "../bootstrap/images/downloads.ts";
import { ensureCharts, ensureImages } from "../bootstrap/images/ensure.ts";
import { digestFile } from "../vm/base/digest.ts";
import { GatewayError } from "../vm/base/error.ts";
import { EventLog, silentSpan } from "../vm/base/event.ts";
import { run, which } from "../vm/base/process.ts";
import { MIB, noise, Place } from "./fakes/image_place.ts";
import { CuttingProxy, LOGIN, packImage, REGISTRY_TOOL, TestRegistry } from "./fakes/registry.ts";

function imageTest(name: string, fn: (place: Place) => Promise<void>): void {
  const ignore = which(REGISTRY_TOOL.program) === undefined || which("go") === undefined;
  Deno.test({
    name: `${name}${ignore ? " (skipped without docker-registry and go)" : ""}`,
    ignore,
    fn: async () => {
      await using place = await Place.make();
      await fn(place);
    },
  });
}

/** An image of two architectures; gives the digests. */
async function twoArchitectures(registry: TestRegistry, place: Place, repo: string) {
  const pushed = [];
  for (const [at, arch] of ["arm64", "amd64"].entries()) {
    const layout = await packImage(place.dir, { arch, content: noise(MIB, at + 1) });
    const one = await registry.push(repo, layout);
    pushed.push({ ...one, platform: { os: "linux", architecture: arch } });
  }
  return { index: await registry.index(repo, pushed, "1.2"), arm: pushed[0]!, amd: pushed[1]! };
}

const textOf = async (archive: string, member: string) =>
  (await run("tar", { args: ["-xOf", archive, member] })).stdout;

imageTest(
  "an index gives the guest's image, which is found later without a registry",
  async (place) => {
    await using registry = await TestRegistry.start();
    const { index, amd, arm } = await twoArchitectures(registry, place, "team/app");
    const ref = `${registry.host}/team/app:1.2`;
    const archive = await place.pull(ref, index.digest);
    const { manifests } = JSON.parse(await textOf(archive.path, "index.json"));
    assertEquals(
      manifests.map((one: { digest: string; annotations: Record<string, string> }) => [
        one.digest,
        one.annotations["io.containerd.image.name"],
      ]),
      archive.names.map((name) => [amd.digest, name]),
    );
    const base = `${registry.host}/team/app`;
    assertEquals(archive.names, [
      `${base}:1.2`,
      `${base}@${index.digest}`,
      `${base}@${amd.digest}`,
    ]);
    const { stdout } = await run("tar", { args: ["-tf", archive.path] });
    assertEquals(stdout.trim().split("\n").length, 2 + 3);
    assertEquals(archive.digest, amd.digest);

    // The same bytes again, from the blobs that are there, and from a store that has nothing.
    const first = await digestFile(archive.path);
    await place.forget(false);
    assertEquals(await digestFile((await place.pull(ref, index.digest)).path), first);
    await Deno.remove(join(place.root, "blobs"), { recursive: true });
    await place.forget(false);
    assertEquals(await digestFile((await place.pull(ref, index.digest)).path), first);

    await registry.down();
    assertEquals((await place.pull(ref, index.digest)).path, archive.path);
    await registry.up();

    const other = await place.refused(ref, arm.digest);
    assertEquals(other.code, "image-platform");
    assertStringIncludes(other.why, "linux/arm64, and the guest is linux/amd64");
  },
);

imageTest(
  "what is to be downloaded is said before, and nothing where all is there",
  async (place) => {
    await using registry = await TestRegistry.start();
    const { index } = await twoArchitectures(registry, place, "team/app");
    const ref = `${registry.host}/team/app:1.2`;
    const said: string[] = [];
    const tell = async () => {
      const log = new EventLog();
      log.addSink(({ message = "" }) => void (message.startsWith("to d") && said.push(message)));
      const wanted = [{ kind: "image", ref, digest: index.digest }] as const;
      await tellDownloads(wanted, { ...place.options(), span: log.span("up") });
    };
    await tell();
    assertEquals(said.length, 1);
    assertMatch(said[0]!, /^to download: 1\.0 MiB \(127\.0\.0\.1:\d+\/team\/app:1\.2 1\.0 MiB\)$/);
    assertEquals(await place.partial(), []);
    await place.pull(ref, index.digest);
    await tell();
    // A registry that does not answer is the pull's to tell.
    await place.forget();
    await registry.down();
    await tell();
    assertEquals(said.length, 1);
  },
);

imageTest(
  "an index without the guest's architecture is refused with those it has",
  async (place) => {
    await using registry = await TestRegistry.start();
    const { arm } = await twoArchitectures(registry, place, "app");
    const index = await registry.index("app", [arm], "arm");
    const error = await place.refused(`${registry.host}/app:arm`, index.digest);
    assertEquals([error.code, error.why], [
      "image-platform",
      "it is made for linux/arm64, and the guest is linux/amd64",
    ]);
  },
);

imageTest(
  "bytes that do not have the digest are refused and nothing of them is kept",
  async (place) => {
    await using registry = await TestRegistry.start();
    const layout = await packImage(place.dir, { arch: "amd64", content: noise(MIB, 3) });
    const image = await registry.push("app", layout, "1");
    const manifest = JSON.parse(await Deno.readTextFile(registry.fileOf(image.digest)));
    const layer = registry.fileOf(manifest.layers[0].digest);
    const bytes = await Deno.readFile(layer);
    bytes[1000]! ^= 1;
    await Deno.writeFile(layer, bytes);
    const ref = `${registry.host}/app:1`;
    const bad = await place.refused(ref, image.digest);
    assertEquals(bad.code, "image-digest");
    bytes[1000]! ^= 1;
    await Deno.writeFile(layer, bytes);
    await place.pull(ref, image.digest);

    const text = await Deno.readTextFile(registry.fileOf(image.digest));
    await Deno.remove(join(place.root, "blobs"), { recursive: true });
    await place.forget(false);
    await Deno.writeTextFile(registry.fileOf(image.digest), text.replace("{", "{ "));
    const changed = await place.refused(ref, image.digest);
    assertEquals(changed.code, "image-digest");
    assertEquals(await place.partial(), []);
  },
);

imageTest(
  "a registry that goes away in the middle of a pull: the next pull goes on",
  async (place) => {
    await using registry = await TestRegistry.start();
    using proxy = new CuttingProxy(registry.host);
    const layout = await packImage(place.dir, { arch: "amd64", content: noise(8 * MIB, 4) });
    const image = await registry.push("app", layout, "1");
    await place.registries({ mirrors: { "hub.test": { endpoint: [`http://${proxy.host}`] } } });
    proxy.budget = 5 * MIB;
    const error = await place.refused("hub.test/app:1", image.digest);
    assertEquals(error.code, "registry-unreachable");
    assertStringIncludes(error.fix, "resumes from there");
    assertEquals((await place.partial()).length, 1);
    proxy.budget = undefined;
    proxy.passed = 0;
    const archive = await place.pull("hub.test/app:1", image.digest);
    assertLess(proxy.passed, 4 * MIB);
    assertEquals(archive.names[0], "hub.test/app:1");
  },
);

imageTest("a connection that is cut again and again costs no byte twice", async (place) => {
  await using registry = await TestRegistry.start();
  using proxy = new CuttingProxy(registry.host);
  const layout = await packImage(place.dir, { arch: "amd64", content: noise(6 * MIB, 5) });
  const image = await registry.push("app", layout, "1");
  await place.registries({ mirrors: { "hub.test": { endpoint: [`http://${proxy.host}`] } } });
  proxy.budget = 2 * MIB;
  const timer = setInterval(() => proxy.budget === 0 && (proxy.budget = 2 * MIB), 200);
  try {
    await place.pull("hub.test/app:1", image.digest);
  } finally {
    clearInterval(timer);
  }
  assertLess(proxy.passed, 6.5 * MIB);
});

imageTest(
  "two starts that want one image pull it once, and a killed pull goes on",
  async (place) => {
    await using registry = await TestRegistry.start();
    using proxy = new CuttingProxy(registry.host);
    const layout = await packImage(place.dir, { arch: "amd64", content: noise(8 * MIB, 6) });
    const image = await registry.push("app", layout, "1");
    await place.registries({ mirrors: { "hub.test": { endpoint: [`http://${proxy.host}`] } } });
    proxy.rate = 4 * MIB;
    const killed = new AbortController();
    const timer = setInterval(() => proxy.passed > 3 * MIB && killed.abort(), 50);
    const error = await assertRejects(
      () => place.pull("hub.test/app:1", image.digest, killed.signal),
      GatewayError,
    );
    clearInterval(timer);
    assertEquals(error.code, "interrupted");
    proxy.rate = undefined;
    const both = await Promise.all([
      place.pull("hub.test/app:1", image.digest),
      place.pull("hub.test/app:1", image.digest),
    ]);
    assertEquals(both[0].path, both[1].path);
    assertLess(proxy.passed, 9.5 * MIB);
  },
);

imageTest(
  "a registry that asks for a login gets the docker config's or registries.yaml's",
  async (place) => {
    await using registry = await TestRegistry.start({ login: true });
    const layout = await packImage(place.dir, { arch: "amd64", content: noise(MIB, 7) });
    const image = await registry.push("app", layout, "1");
    const ref = `${registry.host}/app:1`;
    const denied = await place.refused(ref, image.digest);
    assertEquals(denied.code, "registry-denied");
    assertStringIncludes(denied.fix, "registries.yaml");

    await Deno.mkdir(join(place.dir, "docker"));
    const config = (password: string) =>
      Deno.writeTextFile(
        join(place.dir, "docker/config.json"),
        JSON.stringify({
          auths: { [registry.host]: { auth: btoa(`${LOGIN.username}:${password}`) } },
        }),
      );
    await config("wrong");
    assertEquals((await place.refused(ref, image.digest)).code, "registry-denied");
    await config(LOGIN.password);
    const archive = await place.pull(ref, image.digest);

    await Deno.remove(join(place.dir, "docker"), { recursive: true });
    await place.forget(false);
    await Deno.remove(join(place.root, "blobs"), { recursive: true });
    await place.registries({ configs: { [registry.host]: { auth: LOGIN } } });
    assertEquals((await place.pull(ref, image.digest)).path, archive.path);
    const logs = await Array.fromAsync(Deno.readDir(join(place.root, "logs")));
    for (const { name } of logs) {
      const text = await Deno.readTextFile(join(place.root, "logs", name));
      assert(!text.includes(LOGIN.password), name);
    }
  },
);

imageTest(
  "a registry whose certificate nobody trusts is refused, and taken with its authority",
  async (place) => {
    const signal = new AbortController().signal;
    const pki = await ensurePki(join(place.dir, "pki"), { span: silentSpan(), signal });
    const tls = { ...pki.server, caPem: pki.caPem };
    await using registry = await TestRegistry.start({ tls });
    const layout = await packImage(place.dir, { arch: "amd64", content: noise(MIB, 8) });
    const image = await registry.push("app", layout, "1");
    // Without a scheme, loopback is plain HTTP for k3s and for us.
    const endpoint = [`https://${registry.host}`];
    const mirrors = { "hub.test": { endpoint } };
    await place.registries({ mirrors });
    const untrusted = await place.refused("hub.test/app:1", image.digest);
    assertEquals(untrusted.why.includes("certificate"), true, untrusted.why);

    await place.registries({
      mirrors,
      configs: { [registry.host]: { tls: { ca_file: pki.caPath } } },
    });
    await place.pull("hub.test/app:1", image.digest);

    await place.forget(false);
    await place.registries({ mirrors });
    await ensureImages([{ ref: "hub.test/app:1", digest: image.digest }], {
      ...place.options(),
      hostCa: pki.caPath,
    });
  },
);

imageTest(
  "mirrors are asked first, with their rewrites, and the registry after them",
  async (place) => {
    await using registry = await TestRegistry.start();
    const layout = await packImage(place.dir, { arch: "amd64", content: noise(MIB, 9) });
    const image = await registry.push("mirrored/library/app", layout, "1");
    const dead = "http://127.0.0.1:1";
    await place.registries({
      mirrors: {
        "docker.io": {
          endpoint: [dead, `http://${registry.host}`],
          rewrite: { "^library/(.*)": "mirrored/library/$1" },
        },
      },
    });
    const archive = await place.pull("app:1", image.digest);
    assertEquals(archive.names[0], "docker.io/library/app:1");
    const other = `sha256:${"0".repeat(64)}`;
    const error = await place.refused("nowhere.invalid/app:1", other);
    assertEquals(error.code, "registry-unreachable");
    assertStringIncludes(error.why, "nowhere.invalid");
    const gone = await place.refused(`${registry.host}/other:1`, other);
    assertEquals(gone.code, "image-unknown");
  },
);

imageTest("a chart comes as its archive", async (place) => {
  await using registry = await TestRegistry.start();
  const bytes = noise(64 * 1024, 10) as Uint8Array<ArrayBuffer>;
  const config = await registry.blob(
    "charts/app",
    new TextEncoder().encode('{"name":"app","version":"1.0.0"}'),
    "application/vnd.cncf.helm.config.v1+json",
  );
  const layer = await registry.blob(
    "charts/app",
    bytes,
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
  );
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const value = { schemaVersion: 2, mediaType, config, layers: [layer] };
  const chart = await registry.manifest("charts/app", value, "1.0.0");
  const asked = [{ ref: `oci://${registry.host}/charts/app:1.0.0`, digest: chart.digest }];
  const [path] = await ensureCharts(asked, place.options());
  assertEquals(`sha256:${await digestFile(path!)}`, layer.digest);
  const layout = await packImage(place.dir, { arch: "amd64", content: noise(4096, 11) });
  const image = await registry.push("app", layout, "1");
  const error = await assertRejects(
    () => ensureCharts([{ ref: `${registry.host}/app:1`, digest: image.digest }], place.options()),
    GatewayError,
  );
  assertEquals(error.code, "image-unknown");
  assertStringIncludes(error.why, "it is no chart");
});

Deno.test({
  name: "a cache without space is told, and the pull goes on when there is some (needs root)",
  ignore: Deno.uid() !== 0 || which(REGISTRY_TOOL.program) === undefined,
  fn: async () => {
    const mount = await Deno.makeTempDir({ prefix: "gw-small-" });
    const remount = (args: string[]) => run("mount", { args: [...args, "tmpfs", mount] });
    await remount(["-t", "tmpfs", "-o", "size=16m"]);
    try {
      await using place = await Place.make(join(mount, "cache"));
      await using registry = await TestRegistry.start();
      const layout = await packImage(place.dir, { arch: "amd64", content: noise(16 * MIB, 12) });
      const image = await registry.push("app", layout, "1");
      const error = await place.refused(`${registry.host}/app:1`, image.digest);
      assertEquals(error.code, "disk-full");
      assertMatch(error.why, /^it needs 32\.\d MiB of disk space, and \d+\.\d MiB are free$/);
      assertEquals(await place.partial(), []);
      await remount(["-o", "remount,size=128m"]);
      await place.pull(`${registry.host}/app:1`, image.digest);
    } finally {
      await run("umount", { args: [mount] });
      await Deno.remove(mount);
    }
  },
});
