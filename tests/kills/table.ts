/**
 * The points at which the kill table acts: what runs, at which moment, and who is killed there.
 *
 * @module
 */
import { appears, goes, held, type Moment, phase, process, step } from "./moments.ts";
import type { World } from "./world.ts";

/** Who is killed: the command of the point, or a process of an instance's run. */
export type Victim = "command" | "supervisor" | "vmm" | "gvproxy";

/** How the instance `default` is when the command starts; `snapshot`: it runs, and has one called `base`. */
export type Before = "absent" | "stopped" | "suspended" | "running" | "snapshot";

/** One command and the moments in it. */
export interface Deed {
  readonly name: string;
  readonly before: Before;
  readonly words: (world: World) => readonly string[];
  /** What the guest may remember afterwards besides what it wrote last. */
  readonly mayReturnTo?: "base";
  /** The payload is changed before it, and changed back after it. */
  readonly edits?: true;
  /** There is no golden state before it. */
  readonly builds?: true;
  readonly points: readonly Point[];
}

/** A moment in a command, who is killed there, and of which instance. */
export interface Point {
  readonly at: Moment;
  readonly victims: readonly Victim[];
  readonly of?: string;
  /** There is no instance yet that `down` could find. */
  readonly unknown?: true;
}

const point = (at: Moment, ...victims: Victim[]): Point => ({ at, victims });
const pointOf = (of: string, at: Moment, ...victims: Victim[]): Point => ({ at, victims, of });

const LAYER = /^ram-\w+\.layer$/;
const DEVICES = /^dev-\w+\.bin$/;
const OVERLAY = /^disk-\w+\.qcow2$/;

/** The table. In the foreground the command is the supervisor. */
export const TABLE: readonly Deed[] = [
  {
    name: "build golden",
    before: "absent",
    words: ({ up }) => [...up, "--detach"],
    builds: true,
    points: [
      point(step("start vm", "golden"), "supervisor"),
      point(phase("ready", "golden"), "supervisor"),
      pointOf("golden", phase("ready", "golden"), "supervisor"),
      pointOf("golden", appears(LAYER, "golden"), "vmm"),
      point(appears(/^snapshots\/golden\.json$/, "golden"), "supervisor"),
    ],
  },
  {
    name: "up of a new instance",
    before: "absent",
    words: ({ up }) => up,
    points: [
      { ...point(step("open instance"), "supervisor"), unknown: true },
      point(step("pki"), "supervisor"),
      point(step("golden"), "supervisor"),
      point(appears(OVERLAY), "supervisor"),
      point(appears(/^suspend\.json$/), "supervisor"),
      point(step("guest up"), "supervisor", "vmm"),
      point(step("identity"), "supervisor"),
    ],
  },
  {
    name: "up from the disk",
    before: "stopped",
    words: ({ up }) => up,
    points: [
      point(step("artifacts"), "supervisor"),
      point(step("payload"), "supervisor"),
      point(step("start gvproxy"), "supervisor"),
      point(step("start vm"), "supervisor"),
      point(step("guest up"), "supervisor", "vmm", "gvproxy"),
      point(step("expose ports"), "gvproxy"),
      point(step("service ready"), "supervisor", "vmm"),
      point(step("client files"), "supervisor"),
    ],
  },
  {
    name: "down",
    before: "running",
    words: () => ["down"],
    points: [
      point(phase("stopping"), "command", "supervisor", "vmm", "gvproxy"),
      point(held("poweroff"), "supervisor", "vmm"),
    ],
  },
  {
    name: "suspend",
    before: "running",
    words: () => ["suspend"],
    points: [
      point(held("stop"), "supervisor", "vmm"),
      point(appears(LAYER), "command", "supervisor", "vmm"),
      point(held("migrate"), "supervisor", "vmm"),
      point(appears(DEVICES), "supervisor"),
      point(appears(/^suspend\.json$/), "command", "supervisor", "vmm"),
    ],
  },
  {
    name: "resume",
    before: "suspended",
    words: () => ["resume"],
    points: [
      point(step("start vm"), "command", "supervisor"),
      point(held("migrate-incoming"), "supervisor", "vmm"),
      point(held("cont"), "supervisor", "vmm"),
      point(goes("suspend.json"), "supervisor", "vmm"),
      point(step("guest up"), "supervisor", "vmm", "gvproxy"),
    ],
  },
  {
    name: "snapshot create",
    before: "running",
    words: () => ["snapshot", "create", "half"],
    points: [
      point(appears(OVERLAY), "command", "supervisor", "vmm"),
      point(appears(LAYER), "supervisor", "vmm"),
      point(held("memory"), "command", "supervisor", "vmm"),
      point(held("blockdev-snapshot"), "supervisor", "vmm"),
      point(held("migrate"), "supervisor"),
      point(appears(DEVICES), "supervisor", "vmm"),
      point(appears(/^snapshots\/half\.json$/), "command", "supervisor"),
    ],
  },
  {
    name: "snapshot restore",
    before: "snapshot",
    words: () => ["snapshot", "restore", "base"],
    mayReturnTo: "base",
    points: [
      point(goes("run.json"), "command"),
      point(appears(OVERLAY), "command"),
      point(appears(/^suspend\.json$/), "command"),
      point(step("start vm"), "supervisor", "vmm"),
    ],
  },
  {
    name: "fork",
    before: "running",
    words: () => ["fork", "default", "clone"],
    points: [
      point(held("memory"), "command", "supervisor", "vmm"),
      point(appears(/^snapshots\/gateway-fork-/), "command", "supervisor"),
      point(appears(OVERLAY, "clone"), "command"),
      point(appears(/^instance\.json$/, "clone"), "command"),
      pointOf("clone", step("start vm", "clone"), "command", "supervisor"),
      pointOf("clone", step("guest up", "clone"), "vmm", "gvproxy"),
    ],
  },
  {
    name: "image load",
    before: "running",
    words: ({ home }) => ["image", "load", `${home.home}/image.tar`],
    points: [point(process("'import'"), "command", "supervisor", "vmm", "gvproxy")],
  },
  {
    name: "up with a changed payload",
    before: "stopped",
    edits: true,
    words: ({ up }) => up,
    points: [
      point(step("payload"), "supervisor"),
      point(step("start vm"), "supervisor"),
      point(step("guest up"), "vmm"),
      point(step("payload in place"), "supervisor", "vmm", "gvproxy"),
    ],
  },
  {
    name: "rm",
    before: "stopped",
    words: () => ["rm", "default"],
    points: [
      point(appears(/^unfinished$/), "command"),
      point(goes("instance.json"), "command"),
    ],
  },
];
