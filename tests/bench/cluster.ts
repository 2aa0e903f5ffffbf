/**
 * Figures of a whole cluster: each stage of a cold and of a warm start, the same binary started by hand in the same VM,
 * the cost of exec, and what it keeps resident.
 *
 * @module
 */
import { join } from "@std/path";
import { readEvents } from "../../bootstrap/inspect/status.ts";
import type { EventRecord } from "../../vm/base/event.ts";
import { run } from "../../vm/base/process.ts";
import { coresUsed } from "../../vm/base/process_table.ts";
import { pause, waitFor } from "../../vm/base/wait.ts";
import { freePort, TestHome } from "../vm/harness.ts";
import { type Row, seconds, several } from "./row.ts";

const UP_TIMEOUT_MS = 15 * 60_000;
const SIZE = ["--memory", "3072", "--cpus", "2"];

interface Status {
  readonly clientFiles: string;
  readonly endpoint: string;
  readonly stateDisk: { usedMiB: number };
  readonly processes: { role: string; residentMiB: number; pid: number }[];
}

/** Measures. */
export async function clusterRows(): Promise<Row[]> {
  await using home = await TestHome.make();
  const dir = join(home.home, "data/gateway/instances/default");
  const rows: Row[] = [];
  const disk: number[] = [];
  // A disk of another size has no golden image: this one starts from nothing.
  const nothing = ["--cold", "--disk", "16000"];
  await home.start(["up", "--port", `${freePort()}:30051`, ...SIZE, ...nothing]).then(
    async (first) => {
      await first.says("] guest: cluster-start", 120_000);
      disk.push((await Deno.stat(join(dir, "state.img"))).blocks! * 512 / (1024 * 1024));
      await first.says("READY", UP_TIMEOUT_MS);
      rows.push(...stageRows("cold", await readEvents(join(dir, "events.jsonl"))));
      rows.push({ name: "state disk as created", value: disk[0]!, unit: "MiB", limit: 64 });
      rows.push(...await runningRows(home, dir));
      rows.push(await byHandRow(home, rows));
      first.signal("SIGTERM");
      await first.exited;
    },
  );
  await using second = await home.start(["up"]);
  await second.says("READY", UP_TIMEOUT_MS);
  rows.push(...stageRows("warm", await readEvents(join(dir, "events.jsonl"))));
  second.signal("SIGTERM");
  await second.exited;
  return [...rows, ...await goldenDiskRows()];
}

/** A cold start from the golden state disk: images are there, keys and certificates are not. */
async function goldenDiskRows(): Promise<Row[]> {
  await using home = await TestHome.make();
  await home.ok(["build", "golden", ...SIZE], { timeoutMs: UP_TIMEOUT_MS });
  await using gateway = await home.start([
    "up",
    "--cold",
    "--port",
    `${freePort()}:30051`,
    ...SIZE,
  ]);
  await gateway.says("READY", UP_TIMEOUT_MS);
  const events = join(home.home, "data/gateway/instances/default/events.jsonl");
  const rows = stageRows("cold from the golden disk", await readEvents(events));
  gateway.signal("SIGTERM");
  await gateway.exited;
  return rows;
}

/** One answer of the service to the client's certificate. */
async function answer(report: Status): Promise<boolean> {
  const { code } = await run("curl", {
    args: [
      ...["-sS", "--max-time", "5", "--cacert", `${report.clientFiles}/ca.crt`],
      ...["--cert", `${report.clientFiles}/tls.crt`, "--key", `${report.clientFiles}/tls.key`],
      `${report.endpoint}/`,
    ],
    check: false,
  });
  return code === 0;
}

/** Seconds from QEMU's exec to each station. */
export function stageRows(kind: string, records: readonly EventRecord[]): Row[] {
  const exec = records.find((record) => record.message === "QEMU started")!.t;
  const ended = (name: string) => {
    const record = records.find((one) => one.kind === "end" && one.name === name);
    return record ? (record.t - exec) / 1000 : NaN;
  };
  const started = records.find((one) => one.kind === "mark" && one.name === "cluster-start")!.t;
  return [
    { name: `${kind}: cluster's exec`, value: (started - exec) / 1000, unit: "s" },
    { name: `${kind}: API ready`, value: ended("api readyz"), unit: "s" },
    { name: `${kind}: service ready`, value: ended("service ready"), unit: "s" },
  ];
}

