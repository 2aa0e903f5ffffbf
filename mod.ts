/**
 * gateway as a library: boot a whole Kubernetes cluster in one microVM and reach it over mutual TLS.
 *
 * ```ts
 * import { EventLog, hostFacts, resolveOptions, up } from "@gateway/gateway";
 *
 * const stop = new AbortController();
 * const options = resolveOptions({ name: "default", assumeYes: false }, hostFacts());
 * await up(options, {
 *   log: new EventLog(),
 *   early: [],
 *   signal: stop.signal,
 *   owned: new Set(),
 *   onReady: (run) => console.log(run.endpoint),
 * });
 * ```
 *
 * It must not hold logic: every name comes from the room that owns it.
 *
 * @module
 */
export { ensureArtifacts } from "./bootstrap/artifacts.ts";
export type { BootArtifacts, EnsureArtifactsOptions } from "./bootstrap/artifacts.ts";
export { doctor } from "./bootstrap/doctor.ts";
export type { HostCheck } from "./bootstrap/doctor.ts";
export { down, rm } from "./bootstrap/down.ts";
export type { DownOutcome } from "./bootstrap/down.ts";
export { execInFreshVm } from "./bootstrap/exec_vm.ts";
export type { ExecContext } from "./bootstrap/exec_vm.ts";
export { hostFacts, resolveOptions } from "./bootstrap/options.ts";
export type { HostFacts, NetChoice, UpOptions, UpRequest } from "./bootstrap/options.ts";
export type { VmmChoice } from "./vm/vmm.ts";
export { loadPayload } from "./bootstrap/payloads.ts";
export type {
  JsonObject,
  Payload,
  PayloadChart,
  PayloadImage,
  PayloadLogin,
  PayloadManifest,
  PayloadSecret,
  PayloadService,
  SecretSource,
} from "./bootstrap/payload_spec.ts";
export { fork } from "./bootstrap/fork.ts";
export type { ForkedInstance, ForkRequest } from "./bootstrap/fork.ts";
export type { HostServiceChange } from "./bootstrap/host_service.ts";
export { changeHostServices, hostServicesOf } from "./bootstrap/host_service_commands.ts";
export type { SaveReport } from "./bootstrap/save.ts";
export {
  createSnapshot,
  removeSnapshot,
  restoreSnapshot,
  snapshotsOf,
  suspend,
} from "./bootstrap/snapshots.ts";
export type { SnapshotSummary } from "./bootstrap/snapshots.ts";
export type { RunEnd } from "./bootstrap/supervisor.ts";
export { instanceStatus, listStatus } from "./bootstrap/status.ts";
export type {
  DamagedReport,
  EgressReport,
  ProcessReport,
  StatusReport,
} from "./bootstrap/status.ts";
export type { ForwardReport } from "./bootstrap/forwards.ts";
export { up } from "./bootstrap/up.ts";
export type { UpContext } from "./bootstrap/up_context.ts";
export { ArtifactStore } from "./vm/artifact.ts";
export type {
  Artifact,
  ArtifactFile,
  ArtifactManifest,
  BuildContext,
  EnsureOptions,
  HostTool,
  Recipe,
  StoreOptions,
} from "./vm/artifact.ts";
export type { BuilderFacts } from "./vm/builder.ts";
export type { Embedded, EmbeddedArtifact, EmbeddedBlob } from "./vm/embedded.ts";
export { GatewayError } from "./vm/error.ts";
export type { ErrorCode, GatewayErrorOptions } from "./vm/error.ts";
export { EventLog } from "./vm/event.ts";
export type { Attrs, EventRecord, EventSink, JsonValue, Span } from "./vm/event.ts";
export type { RefusedCounts } from "./net/egress.ts";
export type {
  AllowedNet,
  EgressMode,
  HostService,
  InstanceConfig,
  InstanceState,
  LaterImages,
  PortForward,
  RunRecord,
} from "./vm/instance.ts";
export type { ProcessId } from "./vm/process.ts";
export type { SignatureState } from "./vm/signing.ts";
export type { StdioStreams } from "./vm/stdio_port.ts";
