/**
 * The record of a run, for tests that need one.
 * It must not hold a test.
 *
 * @module
 */
import { identifyProcess } from "../../vm/base/process_table.ts";
import type { RunRecord } from "../../vm/instance/instance.ts";

/** A run that is ready, whose supervisor is this process and which has no VM, with what the caller changes. */
export function runRecord(change: Partial<RunRecord> = {}): RunRecord {
  return {
    schemaVersion: 1,
    phase: "ready",
    startedAt: "2026-01-02T03:04:05.000Z",
    readyAt: null,
    supervisor: identifyProcess(Deno.pid)!,
    vmm: null,
    gvproxy: null,
    vmmDescription: null,
    vmmWhy: null,
    cluster: null,
    ports: [],
    sshPort: null,
    apiPort: null,
    endpoint: null,
    notes: null,
    runtimeDir: "",
    ...change,
  };
}
