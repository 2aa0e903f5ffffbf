/**
 * How long the cluster's own start takes on this processor: kubenode with the guest's root image in namespaces of this
 * host, without a VM. Emulation hides it, since there everything computes; on real processors waits and timers count.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { ensureArtifacts } from "../../bootstrap/artifacts/ensure.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { run } from "../../vm/base/process.ts";
import { TestHome } from "../vm/harness.ts";
import { medianRow, type Row } from "./row.ts";

const SCRIPT = fromFileUrl(new URL("native.sh", import.meta.url));
const RUN_TIMEOUT_MS = 3 * 60_000;
const TIMES = 5;

/** Seconds from the exec of kubenode. */
interface Start {
  /** Its own line "API server is ready". */
  readonly api: number;
  /** A pod answers over its NodePort. */
  readonly answer: number;
}

/** Measures. Gives no rows, and says so, without root. */
export async function nativeRows(): Promise<Row[]> {
  if (Deno.uid() !== 0) {
    // deno-lint-ignore no-console
    console.log("       not run: mounts and namespaces need root");
    return [];
  }
  const { signal } = new AbortController();
  const { root } = await ensureArtifacts({ span: silentSpan(), signal, assumeYes: true });
  const image = root.files["root.erofs"]!.path;
  await using home = await TestHome.make();
  const cold: Start[] = [], warm: Start[] = [];
  for (let at = 0; at < TIMES; at++) {
    const work = await Deno.makeTempDir({ dir: home.home });
    cold.push(await start(image, work));
    warm.push(await start(image, work));
  }
  return [...rows("cold from nothing", cold), ...rows("started again", warm, 2.5)];
}

async function start(image: string, work: string): Promise<Start> {
  const { stdout } = await run("unshare", {
    args: ["--mount", "--pid", "--net", "--fork", "sh", SCRIPT, image, work],
    timeoutMs: RUN_TIMEOUT_MS,
  });
  await removeCgroups();
  const log = await Deno.readTextFile(join(work, "log"));
  const api = /^kubenode +([\d.]+)s API server is ready$/m.exec(log)?.[1];
  return { api: Number(api), answer: Number(stdout.trim()) };
}

/** The pods' groups; their processes ended with the namespace. */
async function removeCgroups(): Promise<void> {
  const { stdout } = await run("find", {
    args: ["/sys/fs/cgroup", "-depth", "-type", "d", "-path", "*/kubepods*"],
  });
  for (const group of stdout.split("\n")) if (group !== "") await Deno.remove(group);
}

function rows(kind: string, starts: readonly Start[], limit?: number): Row[] {
  const row = (what: string, of: (start: Start) => number, bound?: number) =>
    medianRow(`native, ${kind}: ${what}`, starts.map(of).sort((a, b) => a - b), bound);
  return [row("API ready", ({ api }) => api), row("a pod answers", ({ answer }) => answer, limit)];
}
