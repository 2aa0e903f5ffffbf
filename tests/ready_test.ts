/**
 * reachReady() with a guest that is a control port, a network and a service of this process: what is on record and who is
 * told when the service answers, and when it does not. The whole process's environment decides where instances are, so
 * these tests run alone.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { ensureKeys } from "../bootstrap/start/parts.ts";
import { reachReady } from "../bootstrap/start/ready.ts";
import { GatewayError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";
import { instancePaths } from "../vm/base/layout.ts";
import { findInstance, LockedInstance, type RunRecord } from "../vm/instance/instance.ts";
import { withPath } from "./fakes/install.ts";
import { instanceConfig } from "./fakes/instance_config.ts";
import { runRecord } from "./fakes/run_record.ts";
import { withHome } from "./instance_home.ts";

type Arguments = Parameters<typeof reachReady>;

/** Nobody listens there. */
const CLOSED = 1;

/** What one start did. */
class Start {
  /** Words to the guest, forwards, and what was told to who waits, in order. */
  readonly did: string[] = [];
  /** The record that READY was told with. */
  ready: RunRecord | undefined;
  /** Why the service does not answer, where the VM is kept. */
  kept: GatewayError | undefined;

  /** `hostPort` is where the service would be; no `answers` ends the wait after a second. */
  async run(hostPort: number, keep = false): Promise<Awaited<ReturnType<typeof reachReady>>> {
    const forward = { address: "127.0.0.1", hostPort, guestPort: 30_051 };
    const config = instanceConfig({ name: "dev", ports: [forward], kubeApi: false });
    await using instance = await LockedInstance.open("dev");
    await instance.saveConfig(config);
    const { runtimeDir } = instance.paths;
    await instance.saveRun(runRecord({ phase: "starting", ports: [forward], runtimeDir }));
    const signal = new AbortController().signal;
    await ensureKeys(instance.paths, forward, { span: silentSpan(), signal });
    const health = { path: "/healthz", timeoutSeconds: 1 };
    const payload = {
      ...{ name: "web", namespace: "web", dir: "/web", digest: "d", notes: "Open {endpoint}" },
      ...{ charts: [], manifests: [], images: [], secrets: [], recreatePodsOf: [] },
      service: { nodePort: 30_051, protocol: "http", health },
    };
    const parts = {
      plan: { options: { config, keep }, forward },
      prepared: { payload, digest: "the payload's digest", images: [], later: [] },
      ...{ instance },
    } as unknown as Arguments[0];
    const source = { material: { certificates: {} } } as unknown as Arguments[1];
    const ctx: Arguments[3] = {
      onReady: (run) => {
        this.did.push("told ready");
        this.ready = run;
        return Promise.resolve();
      },
      onKept: (error) => {
        this.did.push("told why not");
        this.kept = error;
      },
    };
    const ready = await reachReady(parts, source, this.#machine(), ctx, silentSpan());
    this.did.push((await runOnRecord()).phase);
    return ready;
  }

  #machine(): Arguments[2] {
    const note = (words: string, answer?: unknown) => {
      this.did.push(words);
      return Promise.resolve(answer);
    };
    const client = {
      expose: (host: string, guest: string) =>
        note(`open ${host.replace(/\d+$/, "PORT")} to ${guest}`),
      exposeLoopback: (guest: string) => note(`open a port to ${guest}`, CLOSED),
    };
    return {
      control: {
        waitForMark: (mark: string) => note(`wait for ${mark}`),
        request: (words: string) => note(words.split(" ")[0]!),
      },
      vm: { keep: () => note("keep the VM") },
      gvproxy: { client },
      guarded: new AbortController().signal,
    } as unknown as Arguments[2];
  }
}

async function runOnRecord(): Promise<RunRecord> {
  return JSON.parse(await Deno.readTextFile(instancePaths("dev").runFile));
}

const OPENED = [
  ...["wait for network", "clock", "keep the VM", "open 127.0.0.1:PORT to 192.168.127.2:30051"],
  "open a port to 192.168.127.2:22",
];

/** Only to ask the cluster what it has. */
const API_OPENED = "open a port to 192.168.127.2:6443";

Deno.test("reachReady() opens the guest, waits for the service, and tells with everything on record", () =>
  withHome(async () => {
    await using server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      ({ url }) => new Response(null, { status: url.endsWith("/healthz") ? 200 : 404 }),
    );
    const { port } = server.addr;
    const start = new Start();
    await using ready = await start.run(port);
    assertEquals(start.did, [...OPENED, "told ready", "ready"]);
    const { phase, endpoint, notes, readyAt, sshPort, apiPort } = start.ready!;
    const at = `http://127.0.0.1:${port}`;
    assertEquals([phase, endpoint, notes, sshPort, apiPort], [
      ...["ready", at, `Open ${at}`, CLOSED, null],
    ]);
    assert(Math.abs(Date.parse(readyAt!) - Date.now()) < 60_000);
    assertEquals(ready.ports, { sshPort: CLOSED, apiPort: null });
    // The next start has nothing to bring.
    assertEquals(ready.config.payloadDigest, "the payload's digest");
    assertEquals((await findInstance("dev"))!.config.payloadDigest, "the payload's digest");
  }));

/** What the guest's own log and kubeconfig say, in the place of ssh. */
async function withGuestWords(body: () => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  const data = btoa("not a certificate");
  const kubeconfig = JSON.stringify({
    clusters: [{ cluster: { "certificate-authority-data": data } }],
    users: [{ user: { "client-certificate-data": data, "client-key-data": data } }],
  });
  const log = "kubenode 1.00s cannot deploy web.yaml: no kind; trying again in 1s";
  const script =
    `#!/bin/sh\ncase "$*" in *k3s.log*) echo '${log}' ;; *) echo '${kubeconfig}' ;; esac\n`;
  await Deno.writeTextFile(join(dir, "ssh"), script, { mode: 0o755 });
  await withPath(dir, body).finally(() => Deno.remove(dir, { recursive: true }));
}

function checkEvidence({ code, details }: GatewayError): void {
  assertEquals(code, "service-not-ready");
  assertEquals(details[0], "manifests: web.yaml: no kind; trying again in 1s");
  assertStringIncludes(details[1]!, "the cluster's API: ");
}

Deno.test("reachReady() ends with what was seen when the service does not answer, and remembers no payload", () =>
  withHome(() =>
    withGuestWords(async () => {
      const start = new Start();
      checkEvidence(await assertRejects(() => start.run(CLOSED), GatewayError));
      assertEquals(start.did, [...OPENED, API_OPENED]);
      assertEquals((await findInstance("dev"))!.config.payloadDigest, null);
    })
  ));

Deno.test("reachReady() that is to keep the VM tells why, and leaves it on record as failed", () =>
  withHome(() =>
    withGuestWords(async () => {
      const start = new Start();
      await using ready = await start.run(CLOSED, true);
      assertEquals(start.did, [...OPENED, API_OPENED, "told why not", "failed"]);
      checkEvidence(start.kept!);
      assertEquals(ready.config.payloadDigest, null);
    })
  ));
