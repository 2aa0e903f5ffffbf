import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { instancePaths } from "../../vm/base/layout.ts";
import { residentMiB } from "../../vm/base/process_table.ts";
import type { InstanceConfig, InstanceView, RunRecord } from "../../vm/instance/instance.ts";
import { readEvents, statusOf } from "./status.ts";

const config: InstanceConfig = {
  schemaVersion: 1,
  name: "dev",
  createdAt: "2026-01-02T03:04:05.000Z",
  cpus: 2,
  memoryMiB: 2048,
  stateMiB: 1024,
  ports: [{ address: "127.0.0.1", hostPort: 30_052, guestPort: 30_051 }],
  vmm: "auto",
  kubeApi: true,
  payload: "demo",
  payloadDigest: null,
  clusterBinary: null,
  hostServices: [{ hostPort: 11_434, guestPort: 80 }],
  egress: "none",
  allowNets: [{ net: "10.0.0.0/8", port: null }, { net: "10.1.2.3/32", port: 443 }],
};

const run: RunRecord = {
  schemaVersion: 1,
  phase: "ready",
  startedAt: "2026-01-02T03:04:05.000Z",
  readyAt: "2026-01-02T03:05:05.000Z",
  supervisor: { pid: Deno.pid, startTime: "1" },
  vmm: { pid: 999_999_999, startTime: "1" },
  gvproxy: null,
  vmmDescription: "QEMU 7.2.22, KVM",
  vmmWhy: "a probe boot with it worked",
  confinement: { vmm: "seccomp and Landlock 7", gvproxy: null },
  cluster: "kubenode v1.37.2",
  ports: config.ports,
  sshPort: 40_001,
  apiPort: 40_002,
  endpoint: "https://127.0.0.1:30052",
  notes: "Hello.",
  runtimeDir: "",
};

async function viewIn(dir: string, change: Partial<InstanceView>): Promise<InstanceView> {
  const stateDisk = join(dir, "state.img");
  using file = await Deno.open(stateDisk, { write: true, create: true });
  await file.truncate(1024 * 1024 * 1024);
  const paths = { ...instancePaths("dev"), stateDisk, dir };
  return { paths, config, state: "running", run, ...change };
}

async function withDir(body: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("statusOf() tells what runs, with memory where the host shows it", async () => {
  await withDir(async (dir) => {
    const { processes, clientFiles, kubeconfig, ...report } = await statusOf(
      await viewIn(dir, {}),
    );
    assertEquals(report, {
      name: "dev",
      state: "running",
      phase: "ready",
      fault: null,
      endpoint: "https://127.0.0.1:30052",
      startedAt: run.startedAt,
      readyAt: run.readyAt,
      vmm: "QEMU 7.2.22, KVM",
      vmmWhy: "a probe boot with it worked",
      cluster: "kubenode v1.37.2",
      cpus: 2,
      memoryMiB: 2048,
      arch: "amd64",
      payload: "demo",
      notes: "Hello.",
      laterImages: null,
      ports: [{ host: "127.0.0.1:30052", guestPort: 30_051 }],
      hostServices: [{ hostPort: 11_434, guest: "192.168.127.253:80" }],
      egress: { mode: "none", allowed: ["10.0.0.0/8", "10.1.2.3/32:443"], refused: null },
      sshPort: 40_001,
      apiPort: 40_002,
      stateDisk: { sizeMiB: 1024, usedMiB: 0 },
      activeGateway: false,
      dir,
    });
    assert(clientFiles.endsWith("/mtls") && kubeconfig !== null);
    assertEquals(processes.map(({ role, pid }) => [role, pid]), [
      ["supervisor", Deno.pid],
      ["vmm", 999_999_999],
    ]);
    assertEquals([processes[0]?.confinement, processes[1]?.confinement], [
      null,
      "seccomp and Landlock 7",
    ]);
    assertEquals([processes[1]?.residentMiB, processes[1]?.user], [null, null]);
  });
});

Deno.test("statusOf() gives nothing of a run that is over, also after a crash", async () => {
  await withDir(async (dir) => {
    for (const state of ["stopped", "crashed"] as const) {
      const report = await statusOf(await viewIn(dir, { state }));
      assertEquals([report.state, report.processes], [state, []]);
      const { phase, endpoint, startedAt, readyAt, vmm, cluster, sshPort, apiPort } = report;
      assertEquals(
        [phase, endpoint, startedAt, readyAt, vmm, cluster, sshPort, apiPort],
        Array(8).fill(null),
      );
    }
  });
});

Deno.test("statusOf() has no kubeconfig with --no-kube-api, and no disk before the first start", async () => {
  await withDir(async (dir) => {
    const view = await viewIn(dir, { config: { ...config, kubeApi: false } });
    await Deno.remove(join(view.paths.dir, "state.img"));
    const report = await statusOf(view);
    assertEquals([report.kubeconfig, report.stateDisk], [null, null]);
  });
});

Deno.test("statusOf() is plain JSON", async () => {
  await withDir(async (dir) => {
    const report = await statusOf(await viewIn(dir, {}));
    assertEquals(JSON.parse(JSON.stringify(report)), report);
  });
});

Deno.test("residentMiB() gives null for a process that is not there", () => {
  assertEquals(residentMiB(999_999_999), null);
});

Deno.test("readEvents() leaves out a line that a crash cut", async () => {
  await withDir(async (dir) => {
    const path = join(dir, "events.jsonl");
    const record = { t: 1, kind: "log", id: 1, parent: null, name: "up" };
    await Deno.writeTextFile(path, `${JSON.stringify(record)}\n{"t":2,"kind":"lo`);
    assertEquals((await readEvents(path)).map(({ t }) => t), [1]);
    assertEquals(await readEvents(join(dir, "nothing")), []);
  });
});
