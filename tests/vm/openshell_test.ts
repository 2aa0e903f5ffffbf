/**
 * The payload openshell in a real cluster, which runs because nobody named another, from a local registry that holds
 * stand-ins under the real names: its chart by the Helm controller, images that are never pulled by the guest,
 * certificates, keys for tokens, and a volume that outlives its pod. tests/openshell_test.ts has what needs no boot.
 *
 * @module
 */
import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { run } from "../../vm/process.ts";
import { waitFor } from "../../vm/wait.ts";
import { TestRegistry } from "../fakes/registry.ts";
import { Client } from "./client.ts";
import { freePort, type TestHome, withEvidence } from "./harness.ts";
import {
  offerOpenshell,
  PINNED,
  releasePage,
  serveOpenshell,
  undecidedHome,
} from "./openshell_payload.ts";

const SIZE = ["--memory", "3072", "--cpus", "2"];
const UP_TIMEOUT_MS = 20 * 60_000;
const POD_TIMEOUT_MS = 3 * 60_000;

Deno.test("the payload openshell", async (t) => {
  await using home = await undecidedHome();
  await using registry = await TestRegistry.start();
  const client = new Client(home);
  const step = (name: string, fn: () => Promise<void>) =>
    t.step(name, () => withEvidence(home, "default", fn));

  await step("is READY with stand-ins that came from a registry", async () => {
    const named = await build(home, registry);
    // From here on nothing is pulled any more.
    await registry.down();
    const port = ["--port", `${freePort()}:30051`];
    const up = ["up", "--detach", ...named, ...port, ...SIZE];
    const { stdout } = await home.ok(up, { timeoutMs: UP_TIMEOUT_MS });
    assertStringIncludes(stdout, "openshell status");
    assertEquals((await client.status()).payload, named[1] ?? "openshell");
    assert(await client.answers());
    const without = await client.curl(await client.status(), "/", true);
    assertNotEquals(without.code, 0, "it answers without a client's certificate");
  });

  await step("was installed by its chart, from images of the host", async () => {
    const { items } = await client.kubectlJson(["get", "pods", "-n", "openshell"]);
    assertEquals(items.map((pod: { metadata: { name: string } }) => pod.metadata.name), [
      "openshell-0",
    ]);
    const { containers, initContainers } = items[0].spec;
    for (const { image, imagePullPolicy } of [...initContainers, ...containers]) {
      assertEquals(imagePullPolicy, "Never", image);
    }
    const mode = await client.sh(
      "find /var/lib/kubelet/pods -path '*~secret/jwt/*' -name signing.pem -type f -exec stat -c %a {} +",
    );
    assertEquals(mode.trim(), "440", "fsGroup may read the key, others may not");
  });

  await step("keeps its data when its pod is replaced", async () => {
    const count = async () => (await client.curl(await client.status(), "/counter")).stdout.trim();
    const before = await count();
    await countUp(client);
    const after = await count();
    assertEquals(Number(after), Number(before) + 1);
    const uid = async () =>
      (await client.kubectlJson(["get", "pods", "-n", "openshell"])).items[0]?.metadata.uid;
    const old = await uid();
    await home.ok(["kubectl", "--", "delete", "pod", "-n", "openshell", "openshell-0"]);
    await waitFor({
      what: "the new pod to answer",
      probe: async () => await uid() !== old && await client.answers() ? true : undefined,
      timeoutMs: POD_TIMEOUT_MS,
      intervalMs: 1000,
    });
    assertEquals(await count(), after);
  });
});

/** Gets all of openshell from the registry; gives what `up` has to be told of it. */
async function build(home: TestHome, registry: TestRegistry): Promise<string[]> {
  if (PINNED) {
    // The stand-ins have other digests than the ones it comes with.
    const dir = join(home.home, "openshell");
    await offerOpenshell(home, dir, registry);
    await home.ok(["build", "payload", dir], { timeoutMs: UP_TIMEOUT_MS });
    return ["--payload", dir];
  }
  await serveOpenshell(home, registry);
  await using page = await releasePage(home);
  const { stderr } = await home.ok(["build", "payload"], {
    ...{ env: page.env, timeoutMs: UP_TIMEOUT_MS },
  });
  assertStringIncludes(stderr, "openshell is pinned");
  return [];
}

/** Counts one up, in the file that lies where the database would. */
async function countUp(client: Client): Promise<void> {
  const report = await client.status();
  const file = (name: string) => join(report.clientFiles, name);
  const tls = ["--cacert", file("ca.crt"), "--cert", file("tls.crt"), "--key", file("tls.key")];
  await run("curl", {
    args: ["-sS", "--fail", "--max-time", "30", "-X", "POST", ...tls, `${report.endpoint}/counter`],
  });
}
