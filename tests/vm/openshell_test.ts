/**
 * The payload openshell in a real cluster, which runs because nobody named another, from a local registry that holds
 * stand-ins under the real names: its chart by the Helm controller, images that are never pulled by the guest,
 * certificates, keys for tokens, a volume that outlives its pod, and a user's day with a sandbox. tests/openshell_test.ts
 * has what needs no boot.
 *
 * @module
 */
import {
  assert,
  assertEquals,
  assertMatch,
  assertNotMatch,
  assertStringIncludes,
} from "@std/assert";
import { join } from "@std/path";
import { waitFor } from "../../vm/base/wait.ts";
import { TestRegistry } from "../fakes/registry.ts";
import { Client } from "./client.ts";
import { freePort, type TestHome, withEvidence } from "./harness.ts";
import { GUEST_PORT, HostServices, SAYS } from "./host_services.ts";
import { OpenshellCli } from "./openshell_cli.ts";
import {
  offerOpenshell,
  PINNED,
  releasePage,
  serveOpenshell,
  undecidedHome,
} from "./openshell_payload.ts";
import {
  hearsTheHost,
  isMadeAsMeant,
  printedCommands,
  refusesStrangers,
  staysUpWhileBusy,
  useSandbox,
} from "./openshell_sandbox.ts";
import {
  forkIsItsOwn,
  removedTokenComesBack,
  restoreKeepsTheLogin,
  resumeRenewsTheToken,
  upBringsSandboxesBack,
} from "./openshell_steps.ts";

const SIZE = ["--memory", "3072", "--cpus", "2"];
const UP_TIMEOUT_MS = 20 * 60_000;
const POD_TIMEOUT_MS = 3 * 60_000;

Deno.test("the payload openshell", async (t) => {
  await using home = await undecidedHome();
  await using registry = await TestRegistry.start();
  await using host = new HostServices(home);
  const client = new Client(home);
  let printed: string[][] = [];
  const step = (name: string, fn: () => Promise<void>) =>
    t.step(name, () => withEvidence(home, "default", fn));

  await step("is READY with stand-ins that came from a registry", async () => {
    const { named, page } = await offer(home, registry);
    await using _page = page;
    const port = ["--port", `${freePort()}:30051`, "--host-service", host.spec];
    const up = ["up", "--detach", ...named, ...port, ...SIZE];
    const { stdout, stderr } = await home.ok(up, { env: page?.env, timeoutMs: UP_TIMEOUT_MS });
    // From here on nothing is pulled any more.
    await registry.down();
    if (!PINNED) assertStringIncludes(stderr, "openshell is pinned");
    printed = printedCommands(stdout);
    assertEquals((await client.status()).payload, named[1]);
    assert(await client.answers());
  });

  await step("was installed by its chart, from images of the host", async () => {
    const { items } = await client.kubectlJson(["get", "pods", "-n", "openshell"]);
    assertEquals(items.map((pod: { metadata: { name: string } }) => pod.metadata.name), [
      "openshell-0",
    ]);
    const [{ image, imagePullPolicy }] = items[0].spec.containers;
    assertEquals(imagePullPolicy, "Never", image);
    const mode = await client.sh(
      "find /var/lib/kubelet/pods -path '*~secret/jwt/*' -name signing.pem -type f -exec stat -c %a {} +",
    );
    assertEquals(mode.trim(), "440", "fsGroup may read the key, others may not");
  });

  await step("knows its user, and nobody by the client's certificate alone", async () => {
    const user = await OpenshellCli.of(home);
    await user.knowsItsUser();
    await using alone = await user.withKeyAlone();
    const { code, stderr } = await alone.call("sandbox", "list");
    assertEquals(code, 1);
    assertStringIncludes(stderr, 'credentials\', message: "missing authorization header"');
  });

  await step("has taken its mirrors into use without another start of containerd", async () => {
    const log = await client.sh("cat /var/log/k3s.log");
    assertMatch(log, /registries are read again$/m);
    assertNotMatch(log, /containerd ended/);
  });

  await step(
    "makes a sandbox in which programs run, by the commands that READY prints",
    async () => {
      await useSandbox(home, printed);
      await isMadeAsMeant(home, client);
    },
  );

  await step("lets a sandbox hear the host's chosen service, and nothing else of it", async () => {
    await hearsTheHost(home, GUEST_PORT, SAYS);
  });

  await step("lets only the gateway reach a sandbox's port", async () => {
    await refusesStrangers(home, client);
  });

  await step("is not restarted by kubelet while the guest is busy", async () => {
    await staysUpWhileBusy(client);
  });

  await step("writes a token again that was removed", async () => {
    await removedTokenComesBack(home, client);
  });

  await step(
    "has its login, sandbox and data of before after a snapshot was restored",
    async () => {
      await restoreKeepsTheLogin(home);
    },
  );

  await step("has a fork with tokens, certificates and sandboxes of its own", async () => {
    await forkIsItsOwn(home, client);
  });

  await step("has a new token after suspend and resume, and sandboxes that go on", async () => {
    await resumeRenewsTheToken(home, client);
  });

  await step("brings sandboxes back after down and up", async () => {
    await upBringsSandboxesBack(home, client);
  });

  await step("ends a sandbox that is deleted", async () => {
    const user = await OpenshellCli.of(home);
    await user.ok("sandbox", "delete", "first");
    assertEquals(await user.ok("sandbox", "list"), "No sandboxes found.\n");
    await waitFor({
      what: "the end of the sandbox's pod and volume",
      probe: async () => {
        const kinds = "pods,persistentvolumeclaims,sandboxes.agents.x-k8s.io";
        const { items } = await client.kubectlJson(["get", kinds, "-n", "openshell"]);
        const names = items.map((one: { metadata: { name: string } }) => one.metadata.name);
        return names.some((name: string) => name.includes("first")) ? undefined : true;
      },
      timeoutMs: POD_TIMEOUT_MS,
      intervalMs: 1000,
    });
  });

  await step("keeps its data when its pod is replaced", async () => {
    const user = await OpenshellCli.of(home);
    await user.ok("provider", "create", "--name", "kept", "--type", "generic");
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
    assertStringIncludes(await user.ok("provider", "list"), "kept  generic");
  });
});

/** Offers all of openshell; gives what `up` has to be told of it, and the page that it needs for that. */
async function offer(home: TestHome, registry: TestRegistry) {
  if (PINNED) {
    // The stand-ins have other digests than the ones it comes with.
    const dir = join(home.home, "openshell");
    await offerOpenshell(home, dir, registry);
    return { named: ["--payload", dir], page: undefined };
  }
  await serveOpenshell(home, registry);
  return { named: ["--payload", "openshell"], page: await releasePage(home) };
}