async function runningRows(home: TestHome, dir: string): Promise<Row[]> {
  const config = join(dir, "ssh/config");
  const ssh = () => run("ssh", { args: ["-F", config, "default", "true"] });
  await ssh();
  const exec = await several(10, () => seconds(ssh));
  const whole = await several(5, () => seconds(() => home.ok(["exec", "--", "true"])));
  const report: Status = JSON.parse((await home.ok(["status", "--json"])).stdout);
  const resident = (role: string) =>
    report.processes.find((process) => process.role === role)!.residentMiB;
  const vmm = report.processes.find((process) => process.role === "vmm")!.pid;
  return [
    { name: "exec over a kept connection", value: exec[0]!, unit: "s", limit: 0.15 },
    { name: "gateway exec -- true, with the program's start", value: whole[0]!, unit: "s" },
    { name: "supervisor resident", value: resident("supervisor"), unit: "MiB", limit: 120 },
    { name: "gvproxy resident", value: resident("gvproxy"), unit: "MiB", limit: 40 },
    { name: "VMM's CPU with an idle cluster", value: await idleCpu(vmm), unit: "%", limit: 45 },
  ];
}

/** Percent of one core that a process uses over 30 s, after 30 s to settle. */
export async function idleCpu(pid: number): Promise<number> {
  await pause(30_000);
  return await coresUsed(pid, 30_000) * 100;
}

/**
 * The same cluster binary with the same arguments in the same VM, started by hand from an empty data folder with a cold
 * page cache, until the service answers again: what our own bring-up adds is the ratio.
 */
async function byHandRow(home: TestHome, rows: readonly Row[]): Promise<Row> {
  const report: Status = JSON.parse((await home.ok(["status", "--json"])).stdout);
  const script = [
    'pid=$(pgrep -o -f "k3s server"); tr "\\\\0" "\\n" </proc/$pid/cmdline >/run/by-hand',
    "cp -a /var/lib/rancher/k3s/server/manifests /var/lib/rancher/k3s/agent/images /run/",
    ": >/run/gateway/hold; kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.2; done",
    "for shim in $(pgrep containerd-shim); do kill -9 $shim; done; sleep 1",
    "mount | awk '$3 ~ \"^/(run/k3s|var/lib/kubelet/)\" {print $3}' | sort -r | xargs -r umount -l",
    "mkdir /run/keep; mv /var/lib/rancher/k3s/agent/etc /run/keep/",
    "rm -rf /var/lib/rancher/k3s/* /var/lib/kubelet/* /run/k3s /etc/rancher; nft flush ruleset; ip link del cni0",
    "mkdir -p /var/lib/rancher/k3s/server /var/lib/rancher/k3s/agent; mv /run/manifests /var/lib/rancher/k3s/server/",
    "mv /run/images /run/keep/etc /var/lib/rancher/k3s/agent/; sync; echo 3 >/proc/sys/vm/drop_caches",
    'set --; while IFS= read -r word; do set -- "$@" "$word"; done </run/by-hand',
    'setsid "$@" >/var/log/by-hand.log 2>&1 </dev/null & echo started',
  ].join("\n");
  await home.ok(["exec", "--", "sh", "-c", script], { timeoutMs: 120_000 });
  const byHand = await seconds(() =>
    waitFor({
      what: "the service of the cluster started by hand",
      probe: async () => await answer(report) || undefined,
      timeoutMs: UP_TIMEOUT_MS,
      intervalMs: 200,
    })
  );
  const value = (name: string) => rows.find((row) => row.name === name)!.value;
  const ours = value("cold: service ready") - value("cold: cluster's exec");
  return {
    name: "cluster's exec to service, against by hand",
    value: ours / byHand,
    unit: "x",
    limit: 1.1,
    note: `${ours.toFixed(1)} and ${byHand.toFixed(1)} s`,
  };
}
