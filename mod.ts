/**
 * gateway as a library: boot a whole Kubernetes cluster in one microVM and reach it over mutual TLS.
 *
 * ```ts
 * import { up } from "@gateway/gateway";
 *
 * await using vm = await up({ name: "dev", memoryMiB: 3072, cpus: 2, payload: "demo" });
 * console.log("endpoint", vm.endpoint);
 *
 * const { code, stdout } = await vm.output(["uname", "-r"]);
 * console.log("kernel", code, stdout.trim() !== "");
 *
 * await vm.snapshot.create("clean");
 * await using clone = await vm.fork("clone");
 * console.log("clone", (await clone.status()).state);
 * ```
 *
 * At the end of the block both are stopped; their disks stay until `gateway rm`.
 *
 * It must not hold logic: every name comes from the room that owns it.
 *
 * @module
 */
export { execInFreshVm } from "./bootstrap/library/exec.ts";
export type { ExecSettings, ExecStreams } from "./bootstrap/library/exec.ts";
export { Instance, list, open, Ports, Snapshots, up } from "./bootstrap/library/instance.ts";
export type {
  CallOptions,
  CloneOptions,
  CopyOptions,
  GuestOutput,
  GuestProcess,
  UpSettings,
} from "./bootstrap/library/instance.ts";
export { doctor } from "./bootstrap/library/host.ts";
export type { HostCheck } from "./bootstrap/inspect/doctor.ts";
export type {
  DamagedReport,
  EgressReport,
  ProcessReport,
  StatusReport,
} from "./bootstrap/inspect/status.ts";
export type { DownOutcome } from "./bootstrap/run/down.ts";
export type { ForwardReport } from "./bootstrap/run/forwards.ts";
export type { SaveReport } from "./bootstrap/run/save.ts";
export type { SnapshotSummary } from "./bootstrap/saved/snapshots.ts";
export type { RefusedCounts } from "./net/egress.ts";
export type { Arch } from "./vm/base/arch.ts";
export { GatewayError } from "./vm/base/error.ts";
export type { ErrorCode, GatewayErrorOptions } from "./vm/base/error.ts";
export type { Attrs, EventRecord, JsonValue } from "./vm/base/event.ts";
export type {
  AllowedNet,
  EgressMode,
  HostService,
  InstanceState,
  LaterImages,
} from "./vm/instance/instance.ts";
