/**
 * QEMU's device state in and out of a file, through a unix socket of ours: QEMU's sandbox forbids it to start programs,
 * and the memory itself stays in its file (x-ignore-shared), so nothing here grows with the guest's size.
 * It must not decide when a guest is suspended.
 *
 * @module
 */
import { GatewayError } from "../base/error.ts";
import type { JsonValue } from "../base/event.ts";
import { socketPath } from "../base/layout.ts";
import { connectUnix, listenPrivate, writeAll } from "../base/lines.ts";
import { settleWithin, waitFor } from "../base/wait.ts";
import type { QmpClient } from "./qmp.ts";

/** Far more than the 60 kB that were seen, far less than any memory. */
const DEVICES_MAX_BYTES = 64 * 1024 * 1024;
const MIGRATE_TIMEOUT_MS = 20_000;

/** Writes the device state of a guest that stands still to a new file of mode 0600. */
export async function saveDevices(
  qmp: QmpClient,
  runtimeDir: string,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  const socket = socketPath(runtimeDir, "state");
  await Deno.remove(socket).catch(() => {});
  using listener = listenPrivate(socket);
  await ignoreSharedMemory(qmp, signal);
  try {
    const incoming = receive(listener, path);
    incoming.catch(() => {});
    await qmp.execute("migrate", { uri: `unix:${socket}` }, signal);
    await migrated(qmp, signal);
    await settleWithin(incoming, { what: "the end of the device state", timeoutMs: 5000, signal });
  } catch (error) {
    await Deno.remove(path).catch(() => {});
    throw error;
  } finally {
    await Deno.remove(socket).catch(() => {});
  }
}

async function receive(listener: Deno.UnixListener, path: string): Promise<void> {
  using conn = await listener.accept();
  using file = await Deno.open(path, { write: true, create: true, truncate: true, mode: 0o600 });
  const buffer = new Uint8Array(1 << 16);
  let total = 0;
  for (;;) {
    const read = await conn.read(buffer);
    if (read === null) break;
    total += read;
    if (total > DEVICES_MAX_BYTES) throw saveError("it is larger than any device state");
    await writeAll(file, buffer.subarray(0, read));
  }
  await file.syncData();
}

/** Feeds device state into a QEMU that was started with `-incoming defer`; the guest is still stopped then. */
export async function loadDevices(
  qmp: QmpClient,
  runtimeDir: string,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  const socket = socketPath(runtimeDir, "state");
  await Deno.remove(socket).catch(() => {});
  await ignoreSharedMemory(qmp, signal);
  await qmp.execute("migrate-incoming", { uri: `unix:${socket}` }, signal);
  {
    using conn = await waitFor({
      what: "QEMU's socket for the device state",
      probe: () => connectUnix(socket),
      timeoutMs: 5000,
      intervalMs: 2,
      signal,
      code: "vmm-failed",
    });
    await writeAll(conn, await Deno.readFile(path));
  }
  await waitFor({
    what: "the loaded device state",
    probe: async () => {
      const { status } = await qmp.execute("query-status", {}, signal) as { status: string };
      return status === "inmigrate" ? undefined : true;
    },
    timeoutMs: MIGRATE_TIMEOUT_MS,
    intervalMs: 2,
    signal,
    code: "vmm-failed",
  });
  await Deno.remove(socket).catch(() => {});
}

async function ignoreSharedMemory(qmp: QmpClient, signal: AbortSignal): Promise<void> {
  const capabilities = [{ capability: "x-ignore-shared", state: true }];
  await qmp.execute("migrate-set-capabilities", { capabilities }, signal);
}

async function migrated(qmp: QmpClient, signal: AbortSignal): Promise<void> {
  await waitFor({
    what: "the end of QEMU's migration",
    probe: async () => {
      const reply = await qmp.execute("query-migrate", {}, signal) as Record<string, JsonValue>;
      if (reply.status === "failed") {
        throw saveError(String(reply["error-desc"] ?? "QEMU gave no reason"));
      }
      return reply.status === "completed" || undefined;
    },
    timeoutMs: MIGRATE_TIMEOUT_MS,
    intervalMs: 2,
    signal,
    code: "vmm-failed",
  });
}

function saveError(why: string): GatewayError {
  return new GatewayError({
    code: "vmm-failed",
    what: "Cannot save the VM's device state",
    why,
    fix: "read vmm.log in the instance's folder",
  });
}
