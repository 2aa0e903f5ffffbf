/**
 * What a user of a running instance does, for tests: ask its state, its service with curl, its API with kubectl.
 * It must not start or stop anything.
 *
 * @module
 */
import { run, type RunResult } from "../../vm/base/process.ts";
import { waitFor } from "../../vm/base/wait.ts";
import type { TestHome } from "./harness.ts";

/** The part of `status --json` that tests read. */
export interface Status {
  readonly endpoint: string;
  readonly state: string;
  readonly payload: string;
  readonly kubeconfig: string;
  readonly clientFiles: string;
  readonly sshPort: number;
  readonly processes: {
    role: string;
    pid: number;
    residentMiB: number;
    user: number | null;
    confinement: string | null;
  }[];
  readonly stateDisk: { usedMiB: number };
}

interface PodLike {
  readonly metadata: { readonly name: string; readonly uid: string };
  readonly status: {
    readonly phase: string;
    readonly containerStatuses?: {
      readonly restartCount: number;
      readonly ready: boolean;
    }[];
  };
}

/** A user of one home's instances. */
export class Client {
  constructor(private readonly home: TestHome) {}

  async status(name = "default"): Promise<Status> {
    return JSON.parse((await this.home.ok(["status", "--name", name, "--json"])).stdout);
  }

  /** curl as a user would call it, with the client's certificate or, `bare`, without. */
  async curl(report: Status, path = "/", bare = false): Promise<RunResult> {
    return await run("curl", {
      args: [
        ...["-sS", "--max-time", "30", "--cacert", "ca.crt"],
        ...(bare ? [] : ["--cert", "tls.crt", "--key", "tls.key"]),
        `${report.endpoint}${path}`,
      ],
      // As READY says it: curl takes what follows a colon for a password.
      cwd: report.clientFiles,
      check: false,
    });
  }

  /** Whether an instance's service answers its client. */
  async answers(name = "default"): Promise<boolean> {
    return (await this.curl(await this.status(name))).code === 0;
  }

  // deno-lint-ignore no-explicit-any
  async kubectlJson(args: readonly string[], name = "default"): Promise<any> {
    const words = ["kubectl", "--name", name, "--", ...args, "-o", "json"];
    return JSON.parse((await this.home.ok(words)).stdout);
  }

  async #podList(name: string): Promise<PodLike[]> {
    return (await this.kubectlJson(["get", "pods", "-A"], name)).items;
  }

  /** Every pod's uid with the restarts of its containers, sorted. */
  async pods(name = "default"): Promise<string[]> {
    return identities(await this.#podList(name));
  }

  /**
   * The pods, once nothing has changed about them for a while and none waits for its next try: a start goes on after
   * READY.
   */
  async settledPods(name = "default"): Promise<string[]> {
    return identities(await this.#settled(name));
  }

  /** How often the containers of each pod that goes on were started again, by the pod's name; see `settledPods`. */
  async settledRestarts(name = "default"): Promise<Record<string, number>> {
    const running = (await this.#settled(name)).filter(({ status }) => status.phase === "Running");
    return Object.fromEntries(running.map(({ metadata, status }) => [
      metadata.name,
      status.containerStatuses!.reduce((sum, { restartCount }) => sum + restartCount, 0),
    ]));
  }

  async #settled(name: string): Promise<PodLike[]> {
    let before = "";
    return await waitFor({
      what: "pods that do not change",
      probe: async () => {
        const pods = await this.#podList(name);
        const now = identities(pods).join();
        const settled = pods.every(isSettled) && now === before;
        before = now;
        return settled ? pods : undefined;
      },
      timeoutMs: 120_000,
      intervalMs: 4000,
    });
  }

  /** "True" when the only node is ready. */
  async nodeReady(name = "default"): Promise<string> {
    const nodes = await this.kubectlJson(["get", "nodes"], name);
    const ready = nodes.items[0].status.conditions.find((one: { type: string }) =>
      one.type === "Ready"
    );
    return ready.status;
  }

  /** How far the guest's clock is off, in milliseconds; 0 while it is within the time that asking took. */
  async clockOffset(name = "default"): Promise<number> {
    const earliest = Date.now();
    const { stdout } = await this.home.ok(["exec", "--name", name, "--", "date", "+%s.%N"]);
    const guest = Number(stdout) * 1000;
    return guest < earliest ? guest - earliest : Math.max(0, guest - Date.now());
  }

  /** Runs shell words in the guest and gives what they print. */
  async sh(script: string, name = "default"): Promise<string> {
    return (await this.home.ok(["exec", "--name", name, "--", "sh", "-c", script])).stdout;
  }
}

function identities(pods: readonly PodLike[]): string[] {
  return pods.map(({ metadata, status }) =>
    `${metadata.uid} ${status.containerStatuses?.map((one) => one.restartCount)}`
  ).sort();
}

/** Whether a pod has ended or all its containers are ready. */
function isSettled({ status }: PodLike): boolean {
  return status.phase === "Succeeded" ||
    status.containerStatuses?.every(({ ready }) => ready) === true;
}
