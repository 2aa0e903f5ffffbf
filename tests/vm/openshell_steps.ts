/**
 * Steps of the walk with OpenShell's stand-in that start instances: whose token opens a clone and its source, which of them
 * the client uses, and what becomes of tokens and sandboxes over suspend, fork, down and up.
 *
 * @module
 */
import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import { postGrpcOnce } from "../../bootstrap/cluster/probe_request.ts";
import { exists } from "../../vm/base/layout.ts";
import { waitFor } from "../../vm/base/wait.ts";
import type { Client } from "./client.ts";
import type { TestHome } from "./harness.ts";
import { OpenshellCli } from "./openshell_cli.ts";

const FORK_TIMEOUT_MS = 10 * 60_000;
const UP_TIMEOUT_MS = 10 * 60_000;
const CALL_TIMEOUT_MS = 30_000;
/** kubelet starts containers in its own order, which takes minutes under emulation. */
const SANDBOX_TIMEOUT_MS = 5 * 60_000;
const METHOD = "/openshell.v1.OpenShell/GetCurrentUser";

const tokenFile = async (client: Client, name: string) =>
  join(dirname((await client.status(name)).clientFiles), "oidc_token.json");

async function tokenOf(client: Client, name: string): Promise<string> {
  return JSON.parse(await Deno.readTextFile(await tokenFile(client, name))).access_token;
}

/** The gRPC status that an instance's service gives to a token, over a connection with the instance's client certificate. */
async function statusAt(
  client: Client,
  name: string,
  token?: string,
): Promise<string | undefined> {
  const { endpoint, clientFiles } = await client.status(name);
  const read = (file: string) => Deno.readTextFile(join(clientFiles, file));
  const { headers } = await postGrpcOnce({
    port: Number(new URL(endpoint!).port),
    path: METHOD,
    tls: {
      caPem: await read("ca.crt"),
      certPem: await read("tls.crt"),
      keyPem: await read("tls.key"),
    },
    body: new Uint8Array(5),
    token,
    signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
  });
  return headers["grpc-status"];
}

/** uid of the pod of the sandbox "first"; undefined while there is none. */
async function sandboxPod(client: Client, name: string): Promise<string | undefined> {
  const { items } = await client.kubectlJson(["get", "pods", "-n", "openshell"], name);
  const pod = items.find((one: { metadata: { name: string } }) =>
    one.metadata.name === "default--first"
  );
  return pod?.metadata.uid;
}

/** Waits until programs run in the sandbox "first" of the active gateway in another pod than before. */
async function startsAgain(home: TestHome, client: Client, name: string, before?: string) {
  const user = await OpenshellCli.of(home);
  await waitFor({
    what: "the sandbox in a pod of its own",
    probe: async () => {
      const uid = await sandboxPod(client, name);
      if (uid === undefined || uid === before) return undefined;
      const { code } = await user.call("sandbox", "exec", "--name", "first", "--", "true");
      return code === 0 ? true : undefined;
    },
    timeoutMs: SANDBOX_TIMEOUT_MS,
    intervalMs: 2000,
  });
  assertEquals(await user.sh("first", "cat note"), "kept\n");
}

/**
 * A fork of "default" called "other": own tokens only, the same pod of the gateway, never the active gateway by itself, and
 * the sandbox "first" started again with what it had on its volume, while that of the source goes on.
 */
export async function forkIsItsOwn(home: TestHome, client: Client): Promise<void> {
  const gateway = async (name: string) => {
    const pod = ["get", "pod", "openshell-0", "-n", "openshell"];
    const { metadata, status } = await client.kubectlJson(pod, name);
    return [metadata.uid, status.containerStatuses[0].containerID];
  };
  const before = await gateway("default");
  const sandbox = await sandboxPod(client, "default");
  await home.ok(["fork", "default", "other"], { timeoutMs: FORK_TIMEOUT_MS });
  assertEquals(await gateway("other"), before, "the gateway of the fork was started again");

  const [source, clone] = [await tokenOf(client, "default"), await tokenOf(client, "other")];
  const seen = [
    await statusAt(client, "other", clone),
    await statusAt(client, "other", source),
    await statusAt(client, "other"),
    await statusAt(client, "default", source),
    await statusAt(client, "default", clone),
    await statusAt(client, "default"),
  ];
  assertEquals(seen, ["0", "16", "16", "0", "16", "16"]);

  const active = () => Deno.readTextFile(join(home.home, "config/openshell/active_gateway"));
  assertEquals(await active(), "gateway");
  await home.ok(["use", "other"]);
  assertEquals(await active(), "gateway-other");
  await startsAgain(home, client, "other", sandbox);
  await home.ok(["rm", "--force", "other"]);
  assertEquals(await active(), "gateway");
  assertEquals(await sandboxPod(client, "default"), sandbox);
  assertEquals(await (await OpenshellCli.of(home)).sh("first", "cat note"), "kept\n");
}

/** A suspended instance has no token; a resumed one has another, and its sandboxes go on. */
export async function resumeRenewsTheToken(home: TestHome, client: Client): Promise<void> {
  const before = await tokenOf(client, "default");
  const sandbox = await sandboxPod(client, "default");
  const file = await tokenFile(client, "default");
  await home.ok(["suspend"]);
  assert(!await exists(file), "a suspended instance's token is still there");
  await home.ok(["resume"]);
  assertNotEquals(await tokenOf(client, "default"), before);
  assertEquals(await (await OpenshellCli.of(home)).sh("first", "cat note"), "kept\n");
  assertEquals(await sandboxPod(client, "default"), sandbox);
}

/** A running instance writes its token again, and that one opens the service. */
export async function removedTokenComesBack(home: TestHome, client: Client): Promise<void> {
  const file = await tokenFile(client, "default");
  await Deno.remove(file);
  await waitFor({
    what: "the token to be written again",
    probe: async () => await exists(file) || undefined,
    timeoutMs: 120_000,
    intervalMs: 500,
  });
  await (await OpenshellCli.of(home)).knowsItsUser();
}

/** What came after a snapshot is gone once it is restored; the login opens it, and the sandbox goes on. */
export async function restoreKeepsTheLogin(home: TestHome): Promise<void> {
  const user = await OpenshellCli.of(home);
  await home.ok(["snapshot", "create", "before"]);
  await user.ok("provider", "create", "--name", "later", "--type", "generic");
  await home.ok(["snapshot", "restore", "before"], { timeoutMs: FORK_TIMEOUT_MS });
  await user.knowsItsUser();
  assertEquals(await user.ok("provider", "list"), "NAME  TYPE\n");
  assertEquals(await user.sh("first", "cat note"), "kept\n");
  await home.ok(["snapshot", "rm", "before"]);
}

/** A boot ends sandboxes; the start after it brings them back, with what was on their volumes. */
export async function upBringsSandboxesBack(home: TestHome, client: Client): Promise<void> {
  const sandbox = await sandboxPod(client, "default");
  await home.ok(["down"]);
  await home.ok(["up", "--detach"], { timeoutMs: UP_TIMEOUT_MS });
  await startsAgain(home, client, "default", sandbox);
  const { stdout } = await home.ok(["logs", "--source", "events"]);
  assertStringIncludes(stdout, "openshell/default--first; processes in");
}
