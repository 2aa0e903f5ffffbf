/**
 * The payload openshell before any boot: pinned on first use and pulled whole from a registry that holds stand-ins under
 * the real names, and the demo with the reason where that cannot be.
 *
 * @module
 */
import {
  assert,
  assertEquals,
  assertMatch,
  assertNotEquals,
  assertStringIncludes,
} from "@std/assert";
import { join } from "@std/path";
import { parse } from "yaml";
import { unknownValues } from "../bootstrap/payload/chart_values.ts";
import { packedChart } from "../bootstrap/payload/files.ts";
import { readPayload } from "../bootstrap/payload/read.ts";
import { exists } from "../vm/base/layout.ts";
import { pushOpenshell, STAND_IN_CHART } from "./fakes/openshell.ts";
import { agentSandboxManifest } from "./fakes/openshell/agent_sandbox.ts";
import { TestRegistry } from "./fakes/registry.ts";
import { ReleasePage } from "./fakes/release_page.ts";
import { tempDir } from "./fakes/temp_dir.ts";
import type { TestHome } from "./vm/harness.ts";
import {
  BUILT_IN,
  LOCK,
  offerOpenshell,
  PINNED,
  releasePage,
  serveOpenshell,
  undecidedHome,
} from "./vm/openshell_payload.ts";

const BUILD_TIMEOUT_MS = 75 * 60_000;
/** A release comes with its digests, and then nothing is left to pin. */
const ignore = PINNED;
/** Nobody answers there, whatever this host reaches. */
const NO_NETWORK = { HTTPS_PROXY: "http://127.0.0.1:1", NO_PROXY: "" };
/** Of a cluster that is nowhere. */
const KUBECONFIG = {
  clusters: [{ name: "none", cluster: { server: "https://127.0.0.1:1" } }],
  users: [{ name: "none", user: {} }],
  contexts: [{ name: "none", context: { cluster: "none", user: "none" } }],
};
const OFFER = /fix: .*; or pass --payload demo, which needs no registry/;

type Env = Readonly<Record<string, string>>;
type Row = { readonly artifact: string; readonly file: string; readonly path: string };

const EXPECTED = [
  "agent-sandbox.yaml",
  "gateway.local/helm:1",
  "ghcr.io/nvidia/openshell-community/sandboxes/base:latest",
  "ghcr.io/nvidia/openshell/gateway:0.0.111",
  "ghcr.io/nvidia/openshell/supervisor:0.0.111",
  "openshell.tgz",
  "registry.k8s.io/agent-sandbox/agent-sandbox-controller:v0.5.0",
];

/** What `gateway build TARGET…` made. */
async function build(home: TestHome, target: readonly string[], env: Env = {}): Promise<Row[]> {
  const { stdout } = await home.ok(["build", ...target, "--json"], {
    ...{ timeoutMs: BUILD_TIMEOUT_MS, env },
  });
  return JSON.parse(stdout);
}

const names = (rows: readonly Row[]) => rows.map(({ file }) => file).sort();

/** A home whose pulls are led to a registry with all of OpenShell, and the page of its manifest. */
async function offered() {
  await using stack = new AsyncDisposableStack();
  const home = stack.use(await undecidedHome());
  const registry = stack.use(await TestRegistry.start());
  const page = stack.use(await releasePage(home));
  const { images, pushed } = await serveOpenshell(home, registry);
  const held = stack.move();
  const end = () => held.disposeAsync();
  return { home, registry, page, images, pushed, [Symbol.asyncDispose]: end };
}

/** The only pinned payload of a home. */
function pinnedFolder(home: TestHome): string {
  const payloads = join(home.home, "data/gateway/payloads");
  const found = [...Deno.readDirSync(payloads)].map(({ name }) => name);
  assertEquals(found.length, 1, found.join());
  assertMatch(found[0]!, /^openshell-[0-9a-f]{12}$/);
  return join(payloads, found[0]!);
}

const text = (dir: string, name: string) => Deno.readTextFile(join(dir, name));

