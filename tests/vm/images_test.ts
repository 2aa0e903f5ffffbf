/**
 * Images in a real cluster: what the cluster pulls goes the way that registries.yaml, proxy and authorities of the host
 * say; what is loaded is there without a pull; and a payload with images starts where there is no network at all.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { generateKey, issueCertificate } from "../../bootstrap/credentials/x509.ts";
import { run } from "../../vm/base/process.ts";
import { waitFor } from "../../vm/base/wait.ts";
import { writeHello } from "../fakes/hello_payload.ts";
import {
  freePort as freePortOf,
  LOGIN,
  packImage,
  programLayout,
  TestRegistry,
} from "../fakes/registry.ts";
import { Client } from "./client.ts";
import { freePort, TestHome, withEvidence } from "./harness.ts";

const SIZE = ["--memory", "3072", "--cpus", "2"];
/** The instance that most of it happens in. */
const NAME = "pulls";
const UP_TIMEOUT_MS = 20 * 60_000;
const POD_TIMEOUT_MS = 120_000;

/** An address of this host that a guest can reach; loopback is none. */
function hostAddress(): string | undefined {
  return Deno.networkInterfaces().find(({ family, address }) =>
    family === "IPv4" && !address.startsWith("127.")
  )?.address;
}

/** A certificate for an address, and the authority that signed it. */
async function certificateFor(address: string) {
  const [authority, server] = [await generateKey(), await generateKey()];
  const times = {
    notBefore: new Date(Date.now() - 3_600_000),
    notAfter: new Date(Date.now() + 86_400_000),
  };
  const issuer = { privateKey: authority.privateKey, publicKeyDer: authority.publicKeyDer };
  const caPem = await issueCertificate({
    ...{ role: "ca", commonName: "test authority", publicKeyDer: authority.publicKeyDer, issuer },
    ...times,
  });
  const certPem = await issueCertificate({
    ...{ role: "server", commonName: address, publicKeyDer: server.publicKeyDer },
    ...{ issuer: { ...issuer, certificatePem: caPem }, ipAddresses: [address] },
    ...times,
  });
  return { caPem, certPem, keyPem: server.privateKeyPem };
}

/** A pod that runs an image; with `volume` it has that one's files below /volume, without a pull. */
const podText = (name: string, image: string, policy: string, volume?: string) =>
  JSON.stringify({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name },
    spec: {
      terminationGracePeriodSeconds: 0,
      automountServiceAccountToken: false,
      containers: [{
        ...{ name: "main", image, imagePullPolicy: policy },
        command: ["/bin/sleep", "3600"],
        ...(volume ? { volumeMounts: [{ name: "volume", mountPath: "/volume" }] } : {}),
      }],
      ...(volume
        ? { volumes: [{ name: "volume", image: { reference: volume, pullPolicy: "Never" } }] }
        : {}),
    },
  });

