import { assertEquals, assertRejects } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { socketPath } from "../../vm/base/layout.ts";
import { listenPrivate } from "../../vm/base/lines.ts";
import { askSupervisor, serveRequests, type SupervisorRequest } from "./requests.ts";
import type { SaveReport } from "./save.ts";

const signal = new AbortController().signal;
const REPORT: SaveReport = { pauseMs: 12, ramBytes: 34 };

interface Place {
  readonly name: string;
  readonly runtimeDir: string;
}

async function withPlace(fn: (paths: Place) => Promise<void>): Promise<void> {
  const runtimeDir = await Deno.makeTempDir();
  try {
    await fn({ name: "dev", runtimeDir });
  } finally {
    await Deno.remove(runtimeDir, { recursive: true });
  }
}

async function refused(paths: Place, request: SupervisorRequest, how = signal) {
  const error = await assertRejects(() => askSupervisor(paths, request, how), GatewayError);
  return [error.code, error.what, error.why];
}

Deno.test("askSupervisor() gives what was carried out, each request on its own", () =>
  withPlace(async (paths) => {
    const asked: SupervisorRequest[] = [];
    using _served = serveRequests(paths, (request) => {
      asked.push(request);
      return Promise.resolve(request.do === "forget" ? undefined : REPORT);
    });
    const snapshot = { do: "snapshot", name: "one", ramDir: null } as const;
    const forget = { do: "forget", name: "one" } as const;
    assertEquals(await askSupervisor(paths, snapshot, signal), REPORT);
    assertEquals(await askSupervisor(paths, forget, signal), undefined);
    assertEquals(asked, [snapshot, forget]);
  }));

Deno.test("askSupervisor() tells the error of the other side as it is", () =>
  withPlace(async (paths) => {
    using _served = serveRequests(paths, () => {
      const words = { what: "Cannot save", why: "the disk is full", fix: "free some" };
      throw new GatewayError({ code: "disk-full", ...words });
    });
    assertEquals(await refused(paths, { do: "suspend" }), [
      "disk-full",
      "Cannot save",
      "the disk is full",
    ]);
  }));

Deno.test("askSupervisor() reports any other failure of a save as one of the VMM, and else as a bug", () =>
  withPlace(async (paths) => {
    using _served = serveRequests(paths, () => Promise.reject(new Error("no answer from QEMU")));
    assertEquals(await refused(paths, { do: "suspend" }), [
      "vmm-failed",
      "Cannot carry out the request",
      "no answer from QEMU",
    ]);
    assertEquals((await refused(paths, { do: "forget", name: "one" }))[0], "bug");
  }));

Deno.test("serveRequests() refuses what it does not know, and goes on", () =>
  withPlace(async (paths) => {
    const asked: string[] = [];
    using _served = serveRequests(paths, (request) => {
      asked.push(request.do);
      return Promise.resolve(undefined);
    });
    const unknown = { do: "format" } as unknown as SupervisorRequest;
    assertEquals((await refused(paths, unknown))[0], "bug");
    await askSupervisor(paths, { do: "discard" }, signal);
    assertEquals(asked, ["discard"]);
  }));

Deno.test("askSupervisor() says so when the instance is not ready, and when it ends meanwhile", () =>
  withPlace(async (paths) => {
    assertEquals(await refused(paths, { do: "suspend" }), [
      "instance-locked",
      'Cannot suspend the instance "dev"',
      "it is not ready yet, or it is stopping",
    ]);
    using listener = listenPrivate(socketPath(paths.runtimeDir, "supervisor"));
    const ended = listener.accept().then((conn) => conn.close());
    assertEquals(await refused(paths, { do: "forget", name: "one" }), [
      "vm-exited",
      'Cannot forget the instance "dev"',
      "it ended meanwhile",
    ]);
    await ended;
  }));

Deno.test("askSupervisor() ends with its signal while the other side works", () =>
  withPlace(async (paths) => {
    const gone = Promise.withResolvers<SaveReport | undefined>();
    using _served = serveRequests(paths, () => gone.promise);
    const stop = new AbortController();
    const asking = refused(paths, { do: "suspend" }, stop.signal);
    stop.abort();
    assertEquals((await asking)[0], "interrupted");
    gone.resolve(undefined);
  }));
