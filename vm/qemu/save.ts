/**
 * Saving a guest of QEMU: it stands still while its memory is forked, its disk is frozen under an overlay and the state
 * of its devices is written; then it goes on, and the memory goes to its file.
 * It must not decide when, and keeps no record.
 *
 * @module
 */
import { dirname } from "@std/path";
import { GatewayError } from "../base/error.ts";
import type { JsonValue } from "../base/event.ts";
import { socketPath } from "../base/layout.ts";
import { run } from "../base/process.ts";
import type { VmSpec } from "../machine/spec.ts";
import type { SavedParts, SaveTarget } from "../machine/vmm.ts";
import type { OutgoingFolders } from "./outgoing.ts";
import type { QmpClient } from "./qmp.ts";
import { type LayerSave, saveLayer } from "./ram_layer.ts";
import { saveDevices } from "./state.ts";

/** Free space that a save must find; what the memory really needs is only known when it is written. */
const RESERVE_BYTES = 256 * 1024 * 1024;

/** Where QEMU's memory library listens. */
export const ramSocket = (spec: Pick<VmSpec, "runtimeDir">) =>
  socketPath(spec.runtimeDir, "ram.sock");

/** What QEMU says of a device with a disk. */
interface BlockDevice {
  readonly inserted?: { readonly "node-name"?: string };
}

/** A running QEMU whose guest can be saved, again and again. */
export class QemuSaver {
  /** What the state disk's node may be called: at first, and after each switch to an overlay. */
  readonly #diskNodes = ["state"];

  constructor(
    private readonly qmp: QmpClient,
    private readonly spec: VmSpec,
    private readonly outgoing: OutgoingFolders,
  ) {}

  /**
   * Saves; the guest stands still afterwards when the target says "end", else it runs.
   *
   * @throws GatewayError `vmm-failed`, `disk-full`; the guest runs then.
   */
  async save(target: SaveTarget, signal: AbortSignal): Promise<SavedParts> {
    await checkSpace(target.ramPath);
    const { mode, adopt = false, programs } = target;
    const staged = await this.outgoing.stage(target.ramPath);
    try {
      await programs?.freeze(signal);
      const stoppedAt = performance.now();
      // Without the signal: a guest that stops after the caller has gone must be continued below.
      await this.qmp.execute("stop");
      const socket = ramSocket(this.spec);
      using memory = await saveLayer(socket, staged, { mode, adopt }, signal);
      if (target.overlay) await this.#freezeDisk(target.overlay, signal);
      await saveDevices(this.qmp, this.spec.runtimeDir, target.devicesPath, signal);
      if (target.then === "continue") await this.qmp.execute("cont", {}, signal);
      const pauseMs = performance.now() - stoppedAt;
      if (target.then === "continue") await programs?.release();
      await memory.written;
      const adopted = adopt && await this.#adopt(memory, signal);
      await this.outgoing.deliver(staged, target.ramPath);
      const parts = { pauseMs, ramBytes: (await Deno.stat(target.ramPath)).size, adopted };
      await target.complete(parts);
      return parts;
    } catch (error) {
      await this.qmp.execute("cont").catch(() => {});
      await programs?.release().catch(() => {});
      for (const path of [staged, target.ramPath, target.devicesPath]) {
        await Deno.remove(path).catch(() => {});
      }
      throw error;
    }
  }

  /** The guest stands still once more. Without it everything is right, and takes more memory. */
  async #adopt(memory: LayerSave, signal: AbortSignal): Promise<boolean> {
    await this.qmp.execute("stop", {}, signal);
    try {
      return await memory.adopt().then(() => true, () => false);
    } finally {
      await this.qmp.execute("cont");
    }
  }

  /**
   * From the moment that QEMU has the command, only QEMU's answer says which file the guest writes to, so nothing here
   * ends with the signal. Where no answer comes, the record keeps the overlay: it is right for both files, since the
   * overlay shows what is below it.
   */
  async #freezeDisk(
    overlay: NonNullable<SaveTarget["overlay"]>,
    signal: AbortSignal,
  ): Promise<void> {
    const node = overlay.path.slice(overlay.path.lastIndexOf("/") + 1).replace(/\W/g, "-");
    const before = await this.#diskNode();
    this.#diskNodes.push(node);
    const filename = await this.outgoing.offer(overlay.path);
    await overlay.commit();
    try {
      signal.throwIfAborted();
      await this.qmp.execute("blockdev-add", {
        driver: "qcow2",
        "node-name": node,
        discard: "unmap",
        "detect-zeroes": "unmap",
        backing: null as unknown as JsonValue,
        file: { driver: "file", filename },
      });
      await this.qmp.execute("blockdev-snapshot", { node: before, overlay: node });
    } catch (error) {
      // QEMU answers in order: what it says now is said after the commands above.
      const now = await this.#diskNode().catch(() => undefined);
      if (now !== before) throw error;
      await this.qmp.execute("blockdev-del", { "node-name": node }).catch(() => {});
      await Deno.remove(filename).catch(() => {});
      await overlay.revert();
      throw error;
    }
  }

  /** The node that the guest writes to now. */
  async #diskNode(): Promise<string> {
    const devices = await this.qmp.execute("query-block") as unknown as BlockDevice[];
    const names = devices.map(({ inserted }) => inserted?.["node-name"]);
    const found = this.#diskNodes.find((name) => names.includes(name));
    if (found !== undefined) return found;
    throw new GatewayError({
      code: "vmm-failed",
      what: "Cannot freeze the guest's disk",
      why: "QEMU does not name the file that the guest writes to",
      fix: "read vmm.log in the instance's folder",
    });
  }
}

async function checkSpace(path: string): Promise<void> {
  const { stdout } = await run("df", { args: ["--output=avail", "-B1", dirname(path)] });
  const free = Number(stdout.trim().split("\n").at(-1));
  if (!(free < RESERVE_BYTES)) return;
  const mib = (value: number) => Math.floor(value / (1024 * 1024));
  throw new GatewayError({
    code: "disk-full",
    what: `Cannot save the guest's memory in "${dirname(path)}"`,
    why: `only ${mib(free)} MiB are free there, and ${mib(RESERVE_BYTES)} MiB are the least`,
    fix: "free some space, then try again; the instance runs on",
  });
}
