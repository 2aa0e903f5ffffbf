/**
 * A whole cluster in a guest of libkrun: from an empty state disk to a service that answers over mutual TLS, and a clean
 * power-off. The steps and waits are those of `gateway up`.
 *
 * @module
 */
import { join } from "@std/path";
import { waitServiceReady } from "../../bootstrap/cluster/readiness.ts";
import { ensurePki } from "../../bootstrap/credentials/pki.ts";
import { loadPayload } from "../../bootstrap/payload/choose.ts";
import { payloadFiles } from "../../bootstrap/payload/manifests.ts";
import { planVm } from "../../bootstrap/plan/plan.ts";
import { guestUp } from "../../bootstrap/start/guest_up.ts";
import { powerOff } from "../../bootstrap/start/machine.ts";
import { writePayload } from "../../bootstrap/start/payload_disk.ts";
import { GUEST_ADDRESS } from "../../net/guest.ts";
import { gvproxyNetSocket, startGvproxy } from "../../net/gvproxy.ts";
import { EventLog } from "../../vm/base/event.ts";
import type { ChildExit } from "../../vm/base/process.ts";
import { ControlPort } from "../../vm/machine/control_port.ts";
import type { VmSpec } from "../../vm/machine/spec.ts";
import type { Bench } from "../conformance/guest.ts";

/** How it went, in seconds from the driver's start. */
export interface ClusterRun {
  /** By name, with the guest's uptime. */
  readonly marks: Readonly<Record<string, number>>;
  readonly readySeconds: number;
  /** What the guest said of its state disk when it stopped. */
  readonly stopped: string | undefined;
  readonly exit: ChildExit;
}

const READY_TIMEOUT_MS = 6 * 60_000;

/** Boots, waits for the service, powers off. @throws GatewayError with what the guest's console said last. */
export async function bootCluster(bench: Bench): Promise<ClusterRun> {
  const marks: Record<string, number> = {};
  let stopped: string | undefined;
  const log = new EventLog();
  log.addSink(({ kind, name, attrs }) => {
    if (kind !== "mark" || name === undefined) return;
    marks[name] = Number(attrs?.uptime);
    if (name === "stopped") stopped = String(attrs?.state);
  });
  const span = log.span("cluster");
  const signal = AbortSignal.timeout(READY_TIMEOUT_MS + 60_000);
  const dir = join(bench.dir, "cluster");
  await Deno.mkdir(dir, { mode: 0o700 });
  const logPath = join(dir, "gvproxy.log");
  const payload = await loadPayload("demo");
  const [pki, spec] = [await ensurePki(join(dir, "pki"), { span, signal }), specOf(bench, dir)];
  await writePayload(join(dir, "payload.tar"), {
    env: {
      GW_MODE: "cluster",
      GW_NAME: "cluster",
      GW_HOSTNAME: "gateway",
      GW_NET: "gvproxy",
      GW_K3S_ARGS: "",
      GW_CLOCK: (Date.now() / 1000).toFixed(3),
    },
    manifests: payloadFiles({ payload, charts: [], digest: payload.digest }, { certificates: pki }),
  });
  await using gvproxy = await startGvproxy({
    ...{ binary: bench.gvproxy, socketDir: dir, logPath, span, signal },
  });
  const started = performance.now();
  await using vm = await bench.vmm.start(spec, { span, signal });
  using control = await ControlPort.connect(spec.consolePorts[0]!.socketPath, { span, signal });
  const gone = new AbortController();
  void vm.exited.then(async () =>
    gone.abort(new Error(`it ended: ${await Deno.readTextFile(spec.consoleLogPath)}`))
  );
  const guarded = AbortSignal.any([signal, gone.signal]);
  await guestUp(control, undefined, guarded);
  const { local } = await gvproxy.client.expose(
    "127.0.0.1:0",
    `${GUEST_ADDRESS}:${payload.service.nodePort}`,
  );
  const port = Number(local.slice(local.lastIndexOf(":") + 1));
  await waitServiceReady({ port, pki, span, signal: guarded, timeoutMs: READY_TIMEOUT_MS });
  const readySeconds = (performance.now() - started) / 1000;
  await powerOff(vm, control);
  return { marks, readySeconds, stopped, exit: await vm.exited };
}

function specOf(bench: Bench, dir: string): VmSpec {
  const state = join(dir, "state.img");
  using file = Deno.openSync(state, { create: true, write: true });
  file.truncateSync(8 * 1024 ** 3);
  return planVm({
    name: "cluster",
    mode: "cluster",
    cpus: 2,
    memoryMiB: 2048,
    vmm: "libkrun",
    arch: "amd64",
    os: "linux",
    kernelPath: bench.kernelPath,
    rootImage: bench.rootImage,
    dir,
    runtimeDir: dir,
    netSocket: gvproxyNetSocket(dir),
    stateDisk: { path: state, format: "raw" },
    ramLayers: false,
    emulated: false,
    tscKHz: null,
  });
}
