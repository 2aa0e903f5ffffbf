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
export { ensureArtifacts } from "./bootstrap/artifacts/ensure.ts";
export type { BootArtifacts, EnsureArtifactsOptions } from "./bootstrap/artifacts/ensure.ts";
export { doctor } from "./bootstrap/inspect/doctor.ts";
export type { HostCheck } from "./bootstrap/inspect/doctor.ts";
export { down, rm } from "./bootstrap/run/down.ts";
export type { DownOutcome } from "./bootstrap/run/down.ts";
export { execInFreshVm } from "./bootstrap/start/exec.ts";
export type { ExecContext } from "./bootstrap/start/exec.ts";
export { hostFacts, resolveOptions } from "./bootstrap/plan/options.ts";
export type { HostFacts, NetChoice, UpOptions, UpRequest } from "./bootstrap/plan/options.ts";
export type { VmmChoice } from "./vm/machine/vmm.ts";
export { loadPayload } from "./bootstrap/payload/choose.ts";
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
} from "./bootstrap/payload/payload.ts";
export { fork } from "./bootstrap/saved/fork.ts";
export type { ForkedInstance, ForkRequest } from "./bootstrap/saved/fork.ts";
export type { HostServiceChange } from "./bootstrap/run/host_service.ts";
export { changeHostServices, hostServicesOf } from "./bootstrap/commands/host_service.ts";
export type { SaveReport } from "./bootstrap/run/save.ts";
export {
  createSnapshot,
  removeSnapshot,
  restoreSnapshot,
  snapshotsOf,
  suspend,
} from "./bootstrap/saved/snapshots.ts";
export type { SnapshotSummary } from "./bootstrap/saved/snapshots.ts";
export type { RunEnd } from "./bootstrap/run/supervisor.ts";
export { instanceStatus, listStatus } from "./bootstrap/inspect/status.ts";
export type {
  DamagedReport,
  EgressReport,
  ProcessReport,
  StatusReport,
} from "./bootstrap/inspect/status.ts";
export type { ForwardReport } from "./bootstrap/run/forwards.ts";
export { up } from "./bootstrap/start/up.ts";
export type { UpContext } from "./bootstrap/start/context.ts";
export { ArtifactStore } from "./vm/store/artifact.ts";
export type {
  Artifact,
  ArtifactFile,
  ArtifactManifest,
  BuildContext,
  EnsureOptions,
  HostTool,
  Ingredients,
  Recipe,
  StoreOptions,
} from "./vm/store/artifact.ts";
export type { BuilderFacts } from "./vm/store/builder.ts";
export type { Embedded, EmbeddedArtifact, EmbeddedBlob } from "./vm/store/embedded.ts";
export { GatewayError } from "./vm/base/error.ts";
export type { ErrorCode, GatewayErrorOptions } from "./vm/base/error.ts";
export { EventLog } from "./vm/base/event.ts";
export type { Attrs, EventRecord, EventSink, JsonValue, Span } from "./vm/base/event.ts";
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
} from "./vm/instance/instance.ts";
export type { ProcessId } from "./vm/base/process.ts";
export type { SignatureState } from "./vm/store/signing.ts";
export type { StdioStreams } from "./vm/machine/stdio_port.ts";