Deno.test({
  name: "openshell is pinned on first use, and stays what it was then",
  ignore,
  fn: async () => {
    await using place = await offered();
    const { home, registry, page, images, pushed } = place;

    const first = await home.ok(["build", "payload", "openshell"], {
      ...{ env: page.env, timeoutMs: BUILD_TIMEOUT_MS },
    });
    const dir = pinnedFolder(home);
    assertMatch(first.stderr, /openshell is pinned: what its names stand for now is noted in /);
    assert(first.stderr.includes(dir), first.stderr);
    const lock = JSON.parse(await text(dir, "lock.json"));
    const digests = [lock.chart, ...lock.images].map(({ ref, digest }) => [ref, digest]);
    assertEquals(new Map(digests as [string, string][]), new Map(pushed));
    assertMatch(lock.noted, /^\d{4}-\d\d-\d\dT/);
    assertEquals(await text(dir, "agent-sandbox.yaml"), agentSandboxManifest);
    const spec = await text(dir, "payload.yaml");
    const comments = (all: string) => all.split("\n").filter((line) => /^\s*#/.test(line));
    assertEquals(comments(spec), comments(await text(BUILT_IN, "payload.yaml")));
    const emptied = parse(spec.replaceAll(/digest: sha256:[0-9a-f]{64}$/gm, "digest: null"));
    assertEquals(emptied, parse(await text(BUILT_IN, "payload.yaml")));
    assertEquals(Deno.statSync(dir).mode! & 0o777, 0o700);
    for (const { name } of Deno.readDirSync(dir)) {
      assertEquals(Deno.statSync(join(dir, name)).mode! & 0o777, 0o600, name);
    }

    // Other content under the same tags, and then no registry: what was pinned is what runs.
    const again = await pushOpenshell(registry, {
      ...images,
      gateway: images.base,
      base: images.gateway,
    });
    assertNotEquals(again.get(lock.images[0].ref), lock.images[0].digest);
    await build(home, ["payload", "openshell"], page.env);
    await registry.down();
    const second = await home.ok(["build", "payload", "openshell", "--json"], { env: NO_NETWORK });
    assertEquals(names(JSON.parse(second.stdout)), EXPECTED);
    assert(!second.stderr.includes("pinned"), second.stderr);
    assertEquals(JSON.parse(await text(dir, "lock.json")), lock);

    // A file that was changed is told, not used.
    await Deno.writeTextFile(join(dir, "agent-sandbox.yaml"), "changed: yes\n");
    const changed = await home.call(["build", "payload", "openshell"], { env: NO_NETWORK });
    assertEquals(changed.code, 1);
    assertMatch(changed.stderr, /agent-sandbox\.yaml has sha256 .* instead of .*\n.*remove that/);
  },
});

Deno.test({
  name: "two that pin openshell at once end with one folder, which both use",
  ignore,
  fn: async () => {
    await using place = await offered();
    const { home, page } = place;
    const both = await Promise.all(
      [1, 2].map(() => build(home, ["payload", "openshell"], page.env)),
    );
    assertEquals(both.map(names), [EXPECTED, EXPECTED]);
    pinnedFolder(home);
  },
});

Deno.test({
  name: "a registry that lacks one image of openshell: an error with the offer",
  ignore,
  fn: async () => {
    await using place = await offered();
    const { home, registry, page } = place;
    const [{ ref, name }] = LOCK.images;
    const repositories = join(registry.dir, "data/docker/registry/v2/repositories");
    await Deno.remove(join(repositories, "nvidia/openshell", name), { recursive: true });
    const { code, stderr } = await home.call(["build", "payload", "openshell"], { env: page.env });
    assertEquals(code, 1, stderr);
    assert(stderr.includes(`Cannot find out the digest of "${ref}"`), stderr);
    assertMatch(stderr, OFFER);
    assertEquals(await exists(join(home.home, "data/gateway/payloads")), false);
  },
});

Deno.test({
  name: "a release page without the manifest, or with something else there, gives the same error",
  ignore,
  fn: async () => {
    await using home = await undecidedHome();
    await using registry = await TestRegistry.start();
    await serveOpenshell(home, registry);
    const { hostname } = new URL(LOCK.manifests[0].url);
    const insecure = new Response(null, { status: 302, headers: { location: "http://x.invalid" } });
    for (
      const [answer, why] of [
        [new Response("none", { status: 404 }), /why: it answered 404/],
        [new Response("<p>Log in first</p>"), /why: agent-sandbox\.yaml:1:1: /],
        [new Response("a".repeat(5 << 20)), /why: it has more than 4194304 bytes/],
        [insecure, /why: it is not on https, or leads away from it/],
      ] as const
    ) {
      await using page = await ReleasePage.start(home.home, hostname, () => answer);
      const { code, stderr } = await home.call(["build", "payload", "openshell"], {
        env: page.env,
      });
      assertEquals(code, 1, stderr);
      assertMatch(stderr, why);
      assertMatch(stderr, OFFER);
    }
    // One whose certificate nobody here trusts is not believed.
    await using page = await releasePage(home);
    const { code, stderr } = await home.call(["build", "payload", "openshell"], {
      env: { ...page.env, SSL_CERT_FILE: "" },
    });
    assertEquals(code, 1, stderr);
    assertMatch(stderr, OFFER);
    assertMatch(stderr, /why: .*certificate.*\n {2}fix: find out which server answers there; or/);
    assertEquals([...Deno.readDirSync(join(home.home, "data/gateway/payloads"))], []);
  },
});

Deno.test({
  name: "without a word demo is built, and without a network openshell is an error with the offer",
  ignore,
  fn: async () => {
    await using home = await undecidedHome();
    const cluster = ["--kubeconfig", join(home.home, "kubeconfig"), "--context", "none"];
    const { stdout, stderr } = await home.ok(["build", "payload"], { env: NO_NETWORK });
    assertMatch(stdout, /^demo /);
    await Deno.writeTextFile(join(home.home, "kubeconfig"), JSON.stringify(KUBECONFIG));
    assertMatch(
      stderr,
      /the payload is demo: this version does not have the digests of openshell; --payload openshell pulls and pins it/,
    );
    for (
      const args of [
        ["build", "payload", "openshell"],
        ["build", "golden", "--payload", "openshell"],
        ["up", "--payload", "openshell"],
        ["up", "--payload", "openshell", "--detach"],
        ["deploy", ...cluster, "--payload", "openshell"],
      ]
    ) {
      const failed = await home.call(args, { env: NO_NETWORK });
      assertEquals(failed.code, 1, failed.stderr);
      assertMatch(failed.stderr, OFFER);
    }
    assertEquals(await exists(join(home.home, "data/gateway/payloads")), false);
    assertEquals(await exists(join(home.home, "data/gateway/instances/default/state.img")), false);
  },
});

Deno.test("the chart that stands for OpenShell's has every value that the payload sets", async () => {
  const archive = await packedChart({
    name: "openshell",
    values: {},
    from: { kind: "folder", path: STAND_IN_CHART },
  });
  const { charts: [{ values }] } = parse(await text(BUILT_IN, "payload.yaml"));
  assertEquals(await unknownValues(archive, values), []);
  assertEquals(await unknownValues(archive, { ...values, sandbox: { image: "x" } }), ["sandbox"]);
});

Deno.test("the payload turns off leader election of the controller that stands for agent-sandbox's", async () => {
  const dir = await tempDir();
  const digest = `sha256:${"0".repeat(64)}`;
  const spec = await text(BUILT_IN, "payload.yaml");
  await Deno.writeTextFile(
    join(dir, "payload.yaml"),
    spec.replaceAll(/digest: null$/gm, `digest: ${digest}`),
  );
  await Deno.writeTextFile(join(dir, "agent-sandbox.yaml"), agentSandboxManifest);
  const { manifests: [manifest] } = await readPayload(dir);
  // As large as the real one, which has 397 KB.
  assert(agentSandboxManifest.length > 390_000, `${agentSandboxManifest.length}`);
  const deployment = manifest!.text.split("\n---\n").map((one) => JSON.parse(one))
    .find(({ kind }) => kind === "Deployment");
  const { args } = deployment.spec.template.spec.containers[0];
  assertEquals(args, ["--leader-elect=true", "--leader-elect=false"]);
});

/** Starts that end at a port which somebody holds: everything before a VM, and nothing of one. */
async function startAtTakenPort(home: TestHome, env: Env, ...more: string[]): Promise<string> {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const port = `127.0.0.1:${(taken.addr as Deno.NetAddr).port}:30051`;
  const { code, stderr } = await home.call(["up", "--port", port, ...more], {
    ...{ env, timeoutMs: BUILD_TIMEOUT_MS },
  });
  assertEquals(code, 1, stderr);
  assertMatch(stderr, /error: Cannot listen on /);
  return stderr;
}

const times = (text: string, wanted: string) => text.split(wanted).length - 1;

Deno.test({
  name: "up says once why a new instance runs demo, in the foreground and in the background",
  ignore,
  fn: async () => {
    await using home = await undecidedHome();
    for (const more of [[], ["--detach"]]) {
      const told = await startAtTakenPort(home, NO_NETWORK, ...more);
      assertEquals(times(told, "the payload is demo: this version does not have"), 1, told);
    }
    // Who asked for it gets no reason.
    const asked = await startAtTakenPort(home, NO_NETWORK, "--payload", "demo");
    assertEquals(times(asked, "the payload is"), 0, asked);
  },
});

Deno.test({
  name: "up in the background pins openshell in one of its two processes",
  ignore,
  fn: async () => {
    await using place = await offered();
    const { home, page } = place;
    const told = await startAtTakenPort(home, page.env, "--detach", "--payload", "openshell");
    assertEquals(times(told, "openshell is pinned"), 1, told);
    assertEquals(times(told, "the payload is"), 0, told);
    // The runtime itself looks for newer ones of its kind.
    const asked = () => page.asked.filter((host) => host !== "dl.deno.land").length;
    const before = asked();
    assertNotEquals(before, 0);
    await startAtTakenPort(home, page.env, "--detach", "--payload", "openshell");
    assertEquals(asked(), before, page.asked.join());
    pinnedFolder(home);
  },
});

Deno.test("chart and images of the payload openshell are pulled by the names and digests it has", async () => {
  await using home = await undecidedHome();
  await using registry = await TestRegistry.start();
  const dir = join(home.home, "openshell");
  await offerOpenshell(home, dir, registry);
  assertEquals(names(await build(home, ["payload", dir])), EXPECTED);
  // What is there needs no registry.
  await registry.down();
  assertEquals(names(await build(home, ["payload", dir])), EXPECTED);

  // A name of another version's chart, which Helm would ignore in silence.
  const spec = join(dir, "payload.yaml");
  const text = (await Deno.readTextFile(spec)).replace(
    /^( +)values:$/m,
    "$&\n$1  sandbox: {image: x}",
  );
  await Deno.writeTextFile(spec, text);
  const { stderr } = await home.ok(["build", "payload", dir], { timeoutMs: BUILD_TIMEOUT_MS });
  assertStringIncludes(stderr, 'the chart "openshell" has no value sandbox: Helm ignores it');
});
