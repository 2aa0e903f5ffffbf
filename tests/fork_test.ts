/**
 * fork() beside a source that is a lock, a record and the requests of its supervisor: what it refuses, and what it leaves
 * when a step fails. A whole fork is walked in tests/vm/. The whole process's environment decides where instances are, so
 * these tests run alone.
 *
 * @module
 */
import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { serveRequests, type SupervisorRequest } from "../bootstrap/run/requests.ts";
import type { SaveReport } from "../bootstrap/run/save.ts";
import { fork } from "../bootstrap/saved/fork.ts";
import { GatewayError } from "../vm/base/error.ts";
import { instancePaths } from "../vm/base/layout.ts";
import { findInstance, LockedInstance, type PortForward } from "../vm/instance/instance.ts";
import { type SavedState, snapshotRecord, writeState } from "../vm/instance/saved_state.ts";
import { instanceConfig } from "./fakes/instance_config.ts";
import { runRecord } from "./fakes/run_record.ts";
import { makeInstance, withHome } from "./instance_home.ts";

const { signal } = new AbortController();

/** A source that runs as far as others see it, and whose supervisor answers as it is told to. */
class Source implements AsyncDisposable {
  /** What the supervisor was asked, in order. */
  readonly asked: SupervisorRequest["do"][] = [];
  readonly #stack = new AsyncDisposableStack();

  /** `save` stands for the snapshot that is taken. */
  static async start(save: (name: string) => Promise<SaveReport | undefined>): Promise<Source> {
    const source = new Source();
    const instance = source.#stack.use(await LockedInstance.open("source"));
    const { runtimeDir } = instance.paths;
    await instance.saveConfig(instanceConfig({ name: "source" }));
    await Deno.mkdir(runtimeDir, { recursive: true, mode: 0o700 });
    await instance.saveRun(runRecord({ runtimeDir }));
    source.#stack.use(serveRequests(instance.paths, async (request) => {
      source.asked.push(request.do);
      return request.do === "snapshot" ? await save(request.name) : undefined;
    }));
    return source;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

const REPORT: SaveReport = { pauseMs: 1, ramBytes: 1 };

/** What fork() says when it fails. */
async function refused(names: string[], ports: PortForward[] = []): Promise<GatewayError> {
  const request = { source: "source", names, ports, onEvent: () => {}, signal };
  return await assertRejects(() => fork(request), GatewayError);
}

/** The folders that hold memory for clones. */
function memoryLeft(): string[] {
  const dir = `/dev/shm/gateway-${Deno.uid()}`;
  try {
    return [...Deno.readDirSync(dir)].map(({ name }) => name).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

Deno.test("fork() refuses names and ports before the source is asked for anything", () =>
  withHome(async () => {
    await using source = await Source.start(() => Promise.resolve(REPORT));
    await makeInstance("taken");
    assertEquals((await refused(["a", "a"])).what, 'Cannot fork to "a" twice');
    assertEquals((await refused(["a", "taken"])).what, 'Cannot fork to "taken"');
    assertEquals((await refused(["Not a name"])).code, "usage");
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const busy = { address: "127.0.0.1", hostPort: listener.addr.port, guestPort: 30_051 };
    assertEquals((await refused(["a"], [busy])).code, "port-in-use");
    assertEquals(source.asked, []);
    assertEquals(await findInstance("a"), undefined);
  }));

Deno.test("fork() wants a source that runs", () =>
  withHome(async () => {
    assertEquals((await refused(["a"])).code, "instance-unknown");
    await makeInstance("source");
    assertEquals((await refused(["a"])).code, "instance-stopped");
  }));

Deno.test("fork() says why the source could not be saved, and leaves no clone, snapshot or memory", () =>
  withHome(async () => {
    const words = { what: "Cannot save", why: "the disk is full", fix: "free some" };
    const before = memoryLeft();
    await using source = await Source.start(() =>
      Promise.reject(new GatewayError({ code: "disk-full", ...words }))
    );
    assertEquals((await refused(["a"])).code, "disk-full");
    assertEquals(source.asked, ["snapshot", "forget"]);
    assertEquals(await findInstance("a"), undefined);
    assertEquals(memoryLeft(), before);
  }));

Deno.test("fork() takes back the clones it placed when a name is taken meanwhile, and not the one that took it", () =>
  withHome(async () => {
    const paths = instancePaths("source");
    await using source = await Source.start(async (name) => {
      await makeInstance("b");
      for (const file of ["devices-1", "disk-1.qcow2"]) {
        await Deno.writeTextFile(join(paths.dir, file), file);
      }
      const file = { sizeBytes: 9, modifiedMs: 0, sha256: "" };
      const state: SavedState = {
        ...{ schemaVersion: 2, key: "", savedAt: "", ram: [], from: null },
        ...{ payload: null, certificates: null, clusterEnds: null, sshPort: null, apiPort: null },
        devices: { name: "devices-1", ...file },
        disk: { head: { name: "disk-1.qcow2", format: "qcow2" }, below: [] },
      };
      await writeState(snapshotRecord(paths, name), state);
      return REPORT;
    });
    assertEquals((await refused(["a", "b"])).what, 'Cannot fork to "b"');
    assertEquals(source.asked, ["snapshot", "forget"]);
    assertEquals(await findInstance("a"), undefined);
    assertEquals((await findInstance("b"))?.state, "stopped");
  }));
