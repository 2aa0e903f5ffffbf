/**
 * A payload of a user's own in a real cluster: from its folder to an answer, changed, broken, and looked into.
 * One instance goes through all of it, from saved states where it can.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { waitFor } from "../../vm/base/wait.ts";
import { HELLO_PORT, type HelloChange, writeHello } from "../fakes/hello_payload.ts";
import { Client } from "./client.ts";
import { freePort, TestHome, withEvidence } from "./harness.ts";

const SIZE = ["--memory", "3072", "--cpus", "2"];
const UP_TIMEOUT_MS = 25 * 60_000;

Deno.test("a payload's folder in a cluster", async (t) => {
  const home = await TestHome.make();
  const client = new Client(home);
  const dir = join(home.home, "hello");
  const write = (change?: HelloChange) => writeHello(dir, change);
  const step = (name: string, fn: () => Promise<void>) =>
    t.step(name, () => withEvidence(home, "default", fn));
  const up = (...args: string[]) =>
    home.call(["up", "--detach", ...args], { timeoutMs: UP_TIMEOUT_MS });
  const podUids = async (name = "default") => {
    const args = ["get", "pods", "-n", "hello", "--field-selector=status.phase=Running"];
    const { items } = await client.kubectlJson(args, name);
    return items.map((pod: { metadata: { uid: string } }) => pod.metadata.uid).sort();
  };
  const configMaps = async () =>
    (await client.kubectlJson(["get", "configmaps", "-n", "hello"])).items
      .map((one: { metadata: { name: string } }) => one.metadata.name);
  /** To the state before any change, with the content that it had; it sleeps then. */
  const back = async () => {
    await write({ beside: ["kept", "dropped"] });
    await home.ok(["snapshot", "restore", "before"], { timeoutMs: 120_000 });
    await home.ok(["suspend"]);
  };
  let uids: string[] = [];

  await step(
    "up --payload DIR ends with READY, its notes, and an answer over mutual TLS",
    async () => {
      await write({ beside: ["kept", "dropped"] });
      const port = freePort();
      // Without the golden state of this payload, which nobody else would use.
      const result = await up(
        "--cold",
        "--payload",
        dir,
        "--port",
        `${port}:${HELLO_PORT}`,
        ...SIZE,
      );
      assertEquals(result.code, 0, result.stderr);
      assertStringIncludes(result.stdout, `Ask default at https://127.0.0.1:${port}.`);
      const report = await client.status() as unknown as Record<string, unknown>;
      assertEquals([report.payload, report.notes], [
        ...[await Deno.realPath(dir), `Ask default at https://127.0.0.1:${port}.`],
      ]);
      assert(await client.answers());
      assert((await client.curl(await client.status(), "/", true)).code !== 0);
      uids = await podUids();
      assertEquals(uids.length, 1);
    },
  );

  await step("a fork has certificates of its own and the pod of before", async () => {
    await home.ok(["fork", "default", "twin"], { timeoutMs: 300_000 });
    const [one, two] = [await client.status(), await client.status("twin")];
    assertEquals((await client.curl(two)).code, 0);
    const crossed = await client.curl({ ...two, clientFiles: one.clientFiles });
    assert(crossed.code !== 0, "the fork lets in its source's client");
    assertEquals(await podUids("twin"), uids);
    await home.ok(["rm", "--force", "twin"]);
  });

  await step("another payload for the instance is refused", async () => {
    await home.ok(["suspend"]);
    const { code, stderr } = await up("--payload", "demo");
    assertEquals(code, 2);
    assertStringIncludes(stderr, "payloads are not exchanged");
  });

  await step("a warm start from memory, and one from the disk, keep the pod", async () => {
    assertEquals((await up()).code, 0);
    assertEquals(await podUids(), uids);
    await home.ok(["down"], { timeoutMs: 120_000 });
    const { code, stderr } = await up("--payload", dir);
    assertEquals(code, 0, stderr);
    assertEquals(await podUids(), uids);
  });

  await step(
    "what changed in the folder is rolled out before READY, what is gone is removed",
    async () => {
      await home.ok(["snapshot", "create", "before"]);
      await home.ok(["suspend"]);
      await write({ edition: "two", beside: ["kept", "added"] });
      const { code, stderr } = await up();
      assertEquals(code, 0, stderr);
      const pods = await client.kubectlJson(["get", "pods", "-n", "hello"]);
      const editions = pods.items.map((
        pod: { metadata: { annotations: Record<string, string> } },
      ) => pod.metadata.annotations.edition);
      assertEquals(editions, ["two"]);
      assert(await client.answers());
      await waitFor({
        what: "the ConfigMap that is gone from the payload go",
        probe: async () => {
          const names = await configMaps();
          assert(names.includes("kept") && names.includes("added"), names.join());
          return !names.includes("dropped") || undefined;
        },
        timeoutMs: 30_000,
        intervalMs: 500,
      });
    },
  );

  await step("one that never answers ends by its own bound, with what was seen", async () => {
    await home.ok(["suspend"]);
    await write({ image: "gateway.local/missing:1", timeoutSeconds: 40 });
    const { code, stderr } = await up();
    assertEquals(code, 1, stderr);
    assertStringIncludes(
      stderr,
      'error: Timed out after 40 s waiting for the payload "hello" to answer',
    );
    assertMatch(stderr, /fix: correct the payload; `gateway up --keep` leaves the VM running/);
    assertMatch(
      stderr,
      /pod hello\/hello-\S+: Pending, not ready; hello waits \(ErrImageNeverPull/,
    );
    assertMatch(stderr, /event Pod hello-\S+: ErrImageNeverPull: /);
    assert(!/PRIVATE KEY|BEGIN CERTIFICATE|LS0tLS1CRUdJTi/.test(stderr), stderr);
    await home.assertClean();
  });

  await step("--keep leaves it running to look inside", async () => {
    await back();
    await write({ image: "gateway.local/missing:2", timeoutSeconds: 40 });
    const { code, stderr } = await up("--keep");
    assertEquals(code, 1, stderr);
    assertMatch(stderr, /fix: look inside with `gateway kubectl -- get pods -A`/);
    const status = JSON.parse((await home.call(["status", "--json"])).stdout);
    assertEquals([status.state, status.phase, status.endpoint], ["running", "failed", null]);
    assertStringIncludes(await client.sh("kubectl get pods -n hello"), "ErrImageNeverPull");
    await home.ok(["down"], { timeoutMs: 120_000 });
    await home.assertClean();
  });

  await step(
    "a chart is installed before READY; one that does not render ends in Helm's words",
    async () => {
      await back();
      const template = (data: string) =>
        `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: painted}\ndata: {colour: ${data}}\n`;
      await write({ template: template("{{ .Values.colour }}"), beside: ["kept", "dropped"] });
      const { code, stderr } = await up();
      assertEquals(code, 0, stderr);
      const painted = await client.kubectlJson(["get", "configmap", "painted", "-n", "hello"]);
      assertEquals(painted.data, { colour: "blue" });
      await home.ok(["suspend"]);
      await write({ template: template('{{ fail "no such colour" }}'), timeoutSeconds: 90 });
      const failed = await up();
      assertEquals(failed.code, 1, failed.stderr);
      assertMatch(
        failed.stderr,
        /why: the chart "extra" could not be installed: .*no such colour/,
      );
    },
  );

  await step("a fault in payload.yaml is told before anything starts", async () => {
    await Deno.writeTextFile(join(dir, "payload.yaml"), "name: hello\nnamespcae: hello\n");
    const { code, stderr } = await up();
    assertEquals(code, 1);
    assertStringIncludes(
      stderr,
      "why: payload.yaml:2:1: namespcae: there is no such field (and 2 more to correct)",
    );
    await home.assertClean();
  });

  await home[Symbol.asyncDispose]();
});
