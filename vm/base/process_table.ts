/**
 * What the host's table of processes tells: which one still runs, told apart from a later one with its pid, whose it is,
 * and how much it uses. Linux has it in /proc, a Mac's is asked by `ps`.
 * It must not start or signal a process of ours.
 *
 * @module
 */
import { printedBy } from "./process.ts";
import { pause } from "./wait.ts";

/** What the table tells of a process; null where it does not. */
export interface ProcessFacts {
  readonly residentMiB: number | null;
  /** Its effective user id. */
  readonly user: number | null;
}

/** One system's table. */
export interface ProcessTable {
  /** When a process was started, in digits that no other process with its pid has; undefined when it is gone. */
  startTime(pid: number): string | undefined;
  /** A value that each boot of the host has anew; undefined where it does not tell. */
  boot(): string | undefined;
  facts(pid: number): ProcessFacts;
}

const UNKNOWN: ProcessFacts = { residentMiB: null, user: null };

/** The table of Linux. Start times are clock ticks since the boot. */
const linuxTable: ProcessTable = {
  startTime(pid) {
    const fields = statFields(pid);
    return fields?.[0] === "Z" ? undefined : fields?.[19];
  },
  boot: () => readText("/proc/sys/kernel/random/boot_id")?.trim(),
  facts(pid) {
    const text = readText(`/proc/${pid}/status`) ?? "";
    const memory = /^VmRSS:\s+(\d+) kB/m.exec(text);
    const user = /^Uid:\s+\d+\s+(\d+)/m.exec(text);
    return {
      residentMiB: memory && Math.round(Number(memory[1]) / 1024),
      user: user && Number(user[1]),
    };
  },
};

/** What {@linkcode macTable} asks with. */
export type AskProgram = typeof printedBy;

/** The table of a Mac. Start times are seconds since 1970. */
export function macTable(ask: AskProgram = printedBy): ProcessTable {
  // In words that no language and no time zone of the user changes.
  const ps = (pid: number, ...columns: string[]) =>
    ask("ps", [...columns.flatMap((one) => ["-o", `${one}=`]), "-p", String(pid)], {
      ...{ LC_ALL: "C", TZ: "UTC0" },
    })?.trim();
  return {
    startTime(pid) {
      const [, state, started] = /^(\S+)\s+(\S.*)$/.exec(ps(pid, "stat", "lstart") ?? "") ?? [];
      if (state === undefined || state.startsWith("Z")) return undefined;
      const startedMs = Date.parse(`${started} UTC`);
      return Number.isNaN(startedMs) ? undefined : String(startedMs / 1000);
    },
    boot: () => ask("sysctl", ["-n", "kern.bootsessionuuid"], {})?.trim() || undefined,
    facts(pid) {
      const [, memory, user] = /^(\d+)\s+(\d+)$/.exec(ps(pid, "rss", "uid") ?? "") ?? [];
      if (memory === undefined) return UNKNOWN;
      return { residentMiB: Math.round(Number(memory) / 1024), user: Number(user) };
    },
  };
}

const table = Deno.build.os === "darwin" ? macTable() : linuxTable;

/** When a process was started, in digits that no other process with its pid has; undefined when it is gone. */
export function processStartTime(pid: number): string | undefined {
  return table.startTime(pid);
}

/** The processor time that a process has used, in seconds (Linux); NaN when it is gone. */
function cpuSeconds(pid: number): number {
  const fields = statFields(pid);
  // USER_HZ is 100 on every Linux that Deno runs on.
  return (Number(fields?.[11]) + Number(fields?.[12])) / 100;
}

/** How many cores a process uses (Linux), on the average of a window that begins now; NaN when it is gone. */
export async function coresUsed(
  pid: number,
  windowMs: number,
  signal?: AbortSignal,
): Promise<number> {
  const before = cpuSeconds(pid);
  const startedMs = performance.now();
  await pause(windowMs, signal);
  return (cpuSeconds(pid) - before) * 1000 / (performance.now() - startedMs);
}

/** What follows the program's name in /proc/PID/stat. */
function statFields(pid: number): string[] | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
}

function readText(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return undefined;
  }
}

/** A process told apart from a later one with the same pid. */
export interface ProcessId {
  /** Host process id. */
  readonly pid: number;
  /** As {@linkcode processStartTime} gives it; "" where the host does not tell. */
  readonly startTime: string;
  /** Which boot of the host that was; absent where the host does not tell, and in older records. */
  readonly boot?: string;
}

let thisBoot: string | undefined;

function bootId(): string | undefined {
  return thisBoot ??= table.boot();
}

/** The identity of a running process; undefined when it is gone. */
export function identifyProcess(pid: number): ProcessId | undefined {
  const startTime = processStartTime(pid);
  const boot = bootId();
  return startTime === undefined ? undefined : { pid, startTime, ...(boot && { boot }) };
}

/** Whether exactly this process still runs. */
export function isAlive(id: ProcessId): boolean {
  if (id.boot !== undefined && id.boot !== bootId()) return false;
  return processStartTime(id.pid) === id.startTime;
}

/** A name for what belongs to this process and goes with it; {@linkcode orphanId} tells others when it is left over. */
export function ownedName(prefix: string, id: string): string {
  const { pid, startTime } = identifyProcess(Deno.pid) ?? { pid: Deno.pid, startTime: "" };
  return `${prefix}${pid}-${startTime}-${id}`;
}

/** The id in a name that {@linkcode ownedName} gave to a process that is gone; undefined for any other name. */
export function orphanId(prefix: string, name: string): string | undefined {
  if (!name.startsWith(prefix)) return undefined;
  const [, pid, startTime = "", id] = /^(\d+)-(\d*)-(.+)$/.exec(name.slice(prefix.length)) ?? [];
  if (id === undefined || isAlive({ pid: Number(pid), startTime })) return undefined;
  return id;
}

/** Resident memory of a process in MiB, null where the host does not tell. */
export function residentMiB(pid: number): number | null {
  return processFacts(pid).residentMiB;
}

/** Resident memory in MiB, and the user whose rights a process has. */
export function processFacts(pid: number): ProcessFacts {
  return table.facts(pid);
}
