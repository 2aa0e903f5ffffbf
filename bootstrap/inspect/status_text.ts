/**
 * An instance as text for people: status, list, READY. Pure, 80 columns, no colour.
 * It must not gather anything.
 *
 * @module
 */
import { formatMs } from "../../vm/base/wait.ts";
import { columns, LINE_WIDTH, table, wrap } from "../view/table.ts";
import type { DamagedReport, StatusReport } from "./status.ts";

/** `gateway status`. */
export function statusText(report: StatusReport): string {
  const rows: [string, string | null][] = [
    ["instance", `${report.name}   ${stateWords(report)}`],
    ["fault", report.fault && `${report.fault}; restart it with \`gateway down\` and \`up\``],
    ["endpoint", report.endpoint],
    ["client files", report.endpoint?.startsWith("https:") ? report.clientFiles : null],
    ["kubeconfig", report.endpoint && report.kubeconfig],
    ["ports", report.ports.map((port) => `${port.host} -> ${port.guestPort}`).join(", ")],
    ["host services", hostServiceWords(report) || null],
    ["egress", egressWords(report.egress)],
    [
      "ssh",
      report.sshPort === null
        ? null
        : `127.0.0.1:${report.sshPort}   (gateway shell --name ${report.name})`,
    ],
    ["machine", `${report.cpus} CPU (${report.arch}), ${report.memoryMiB} MiB`],
    ["vmm", report.vmm && `${report.vmm}: ${report.vmmWhy}`],
    ["cluster", report.cluster],
    ["payload", report.payload],
    ["images", laterWords(report.laterImages)],
    ["state disk", report.stateDisk && diskWords(report.stateDisk)],
    ["processes", processWords(report) || null],
    ...confinementRows(report),
    ["folder", report.dir],
  ];
  return table(rows.filter((row): row is [string, string] => !!row[1]));
}

function hostServiceWords({ hostServices }: StatusReport): string {
  return hostServices.map(({ hostPort, guest }) => `${guest} -> 127.0.0.1:${hostPort}`).join(", ");
}

function egressWords({ mode, allowed, refused }: StatusReport["egress"]): string {
  const kinds = [["tcp", "TCP"], ["udp", "UDP"], ["icmp", "ping"], ["dns", "DNS"]] as const;
  const counts = kinds.filter(([kind]) => refused?.[kind])
    .map(([kind, word]) => `${refused![kind]} ${word}`);
  const open = [mode, ...allowed].join(", ");
  return counts.length === 0 ? open : `${open}; refused: ${counts.join(", ")}`;
}

function stateWords(report: StatusReport): string {
  if (report.state !== "running") {
    return {
      crashed: "crashed (run `gateway down` or `gateway up`)",
      suspended: "suspended (`gateway up` goes on from there)",
      stopped: "stopped",
    }[report.state];
  }
  if (report.phase === "failed") {
    return "failed: its payload does not answer (kept by --keep; `gateway down` stops it)";
  }
  if (report.phase !== "ready" || !report.startedAt || !report.readyAt) return report.phase ?? "";
  const tookMs = Date.parse(report.readyAt) - Date.parse(report.startedAt);
  return `ready (took ${formatMs(tookMs)})`;
}

function laterWords(images: StatusReport["laterImages"]): string | null {
  if (images === null || images.state === "loaded") return null;
  const refs = images.refs.join(", ");
  return images.state === "loading"
    ? `still loading ${refs}; pods that need them wait`
    : `not loaded: ${refs} (${images.why}); the next \`gateway up\` tries again`;
}

function diskWords(disk: NonNullable<StatusReport["stateDisk"]>): string {
  return `${disk.usedMiB} MiB used on the host, ${Math.round(disk.sizeMiB / 1024)} GiB at most`;
}

/** As whom those run that work for the guest, and how they are confined. */
function confinementRows({ processes }: StatusReport): [string, string][] {
  return processes.filter(({ role, user }) => role !== "supervisor" && user !== null)
    .map(({ role, user, confinement }) => [
      `${role} runs`,
      `as user ${user}, ${
        confinement ? `confined by ${confinement}` : "not confined by a filter of ours"
      }`,
    ]);
}

function processWords(report: StatusReport): string {
  return report.processes.map(({ role, pid, residentMiB }) =>
    `${role} ${pid}${residentMiB === null ? "" : ` (${residentMiB} MiB)`}`
  ).join(", ");
}

/** The block that ends a successful `up`. */
export function readyText(report: StatusReport, tookMs: number, detached: boolean): string {
  const name = report.name === "default" ? "" : ` --name ${report.name}`;
  const files = report.clientFiles;
  const overTls = report.endpoint?.startsWith("https:") === true;
  const rows: [string, string | null][] = [
    ["endpoint", report.endpoint],
    ["client files", overTls ? files : null],
    ["kubeconfig", report.kubeconfig],
    ["vmm", report.vmm && `${report.vmm}: ${report.vmmWhy}`],
  ];
  return [
    `READY in ${formatMs(tookMs)}`,
    "",
    table(rows.filter((row): row is [string, string] => !!row[1])),
    "",
    "Try:",
    ...(overTls
      ? [
        `  cd ${files}`,
        `  curl --cacert ca.crt --cert tls.crt --key tls.key ${report.endpoint}/`,
      ]
      : []),
    `  gateway kubectl${name} -- get nodes`,
    ...(overTls && !report.activeGateway
      ? [`  gateway use ${report.name}   # OpenShell's client uses another gateway`]
      : []),
    "",
    ...(report.notes === null ? [] : [report.notes, ""]),
    detached ? `Stop it with: gateway down${name}` : "Ctrl-C stops it.",
  ].join("\n");
}

/** `gateway list`. */
export function listText(reports: readonly (StatusReport | DamagedReport)[]): string {
  if (reports.length === 0) return "There are no instances. `gateway up` makes one.";
  const rows = reports.map((report) =>
    report.state === "damaged" ? [report.name, report.state, "-", "-", "-", "-"] : [
      report.name,
      report.state === "running" ? report.phase ?? "running" : report.state,
      report.endpoint ?? "-",
      report.arch,
      `${report.cpus} CPU`,
      `${report.memoryMiB} MiB`,
    ]
  );
  const faults = reports.flatMap((report) => report.state === "damaged" ? damageWords(report) : []);
  const all = [["NAME", "STATE", "ENDPOINT", "ARCH", "CPUS", "MEMORY"], ...rows];
  return [...columns(all), ...faults].join("\n");
}

function damageWords({ name, file, why, unfinished }: DamagedReport): string[] {
  return [
    ...wrap(`"${name}" is damaged: "${file}": ${why}`, LINE_WIDTH),
    unfinished
      ? `  \`gateway rm ${name}\` removes what is left; \`gateway up\` makes it anew`
      : `  nothing of it is removed; restore the file, or run \`gateway rm --force ${name}\``,
  ];
}
