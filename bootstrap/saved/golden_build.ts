/**
 * Builds a golden state: a whole instance of its own in a private home, booted by this very program, saved when it is
 * quiet, and thrown away.
 * It must not decide when one is needed (golden.ts).
 *
 * @module
 */
import { join } from "@std/path";
import { KUBECONFIG, SETTLE_SOCKET } from "../../rootfs/contract.ts";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { ensurePrivateDir, exists, type InstancePaths } from "../../vm/base/layout.ts";
import { coresUsed } from "../../vm/base/process_table.ts";
import { waitFor } from "../../vm/base/wait.ts";
import { chainFiles } from "../../vm/instance/disk_chain.ts";
import type { InstanceConfig } from "../../vm/instance/instance.ts";
import { readRun } from "../../vm/instance/record.ts";
import {
  readState,
  type SavedState,
  snapshotRecord,
  writeState,
} from "../../vm/instance/saved_state.ts";
import { clusterEnds } from "../cluster/slot_certificates.ts";
import { waitLaterImages } from "../run/later_images.ts";
import { askSupervisor } from "../run/requests.ts";
import { PrivateGateway } from "./private_gateway.ts";

const QUIET_TIMEOUT_MS = 3 * 60_000;
const QUIET_WINDOW_MS = 3000;
/** A cluster that uses less than this of one core has nothing left to do of its start. */
const QUIET_CPU = 0.6;
const SNAPSHOT = "golden";
/** The cluster gets its memory ready for clones, where it can: kubenode does, k3s has no such socket. */
const SETTLE = `test ! -S ${SETTLE_SOCKET} || k3s settle`;

/** What a golden state is made for. */
export interface GoldenNeeds {
  readonly config: InstanceConfig;
  /** Of the machine. */
  readonly key: string;
  /** Of what the cluster runs. */
  readonly payloadDigest: string;
  readonly span: Span;
  readonly signal: AbortSignal;
}

/**
 * Boots, waits, saves; leaves the files and the record in `dir`, or nothing.
 *
 * @throws GatewayError `build-failed`, `service-not-ready`, `disk-full`, or the signal's reason.
 */
export async function buildGolden(
  dir: string,
  record: string,
  options: GoldenNeeds,
): Promise<SavedState> {
  const { span, signal, config } = options;
  await using golden = await PrivateGateway.make(`${dir}.build`, signal);
  const { paths } = golden;
  await span.run("boot", () => golden.up(config));
  await span.run("images", () => waitLaterImages(() => readRun(paths), signal));
  await span.run("quiet", () => waitQuiet(golden, signal));
  await span.run("settle", () => golden.exec("sh", "-c", SETTLE));
  const { stdout } = await golden.exec("cat", KUBECONFIG);
  const request = { do: "snapshot", name: SNAPSHOT, ramDir: null } as const;
  await span.run("save", () => askSupervisor(paths, request, signal));
  await golden.discard();
  return await keep(paths, dir, record, stdout, options);
}

/** Every pod is ready, and the VMM has been idle for a while: what is saved now need not be done again by anybody. */
async function waitQuiet(golden: PrivateGateway, signal: AbortSignal): Promise<void> {
  const wait = [
    "kubectl",
    "wait",
    "--for=condition=Ready",
    "pods",
    "--all",
    "-A",
    // What a job has done is done.
    "--field-selector=status.phase!=Succeeded",
    "--timeout=150s",
  ];
  await golden.exec(...wait);
  const record = await readRun(golden.paths);
  const pid = record === "unreadable" ? undefined : record?.vmm?.pid;
  await waitFor({
    what: "a cluster without work",
    probe: async (inner) => {
      const busy = await coresUsed(pid ?? 0, QUIET_WINDOW_MS, inner);
      if (busy > QUIET_CPU) throw new Error(`it uses ${Math.round(busy * 100)} % of a core`);
      return true;
    },
    timeoutMs: QUIET_TIMEOUT_MS,
    signal,
  }).catch((error) => {
    // A host with little power never sees it quiet; what is left to do is then done in each instance.
    if (!(error instanceof GatewayError) || error.code !== "timeout") throw error;
  });
}

/** Moves what belongs to the state out of the instance's folder, and writes the record last. */
async function keep(
  paths: InstancePaths,
  dir: string,
  record: string,
  k3sYaml: string,
  options: GoldenNeeds,
): Promise<SavedState> {
  const saved = (await readState(snapshotRecord(paths, SNAPSHOT)))!;
  if (saved.key !== options.key) {
    throw new GatewayError({
      code: "build-failed",
      what: "Cannot use the golden state that was just built",
      why: "its machine is another than this start's",
      fix: "run the command again; if it stays so, use `gateway up --cold` and report it",
    });
  }
  await ensurePrivateDir(dir);
  const disk = { ...saved.disk!, head: { ...saved.disk!.head } };
  // No other instance may ever take it for a disk of its own that it may write.
  if (disk.head.name === "state.img") {
    disk.head.name = `disk-${crypto.randomUUID().slice(0, 8)}.raw`;
  }
  const moves: [string, string][] = [saved.devices, ...saved.ram].map(({ name }) => [name, name]);
  chainFiles(saved.disk!).forEach((name, at) => moves.push([name, chainFiles(disk)[at]!]));
  for (const [from, to] of moves) await Deno.rename(join(paths.dir, from), join(dir, to));
  await Deno.rename(paths.pkiDir, join(dir, "pki"));
  if (await exists(paths.jwtDir)) await Deno.rename(paths.jwtDir, join(dir, "jwt"));
  await writeFileAtomic(join(dir, "k3s.yaml"), k3sYaml);
  // The instance has no port to the API, and so no kubeconfig in its folder.
  const state = { ...saved, disk, clusterEnds: clusterEnds(k3sYaml) };
  await writeState(record, state);
  return state;
}
