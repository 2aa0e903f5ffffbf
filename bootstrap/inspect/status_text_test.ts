import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { snapshotText } from "../saved/snapshots.ts";
import { doctorText, reportText } from "./doctor.ts";
import type { StatusReport } from "./status.ts";
import { listText, readyText, statusText } from "./status_text.ts";

const running: StatusReport = {
  name: "default",
  state: "running",
  phase: "ready",
  endpoint: "https://127.0.0.1:30051",
  startedAt: "2026-01-02T03:04:05.000Z",
  readyAt: "2026-01-02T03:05:35.500Z",
  vmm: "QEMU 7.2.22, TCG (emulation)",
  vmmWhy: "there is no /dev/kvm",
  cluster: "kubenode v1.37.2",
  cpus: 4,
  memoryMiB: 8192,
  arch: "amd64",
  payload: "demo",
  notes: null,
  fault: null,
  laterImages: null,
  ports: [
    { host: "127.0.0.1:30051", guestPort: 30_051 },
    { host: "0.0.0.0:8080", guestPort: 80 },
  ],
  hostServices: [],
  egress: { mode: "internet", allowed: [], refused: { tcp: 0, udp: 0, icmp: 0, dns: 0 } },
  sshPort: 40_001,
  apiPort: 40_002,
  kubeconfig: "/home/u/.kube/gateway.yaml",
  clientFiles: "/home/u/.config/openshell/gateways/gateway/mtls",
  processes: [
    { role: "supervisor", pid: 10, residentMiB: 90, user: 1000, confinement: null },
    {
      ...{ role: "vmm", pid: 11, residentMiB: null, user: 1000 },
      confinement: "seccomp; no Landlock: this kernel has none",
    },
    {
      ...{ role: "gvproxy", pid: 12, residentMiB: 9, user: 65_534 },
      confinement: "seccomp and Landlock 7",
    },
  ],
  stateDisk: { sizeMiB: 16_384, usedMiB: 800 },
  activeGateway: true,
  dir: "/home/u/.local/share/gateway/instances/default",
};

const stopped: StatusReport = {
  ...running,
  name: "dev",
  state: "stopped",
  phase: null,
  endpoint: null,
  startedAt: null,
  readyAt: null,
  vmm: null,
  vmmWhy: null,
  cluster: null,
  ports: [],
  hostServices: [],
  egress: { mode: "internet", allowed: [], refused: null },
  sshPort: null,
  apiPort: null,
  processes: [],
  stateDisk: null,
  activeGateway: false,
  dir: "/home/u/.local/share/gateway/instances/dev",
};

function assertNarrow(text: string): void {
  assertEquals(text.split("\n").filter((line) => line.length > 80 || line !== line.trimEnd()), []);
}

Deno.test("statusText() shows exactly this for an instance that is ready", () => {
  const text = statusText(running);
  assertEquals(text.split("\n"), [
    "instance      default   ready (took 90.5 s)",
    "endpoint      https://127.0.0.1:30051",
    "client files  /home/u/.config/openshell/gateways/gateway/mtls",
    "kubeconfig    /home/u/.kube/gateway.yaml",
    "ports         127.0.0.1:30051 -> 30051, 0.0.0.0:8080 -> 80",
    "egress        internet",
    "ssh           127.0.0.1:40001   (gateway shell --name default)",
    "machine       4 CPU (amd64), 8192 MiB",
    "vmm           QEMU 7.2.22, TCG (emulation): there is no /dev/kvm",
    "cluster       kubenode v1.37.2",
    "payload       demo",
    "state disk    800 MiB used on the host, 16 GiB at most",
    "processes     supervisor 10 (90 MiB), vmm 11, gvproxy 12 (9 MiB)",
    "vmm runs      as user 1000, confined by seccomp; no Landlock: this kernel has",
    "              none",
    "gvproxy runs  as user 65534, confined by seccomp and Landlock 7",
    "folder        /home/u/.local/share/gateway/instances/default",
  ]);
  assertNarrow(text);
});

