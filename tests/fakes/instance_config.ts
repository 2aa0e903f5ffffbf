/**
 * The settings of an instance, for tests that need some.
 * It must not hold a test.
 *
 * @module
 */
import type { InstanceConfig } from "../../vm/instance/instance.ts";

/** A small instance of the demo, with what the caller changes. */
export function instanceConfig(change: Partial<InstanceConfig> = {}): InstanceConfig {
  return {
    schemaVersion: 1,
    name: "default",
    createdAt: "2026-01-02T03:04:05.000Z",
    cpus: 1,
    memoryMiB: 1536,
    stateMiB: 64,
    ports: [],
    vmm: "auto",
    kubeApi: true,
    payload: "demo",
    payloadDigest: null,
    clusterBinary: null,
    ...change,
  };
}
