/**
 * This room is the life of an instance after READY: requests, saving, clock, health, certificates, and how it is
 * stopped. How it starts is in the room start. Read requests.ts next, then save.ts and down.ts.
 *
 * What a supervisor does between READY and the end: keeps the guest's clock, watches that guest and network answer, and
 * carries out the requests of other `gateway` processes (requests.ts).
 * It must not save by itself (save.ts) or end the run but by a suspend.
 *
 * @module
 */
import type { RunningGvproxy } from "../../net/gvproxy.ts";
import { removeDurable } from "../../vm/base/durable.ts";
import { abortError, describeError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { checkSnapshotName } from "../../vm/base/layout.ts";
import { raceAbort } from "../../vm/base/wait.ts";
import { slotRecord, snapshotRecord, sweep } from "../../vm/instance/saved_state.ts";
import type { ControlPort } from "../../vm/machine/control_port.ts";
import { CertificateWatch } from "./certificate_watch.ts";
import { keepClock } from "./clock.ts";
import { applyHostServices } from "./host_service.ts";
import { trimWhenIdle } from "./idle_memory.ts";
import { NetworkHealth } from "./network_health.ts";
import { serveRequests, type SupervisorRequest } from "./requests.ts";
import { type SaveParts, type SaveReport, saveRun } from "./save.ts";
import { SharedMemory } from "./shared_memory.ts";

/** How a run ended: "again" asks for another one at once, from the state it left. */
export type RunEnd = "over" | "again";

/**
 * Serves requests and stays until the run ends: suspended, stopped by the user, powered off by the guest, or put to
 * sleep to be woken with a new network.
 *
 * @throws GatewayError when the VM, gvproxy or the guest failed.
 */
export async function stay(
  parts: SaveParts & { readonly gvproxy: RunningGvproxy; readonly control: ControlPort },
  guarded: AbortSignal,
  user: AbortSignal,
): Promise<RunEnd> {
  const { span, gvproxy, control } = parts;
  await using shared = new SharedMemory();
  const desk = new Desk(parts, shared, user);
  let end: RunEnd = "over";
  const restart = (failed: string) => {
    if (end === "again") return;
    end = "again";
    desk.carryOut({ do: "suspend" }).catch((error) => {
      end = "over";
      span.warn(`${failed}: ${describeError(error)}`);
    });
  };
  const health = new NetworkHealth(
    gvproxy.client,
    span,
    guarded,
    () => restart("its network cannot be replaced"),
  );
  const certificates = new CertificateWatch(
    parts.paths,
    span,
    guarded,
    () => restart("stop and start it, so that its certificates are renewed"),
  );
  void health.watch();
  void certificates.watch();
  const onWake = () => {
    void health.look();
    void certificates.look();
  };
  void keepClock(control, span, guarded, { onWake });
  void trimWhenIdle(parts.vm, span, guarded);
  using _requests = serveRequests(parts.paths, (request) => desk.carryOut(request));
  try {
    await raceAbort(new Promise<never>(() => {}), guarded).catch(() => {});
    if (user.aborted || control.markSeen("stopped") !== undefined) return end;
    throw abortError(guarded);
  } catch (error) {
    // Whoever asked for the VMM's end knows how it went; the guard only sees the end.
    if (!desk.ending) throw error;
    await desk.ending;
    return end;
  } finally {
    // The end of the VM or of the run's signal ends it, too; a snapshot that was cut takes its files away.
    await desk.idle();
  }
}

/** Carries out requests one after the other. */
class Desk {
  /** Set while a request ends the run. */
  ending: Promise<SaveReport | undefined> | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly parts: SaveParts & { readonly gvproxy: RunningGvproxy },
    private readonly shared: SharedMemory,
    private readonly signal: AbortSignal,
  ) {}

  carryOut(request: SupervisorRequest): Promise<SaveReport | undefined> {
    const turn = this.#turn.then(() => this.#do(request));
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** Resolves when nothing is being carried out. */
  async idle(): Promise<void> {
    await this.#turn;
  }

  async #do(request: SupervisorRequest): Promise<SaveReport | undefined> {
    const { parts, signal } = this;
    const { paths, span } = parts;
    if (request.do === "suspend") {
      return await this.#end(
        span.run(
          "suspend",
          (s) => saveRun({ ...parts, span: s }, { record: slotRecord(paths), then: "end" }, signal),
        ),
      );
    }
    if (request.do === "discard") return await this.#end(parts.vm.stop(2000).then(() => undefined));
    if (request.do === "host-service") {
      await applyHostServices(paths, parts.gvproxy.client, request, signal);
      return undefined;
    }
    checkSnapshotName(request.name);
    const record = snapshotRecord(paths, request.name);
    if (request.do === "forget") {
      await removeDurable(record);
      await sweep(paths, this.#running());
      return undefined;
    }
    const { shared } = this;
    const ramDir = request.ramDir ?? undefined;
    const options = { record, then: "continue", ramDir, shared } as const;
    const save = (s: Span) => saveRun({ ...parts, span: s }, options, signal);
    return await span.run("snapshot", save, { snapshot: request.name });
  }

  async #end(ending: Promise<SaveReport | undefined>): Promise<SaveReport | undefined> {
    this.ending = ending;
    ending.catch(() => this.ending = undefined);
    return await ending;
  }

  /** The files that this run is made of. */
  #running(): string[] {
    const { spec, paths } = this.parts;
    return (spec.ram?.layers ?? []).filter((path) => path.startsWith(`${paths.dir}/`))
      .map((path) => path.slice(paths.dir.length + 1));
  }
}