Deno.test("statusText() leaves out what a stopped instance does not have", () => {
  const text = statusText(stopped);
  assertEquals(text.split("\n"), [
    "instance  dev   stopped",
    "egress    internet",
    "machine   4 CPU (amd64), 8192 MiB",
    "payload   demo",
    "folder    /home/u/.local/share/gateway/instances/dev",
  ]);
  assertNarrow(text);
});

Deno.test("statusText() shows the host services, whether it runs or not", () => {
  const services = [{ hostPort: 11_434, guest: "192.168.127.253:80" }];
  for (const report of [running, stopped]) {
    const lines = statusText({ ...report, hostServices: services }).split("\n");
    const line = "host services  192.168.127.253:80 -> 127.0.0.1:11434";
    assertEquals(lines.filter((one) => one.startsWith("host services")), [line]);
  }
});

Deno.test("statusText() shows what is open besides, and what was refused", () => {
  const shown = (egress: StatusReport["egress"]) =>
    statusText({ ...stopped, egress }).split("\n").filter((line) => line.startsWith("egress"));
  const allowed = ["10.0.0.0/8", "10.1.2.3/32:443"];
  assertEquals(shown({ mode: "none", allowed, refused: null }), [
    "egress    none, 10.0.0.0/8, 10.1.2.3/32:443",
  ]);
  assertEquals(shown({ mode: "all", allowed: [], refused: { tcp: 3, udp: 0, icmp: 1, dns: 2 } }), [
    "egress    all; refused: 3 TCP, 1 ping, 2 DNS",
  ]);
});

Deno.test("statusText() says what to do about a crash, and how far a start is", () => {
  const first = (report: StatusReport) => statusText(report).split("\n")[0];
  assertEquals(
    first({ ...stopped, state: "crashed" }),
    "instance  dev   crashed (run `gateway down` or `gateway up`)",
  );
  const starting = { ...running, phase: "starting", readyAt: null, endpoint: null };
  assertEquals(first(starting), "instance      default   starting");
});

Deno.test("statusText() shows neither client files nor kubeconfig before the endpoint answers", () => {
  const text = statusText({ ...running, phase: "starting", readyAt: null, endpoint: null });
  assertEquals(/client files|kubeconfig|endpoint/.test(text), false);
});

Deno.test("readyText() shows exactly this in the foreground", () => {
  const text = readyText(running, 90_500, false);
  assertEquals(text.split("\n"), [
    "READY in 90.5 s",
    "",
    "endpoint      https://127.0.0.1:30051",
    "client files  /home/u/.config/openshell/gateways/gateway/mtls",
    "kubeconfig    /home/u/.kube/gateway.yaml",
    "vmm           QEMU 7.2.22, TCG (emulation): there is no /dev/kvm",
    "",
    "Try:",
    "  cd /home/u/.config/openshell/gateways/gateway/mtls",
    "  curl --cacert ca.crt --cert tls.crt --key tls.key https://127.0.0.1:30051/",
    "  gateway kubectl -- get nodes",
    "",
    "Ctrl-C stops it.",
  ]);
});

Deno.test("readyText() shows a payload's notes, and no certificates for a service without TLS", () => {
  const report = { ...running, endpoint: "http://127.0.0.1:30080", notes: "Open it.\nTwice." };
  const text = readyText(report, 900, true);
  assertEquals(text.split("\n").slice(-5), [
    ...["", "Open it.", "Twice.", "", "Stop it with: gateway down"],
  ]);
  assertEquals(/client files|curl/.test(text), false);
});

Deno.test("readyText() tells how to use an instance that is not the client's active gateway", () => {
  const lines = readyText({ ...running, name: "dev", activeGateway: false }, 900, true).split("\n");
  assert(lines.includes("  gateway use dev   # OpenShell's client uses another gateway"));
});

Deno.test("readyText() names the instance in its commands when it is not the default one", () => {
  const lines = readyText({ ...running, name: "dev", kubeconfig: null }, 900, true).split("\n");
  assertEquals(lines[0], "READY in 900 ms");
  assertEquals(lines.at(-1), "Stop it with: gateway down --name dev");
  assertEquals(lines.at(-3), "  gateway kubectl --name dev -- get nodes");
  assertEquals(lines.some((line) => line.startsWith("kubeconfig")), false);
});