Deno.test({
  name: "images in a cluster (skipped on a host with loopback only)",
  ignore: hostAddress() === undefined,
  fn: async (t) => {
    const address = hostAddress()!;
    await using home = await TestHome.make();
    const client = new Client(home);
    const tls = await certificateFor(address);
    await using registry = await TestRegistry.start({
      ...{ login: true, tls, address, port: freePortOf(address) },
    });
    const busybox = await programLayout(home.home, "busybox");
    const pushed = await registry.push("kept/team/box", busybox, "1");
    // Nobody listens there: what is for the registry must go past the proxy.
    const env = { HTTPS_PROXY: `http://${address}:9`, NO_PROXY: address };
    const step = (name: string, fn: () => Promise<void>) =>
      t.step(name, () => withEvidence(home, NAME, fn));
    const runs = async (
      name: string,
      image: string,
      policy = "IfNotPresent",
      volume?: string,
    ) => {
      const pod = podText(name, image, policy, volume);
      await client.sh(`echo '${pod}' | kubectl apply -f -`, NAME);
      await waitFor({
        what: `the pod "${name}"`,
        probe: async () => {
          const { status } = await client.kubectlJson(["get", "pod", name], NAME);
          return status.phase === "Running" || undefined;
        },
        timeoutMs: POD_TIMEOUT_MS,
        intervalMs: 500,
      });
    };

    await step("an instance starts with the proxy and the authority of its host", async () => {
      await Deno.writeTextFile(join(home.home, "ca.pem"), tls.caPem);
      const network = ["--host-proxy", "--host-ca", join(home.home, "ca.pem")];
      const up = ["up", "--detach", "--port", `${freePort()}:30051`, ...SIZE, ...network];
      await home.ok(up, { timeoutMs: UP_TIMEOUT_MS, env });
    });

    await step(
      "a fork takes a new registries.yaml",
      async () => {
        const settings = join(home.home, "config/gateway");
        await Deno.mkdir(settings, { recursive: true });
        await Deno.writeTextFile(join(settings, "own.pem"), tls.caPem);
        const registries = {
          mirrors: {
            "hub.test": {
              endpoint: [`https://${registry.host}`],
              rewrite: { "^(.*)$": "kept/$1" },
            },
          },
          configs: { [registry.host]: { auth: LOGIN, tls: { ca_file: "own.pem" } } },
        };
        const path = join(settings, "registries.yaml");
        await Deno.writeTextFile(path, JSON.stringify(registries), { mode: 0o600 });
        await home.ok(["fork", "default", NAME], { timeoutMs: 300_000, env });
        await home.ok(["down"], { timeoutMs: 120_000 });
      },
    );

    await step(
      "containerd has the proxy and the authority, and no secret is on the disk",
      async () => {
        const pid = "$(pgrep -o -f '^containerd ' || pgrep -o -x containerd)";
        const has = await client.sh(`tr '\\0' '\\n' </proc/${pid}/environ`, NAME);
        assertMatch(has, new RegExp(`^HTTPS_PROXY=http://${address}:9$`, "m"));
        assertMatch(has, new RegExp(`^NO_PROXY=${address},localhost,.*10\\.43\\.0\\.0/16`, "m"));
        assertMatch(has, /^SSL_CERT_DIR=\/run\/payload\/authorities$/m);
        assertEquals(
          (await client.sh("cat /run/payload/authorities/host-ca.pem", NAME)).trim(),
          tls.caPem.trim(),
        );
        const link = await client.sh(
          "readlink /etc/rancher/k3s/registries.yaml; stat -L -c %a /etc/rancher/k3s/registries.yaml",
          NAME,
        );
        assertEquals(link, "/run/payload/registries/registries.yaml\n600\n");
        const events = await Deno.readTextFile(
          join(home.home, "data/gateway/instances", NAME, "events.jsonl"),
        );
        assert(!events.includes(LOGIN.password));
      },
    );

    await step("image load brings an archive in, from a file and from stdin", async () => {
      const archive = join(home.home, "box.tar");
      await packLayout(busybox, archive, "loaded.test/box:2");
      const { stdout } = await home.ok(["image", "load", "--name", NAME, archive]);
      assertEquals(stdout, "loaded.test/box:2\n");
      await runs("loaded", "loaded.test/box:2", "Never");
      const packed = (await Deno.open(archive)).readable.pipeThrough(new CompressionStream("gzip"));
      const again = await home.ok(["image", "load", "--name", NAME, "--json", "-"], {
        stdin: await new Response(packed).bytes(),
      });
      assertEquals(JSON.parse(again.stdout), []);
      assertMatch(again.stderr, /[1-9]\d* blobs were not sent, the guest has them/);
      const list = JSON.parse((await home.ok(["image", "list", "--name", NAME, "--json"])).stdout);
      const found = list.find(({ ref }: { ref: string }) => ref === "loaded.test/box:2");
      assertEquals([found.digest, found.platforms, found.pinned], [
        ...[pushed.digest, ["linux/amd64"], true],
      ]);
      assertStringIncludes(
        (await home.ok(["image", "list", "--name", NAME])).stdout,
        "gateway.local/demo:1",
      );
    });

    await step("images of the host can be mounted as volumes", async () => {
      // One by `image load`, one from the root image's archives.
      await runs("mounts-loaded", "loaded.test/box:2", "Never", "loaded.test/box:2");
      await runs("mounts-root", "loaded.test/box:2", "Never", "gateway.local/demo:1");
      const found = await client.sh(
        "kubectl exec mounts-loaded -- /bin/ls /volume/bin/sleep && kubectl exec mounts-root -- /bin/ls /volume",
        NAME,
      );
      assertStringIncludes(found, "/volume/bin/sleep");
    });

    await step("a failed load leaves the image of before, and the next load works", async () => {
      await packLayout(busybox, join(home.home, "other.tar"), "loaded.test/cut:1");
      const other = await Deno.readFile(join(home.home, "other.tar"));
      await Deno.writeFile(join(home.home, "cut.tar"), other.slice(0, other.length / 2));
      const load = (file: string) =>
        home.call(["image", "load", "--name", NAME, join(home.home, file)]);
      const cut = await load("cut.tar");
      assertEquals(cut.code, 2, cut.stderr);
      assertStringIncludes(cut.stderr, "it is not a whole");
      const names = (await client.sh("k3s ctr images list -q", NAME)).split("\n");
      assert(names.includes("loaded.test/box:2") && !names.includes("loaded.test/cut:1"));
      assertEquals((await load("other.tar")).stdout, "loaded.test/cut:1\n");
      await runs("after-cut", "loaded.test/cut:1", "Never");
    });

    // After the load: kubelet gives an image that it has pulled to no other name without asking its registry.
    await step(
      "a pod's image is pulled by the mirror, its rewrite and its login",
      () => runs("pulled", "hub.test/team/box:1"),
    );

    await step("what cannot be loaded is told as what it is", async () => {
      const foreign = await packImage(home.home, { arch: "arm64", content: new Uint8Array(4096) });
      await packLayout(foreign, join(home.home, "arm.tar"), "loaded.test/arm:1");
      await Deno.writeTextFile(join(home.home, "no.tar"), "no archive\n".repeat(1000));
      for (
        const [file, code, words] of [
          ["arm.tar", 1, "it is made for linux/arm64, and the guest is linux/amd64"],
          ["no.tar", 2, "it is not a whole"],
          ["none.tar", 2, "No such file"],
        ] as const
      ) {
        const result = await home.call(["image", "load", "--name", NAME, join(home.home, file)]);
        assertEquals(result.code, code, result.stderr);
        assertStringIncludes(result.stderr, words);
      }
      const list = (await home.ok(["image", "list", "--name", NAME])).stdout;
      assert(!list.includes("loaded.test/arm"), list);
      await home.ok(["down", NAME], { timeoutMs: 120_000 });
    });

    await step("a payload whose images are in the store starts without any network", async () => {
      const dir = join(home.home, "hello");
      const demo = await programLayout(home.home, "demo");
      const image = await registry.push("kept/team/demo", demo, "1");
      // Its pod mounts the image as a volume, too.
      await writeHello(dir, { image: "hub.test/team/demo:1", volume: true });
      const spec = await Deno.readTextFile(join(dir, "payload.yaml"));
      const named = `images: [{ref: "hub.test/team/demo:1", digest: "${image.digest}"}]\n`;
      await Deno.writeTextFile(join(dir, "payload.yaml"), spec + named);
      const built = JSON.parse((await home.ok(["build", "payload", dir, "--json"])).stdout);
      assert(built.some(({ file }: { file: string }) => file === "hub.test/team/demo:1"));
      await registry.down();
      const result = await run("unshare", {
        args: ["-n", "sh", "-c", AIRGAP, "airgap", ...home.words(["up", "--detach", "--cold"])],
        env: { ...home.env, PAYLOAD: dir, PORT: String(freePort()) },
        check: false,
        timeoutMs: UP_TIMEOUT_MS,
      });
      assertEquals(result.code, 0, result.stderr + result.stdout);
      assertStringIncludes(result.stdout, "answered: 200");
    });
  },
});

/** Starts an instance, and asks its service, all in a network with nothing but loopback. */
const AIRGAP = `
set -eu
ip link set lo up
[ -z "$(ip route)" ]
"$@" --name airgap --payload "$PAYLOAD" --port "$PORT:30080" --memory 3072 --cpus 2
cd "$XDG_CONFIG_HOME/openshell/gateways/gateway-airgap/mtls"
code=$(curl -sS --max-time 30 --cacert ca.crt --cert tls.crt --key tls.key -o /dev/null -w '%{http_code}' "https://127.0.0.1:$PORT/")
echo "answered: $code"
`;

/** An archive of a layout under another name. */
async function packLayout(layout: string, archive: string, name: string): Promise<void> {
  const path = join(layout, "index.json");
  const index = JSON.parse(await Deno.readTextFile(path));
  index.manifests[0].annotations = { "io.containerd.image.name": name };
  await Deno.writeTextFile(path, JSON.stringify(index));
  await run("tar", { args: ["-cf", archive, "-C", layout, "."] });
}
