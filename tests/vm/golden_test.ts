/**
 * The golden state disk: no byte of it is a secret, and two clusters that start from it cold share none.
 *
 * @module
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { Client } from "./client.ts";
import { freePort, TestHome, withEvidence } from "./harness.ts";

const SIZE = ["--memory", "3072", "--cpus", "2"];
const BUILD_TIMEOUT_MS = 75 * 60_000;
const UP_TIMEOUT_MS = 15 * 60_000;

/** What must not be in an image that all instances get, in the forms a disk can hold it. */
const SECRETS: Readonly<Record<string, RegExp>> = {
  "a private key": /-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/=]{30}/g,
  "a certificate": /-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=]{30}/g,
  "a key or certificate in a kubeconfig": /LS0tLS1CRUdJTi[A-Za-z0-9+/=]{60}/g,
  "a join token": /K10[0-9a-f]{64}::/g,
  "a service account's token": /eyJhbGciOi[A-Za-z0-9_-]{20,}\.eyJ/g,
  "an OpenSSH key": /openssh-key-v1\0/g,
};

/** Every secret of a cluster, one a line: digests of files, and the values of Secrets whole. */
const READ_SECRETS = `
cd /var/lib/rancher/k3s
for file in server/tls/*.key server/token agent/*.key /etc/machine-id /run/payload/ssh/ssh_host_ed25519_key; do
  sha256sum <"$file"
done
kubectl get secrets -A -o jsonpath='{range .items[*]}{.data}{end}'
kubectl get cm -n default kube-root-ca.crt -o jsonpath='{.data}' | sha256sum
`;

/** Memory of the cluster's processes before and after, in kB. */
const SETTLE = `
resident() { cat /proc/[0-9]*/status | awk '/^Name:/ { ours = $2 == "k3s" } /^RssAnon:/ && ours { sum += $2 } END { print sum }'; }
resident
k3s settle
resident
`;

Deno.test("the golden state disk", async (t) => {
  const home = await TestHome.make();
  const client = new Client(home);
  const built = await home.ok(["build", "golden", ...SIZE, "--json"], {
    timeoutMs: BUILD_TIMEOUT_MS,
  });
  const rows = JSON.parse(built.stdout) as { artifact: string; file: string; path: string }[];
  const disk = rows.find(({ artifact }) => artifact === "golden")!.path;

  await t.step("holds no secret", async () => {
    const found = await findSecrets(disk);
    assertEquals(found, []);
  });

  await t.step(
    "is seen to be searched: the same search finds an instance's own secrets",
    async () => {
      const own = await Deno.makeTempFile({ dir: home.home });
      await Deno.writeTextFile(own, `x-----BEGIN EC PRIVATE KEY-----\n${"A".repeat(64)}\n`);
      assertEquals(await findSecrets(own), ["a private key"]);
    },
  );

  const start = (name: string, ...how: string[]) =>
    withEvidence(home, name, async () => {
      const up = ["up", "--detach", ...how, "--name", name, "--port", `${freePort()}:30051`];
      await home.ok([...up, ...SIZE], { timeoutMs: UP_TIMEOUT_MS });
      assert(await client.answers(name));
      assertEquals(await client.nodeReady(name), "True");
    });

  await t.step("a cold start goes on from it", async () => {
    await start("one", "--cold");
    const chain = JSON.parse(
      await Deno.readTextFile(`${home.home}/data/gateway/instances/one/disk.json`),
    );
    assertEquals([chain.head.format, chain.below.length], ["qcow2", 1]);
  });

  await t.step("shares no private key, no token and no id with the state's cluster", async () => {
    await start("two");
    const secretsOf = async (name: string) => {
      const lines = (await client.sh(READ_SECRETS, name)).split(/[\n,{}]/);
      return new Set(lines.map((line) => line.trim()).filter((line) => line.length >= 24));
    };
    const [one, two] = await Promise.all([secretsOf("one"), secretsOf("two")]);
    assertGreater(one.size, 15, [...one].join("\n"));
    assertEquals([...one].filter((line) => two.has(line)), []);
  });

  await t.step("before it is saved the cluster gives back what its start has left", async () => {
    const [before, said, after] = (await client.sh(SETTLE, "one")).trim().split("\n");
    assertEquals(said, "settled");
    assertGreater(Number(before) - Number(after), 10_000, `${before} and ${after} kB`);
  });

  await home[Symbol.asyncDispose]();
});

/** Which kinds of secrets a file holds; reads it in pieces that overlap. */
async function findSecrets(path: string): Promise<string[]> {
  const found = new Set<string>();
  using file = await Deno.open(path);
  const decoder = new TextDecoder("latin1");
  const buffer = new Uint8Array(8 * 1024 * 1024);
  let tail = "";
  for (;;) {
    const read = await file.read(buffer);
    if (read === null) return [...found].sort();
    const text = tail + decoder.decode(buffer.subarray(0, read));
    for (const [name, pattern] of Object.entries(SECRETS)) {
      pattern.lastIndex = 0;
      if (pattern.test(text)) found.add(name);
    }
    tail = text.slice(-4096);
  }
}