Deno.test("listText() aligns its columns", () => {
  const text = listText([running, stopped]);
  assertEquals(text.split("\n"), [
    "NAME     STATE    ENDPOINT                 ARCH   CPUS   MEMORY",
    "default  ready    https://127.0.0.1:30051  amd64  4 CPU  8192 MiB",
    "dev      stopped  -                        amd64  4 CPU  8192 MiB",
  ]);
  assertNarrow(text);
});

Deno.test("listText() names the file of a damaged instance and what may be done", () => {
  const damaged = {
    ...{ name: "old", state: "damaged" as const, file: "/d/old/disk.json", dir: "/d/old" },
    ...{ why: "it is not JSON", unfinished: false },
  };
  const text = listText([running, damaged, { ...damaged, name: "x", unfinished: true }]);
  assertEquals(text.split("\n").slice(2), [
    "old      damaged  -                        -      -      -",
    "x        damaged  -                        -      -      -",
    '"old" is damaged: "/d/old/disk.json": it is not JSON',
    "  nothing of it is removed; restore the file, or run `gateway rm --force old`",
    '"x" is damaged: "/d/old/disk.json": it is not JSON',
    "  `gateway rm x` removes what is left; `gateway up` makes it anew",
  ]);
  assertNarrow(text);
});

Deno.test("snapshotText() names the record of a damaged snapshot", () => {
  const text = snapshotText([
    { name: "one", savedAt: "2026-01-02T03:04:05.000Z", ramBytes: 5, damage: null },
    {
      ...{ name: "two", savedAt: null, ramBytes: null },
      damage: { file: "/d/two.json", why: "it is not JSON" },
    },
  ]);
  assertEquals(text.split("\n"), [
    "SNAPSHOT  SAVED                 MEMORY",
    "one       2026-01-02T03:04:05Z  1 MiB",
    "two       damaged               -",
    '"two" is damaged: "/d/two.json": it is not JSON',
    "  its files are kept; restore the record, or remove it with `gateway snapshot rm`",
  ]);
});

Deno.test("listText() says how to make the first instance", () => {
  assertEquals(listText([]), "There are no instances. `gateway up` makes one.");
});

Deno.test("doctorText() puts the fix below each finding that has one", () => {
  const text = doctorText([
    { name: "host", outcome: "ok", found: "linux x86_64, kernel 6.1.0", fix: "", tookMs: 1 },
    {
      name: "ssh",
      outcome: "fail",
      found: "there is no ssh",
      fix: "run: apt-get install ssh",
      tookMs: 2,
    },
    { name: "disk", outcome: "warn", found: "3 GiB free", fix: "free some", tookMs: 3 },
  ]);
  assertEquals(text.split("\n"), [
    "ok    host: linux x86_64, kernel 6.1.0",
    "fail  ssh: there is no ssh",
    "      fix: run: apt-get install ssh",
    "warn  disk: 3 GiB free",
    "      fix: free some",
  ]);
  assertNarrow(text);
});

Deno.test("statusText() shows why an instance that runs cannot be reached", () => {
  const text = statusText({ ...running, fault: "its sockets are gone" });
  assertStringIncludes(text, "its sockets are gone; restart it with `gateway down` and `up`");
});

Deno.test("reportText() is one block with times, and does not say who the user is", () => {
  const checks = [
    { name: "host", outcome: "ok", found: "linux x86_64", fix: "", tookMs: 1 },
    { name: "disk", outcome: "warn", found: "/home/me/x is full", fix: "free some", tookMs: 23 },
  ] as const;
  assertEquals(
    reportText("gateway 1.2.3", checks, "/home/me"),
    [
      "```",
      "gateway 1.2.3",
      "ok    host (1 ms): linux x86_64",
      "warn  disk (23 ms): ~/x is full",
      "```",
    ].join("\n"),
  );
});
