/**
 * What the enforcement of network policies costs: one cluster started again with it and without it.
 *
 * @module
 */
import { join } from "@std/path";
import { readEvents } from "../../bootstrap/inspect/status.ts";
import { freePort, TestHome } from "../vm/harness.ts";
import { idleCpu, stageRows } from "./cluster.ts";
import type { Row } from "./row.ts";

const UP_TIMEOUT_MS = 15 * 60_000;
const SIZE = ["--memory", "3072", "--cpus", "2"];
const USED =
  "awk '/^MemTotal/ { all = $2 } /^MemAvailable/ { print (all - $2) / 1024 }' /proc/meminfo";
const TURN_OFF =
  'mkdir -p /etc/rancher/k3s && echo "disable-network-policy: true" >>/etc/rancher/k3s/config.yaml';

/** Measures. */
export async function policyRows(): Promise<Row[]> {
  await using home = await TestHome.make();
  await home.ok(["up", "--detach", "--cold", "--port", `${freePort()}:30051`, ...SIZE], {
    timeoutMs: UP_TIMEOUT_MS,
  });
  const rows: Row[] = [];
  for (const kind of ["with", "without"]) {
    if (kind === "without") await home.ok(["exec", "--", "sh", "-c", TURN_OFF]);
    // Twice: two starts of the same differ as well.
    for (const start of [1, 2]) {
      rows.push(...await startRows(home, `${kind} network policies, start ${start}`));
    }
  }
  return rows;
}

async function startRows(home: TestHome, name: string): Promise<Row[]> {
  await home.ok(["down"], { timeoutMs: 120_000 });
  await home.ok(["up", "--detach"], { timeoutMs: UP_TIMEOUT_MS });
  const report = JSON.parse((await home.ok(["status", "--json"])).stdout);
  const vmm = report.processes.find(({ role }: { role: string }) => role === "vmm")!.pid;
  const cpu = await idleCpu(vmm);
  const { stdout } = await home.ok(["exec", "--", "sh", "-c", USED]);
  const events = join(home.home, "data/gateway/instances/default/events.jsonl");
  return [
    ...stageRows(name, await readEvents(events)).slice(1),
    { name: `${name}: the guest's used memory`, value: Number(stdout), unit: "MiB" },
    { name: `${name}: VMM's CPU when idle`, value: cpu, unit: "%" },
  ];
}
