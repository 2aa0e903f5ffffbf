/**
 * exec, logs, cp and kubectl as the programs that they wrap: words, exit codes, signals and closed pipes. A shell stands
 * for ssh and the guest.
 *
 * @module
 */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { writeKubeconfig } from "../bootstrap/cluster/kubeconfig.ts";
import { readLines } from "../vm/base/lines.ts";
import { type ChildProcess, run, signalProcess, which } from "../vm/base/process.ts";
import { identifyProcess } from "../vm/base/process_table.ts";
import { waitFor } from "../vm/base/wait.ts";
import { fakePrograms, startInstance } from "./fakes/instance.ts";
import { denoArgs, Sandbox } from "./sandbox.ts";

const CLI = new URL("../cli.ts", import.meta.url).pathname;

/** A sandbox with the running instance "default" and programs of ours first on PATH. */
async function withInstance(
  programs: Readonly<Record<string, string>>,
  fn: (place: {
    readonly sandbox: Sandbox;
    readonly call: Sandbox["gateway"];
    readonly start: (args: readonly string[]) => ChildProcess;
  }) => Promise<void>,
  more: { readonly apiPort?: number } = {},
): Promise<void> {
  await using made = await Sandbox.make();
  const PATH = await fakePrograms(made, programs);
  const sandbox = made.with({ PATH });
  await using _fake = await startInstance(sandbox, "default", "clean", more);
  await fn({
    sandbox,
    call: (args, options) => sandbox.gateway(args, options),
    start: (args) => sandbox.start(args),
  });
}

const GUEST = { ssh: "ssh.sh" };

Deno.test("gateway exec passes words, streams and exit codes, 128 and the number for a signal", () =>
  withInstance(GUEST, async ({ call }) => {
    for (
      const [args, code, stdout] of [
        [["exec", "printf", "<%s>", "-c", "--json", "--", "a b", ""], 0, "<-c><--json><--><a b><>"],
        [["exec", "--", "sh", "-c", "exit 3"], 3, ""],
        [["--name", "default", "exec", "sh", "-c", "kill -9 $$"], 137, ""],
        [["exec", "sh", "-c", "kill -TERM $$"], 143, ""],
        [["exec", "exit", "0"], 127, ""],
      ] as const
    ) {
      const result = await call(args);
      assertEquals([result.code, result.stdout], [code, stdout], args.join(" "));
      // Only a program that is not there has something to report.
      assertEquals(result.stderr.includes("not found"), code === 127);
      if (code !== 127) assertEquals(result.stderr, "");
    }
    assertEquals((await call(["exec", "cat"], { stdin: "in\n" })).stdout, "in\n");
  }));

/** Waits until a process is gone. */
const gone = (pid: number) =>
  waitFor({
    what: `the end of process ${pid}`,
    probe: () => Promise.resolve(identifyProcess(pid) === undefined || undefined),
    timeoutMs: 10_000,
    intervalMs: 20,
  });

for (const [signal, number] of [["SIGTERM", 15], ["SIGINT", 2], ["SIGHUP", 1]] as const) {
  Deno.test(`gateway exec passes ${signal} to the program in the guest and ends with it`, () =>
    withInstance(GUEST, async ({ start, sandbox }) => {
      const plain = start(["exec", "--", "sh", "-c", "echo $$; sleep 300; echo not reached"]);
      const lines = readLines(plain.stdout!);
      const pid = Number((await lines.next()).value);
      signalProcess(plain.pid, signal);
      assertEquals((await plain.exited).code, 128 + number);
      await gone(pid);
      await plain.stderr!.cancel();

      // One that handles the signal says how it ends.
      const script = `trap 'echo handled; exit 9' ${
        signal.slice(3)
      }; echo up; while :; do sleep 0.1; done`;
      const handling = start(["exec", "--", "sh", "-c", script]);
      const words = readLines(handling.stdout!);
      assertEquals((await words.next()).value, "up");
      signalProcess(handling.pid, signal);
      assertEquals((await words.next()).value, "handled");
      assertEquals((await handling.exited).code, 9);
      await handling.stderr!.cancel();
      const left = (await sandbox.processes()).filter((words) => words.includes("sleep 300"));
      assertEquals(left.length, 1, "only the instance's own process is left");
    }));
}

Deno.test("gateway exec ends on a second signal when the program in the guest goes on", () =>
  withInstance(GUEST, async ({ start }) => {
    const child = start(["exec", "--", "sh", "-c", "trap '' TERM; echo $$; exec sleep 300"]);
    const lines = readLines(child.stdout!);
    const pid = Number((await lines.next()).value);
    await child.stderr!.cancel();
    signalProcess(child.pid, "SIGTERM");
    // A signal that is passed on reaches the guest in a moment; the second one ends ssh itself.
    await waitFor({
      what: "its end",
      probe: () => {
        signalProcess(child.pid, "SIGTERM");
        return Promise.resolve(identifyProcess(child.pid) === undefined || undefined);
      },
      timeoutMs: 10_000,
      intervalMs: 200,
    });
    assertEquals((await child.exited).code, 143);
    signalProcess(pid, "SIGKILL");
  }));

for (const program of ["scp", "kubectl"]) {
  Deno.test(`gateway ends with ${program}, which gets its signals and gives its exit code`, () =>
    withInstance({ [program]: "program.sh", ssh: "ssh.sh" }, async ({ start, call, sandbox }) => {
      await giveKubeconfig(sandbox);
      const args = program === "scp" ? ["cp", "default:/x"] : ["kubectl", "get", "-A", "--name"];
      assertEquals((await call([...args, "go"])).code, 7);
      for (const [signal, code] of [["SIGTERM", 143], ["SIGHUP", 129]] as const) {
        const child = start([...args, "stay"]);
        const line = (await readLines(child.stdout!).next()).value!;
        assertMatch(line, program === "scp" ? /stay$/ : /get -A --name stay$/);
        signalProcess(child.pid, signal);
        assertEquals((await child.exited).code, code);
        await gone(Number(line.split(" ")[0]));
        await child.stderr!.cancel();
      }
    }, { apiPort: 4711 }));
}

/** The kubeconfig of "default", as a start writes it. */
async function giveKubeconfig(sandbox: Sandbox): Promise<void> {
  const pem = (label: string) => btoa(`-----BEGIN ${label}-----\nMQ==\n-----END ${label}-----\n`);
  const k3sYaml = JSON.stringify({
    clusters: [{ cluster: { "certificate-authority-data": pem("CERTIFICATE") } }],
    users: [{
      user: {
        "client-certificate-data": pem("CERTIFICATE"),
        "client-key-data": pem("PRIVATE KEY"),
      },
    }],
  });
  await writeKubeconfig({
    k3sYaml,
    apiPort: 4711,
    owner: { instance: "default", instanceDir: sandbox.paths("default").dir },
    path: join(sandbox.env.HOME, ".kube", "gateway.yaml"),
  });
}

Deno.test("gateway kubectl gives the guest's kubectl the host's files when the host has no kubeconfig", () =>
  withInstance({ ...GUEST, kubectl: "kubectl_files.sh" }, async ({ call, sandbox }) => {
    const file = join(sandbox.top, "local.yaml");
    await Deno.writeTextFile(file, "kind: Local\n");
    const result = await call(["kubectl", "apply", "-n", "x", "-f", file, "-f", "-"], {
      stdin: "kind: Stdin\n",
    });
    assertEquals([result.code, result.stderr], [5, ""]);
    const [words = "", ...rest] = result.stdout.split("\n");
    assertMatch(words, /^apply -n x -f \/tmp\/gateway-kubectl-[0-9a-f]+\/0\/local\.yaml -f -$/);
    assertEquals(rest, ["kind: Local", "kind: Stdin", ""]);
    const left = [...Deno.readDirSync("/tmp")].filter(({ name }) =>
      name.startsWith("gateway-kubectl-") && words.includes(name)
    );
    assertEquals(left, []);

    const missing = await call(["kubectl", "apply", "-f", "/nowhere.yaml"]);
    assertEquals(missing.code, 2);
    assertStringIncludes(missing.stderr, `Cannot read "/nowhere.yaml" for kubectl`);
  }, { apiPort: 4711 }));

Deno.test("gateway logs ends when its reader goes away, followed or not", () =>
  withInstance(GUEST, async ({ sandbox }) => {
    const path = sandbox.paths("default").consoleLog;
    await Deno.writeTextFile(path, "one\n".repeat(100_000));
    const gateway = [Deno.execPath(), ...denoArgs(CLI, ["logs"])].map((word) => `'${word}'`).join(
      " ",
    );
    const script = `{ ${gateway} $1; echo "$?" >&2; } | head -n 1`;
    for (const follow of ["-f", ""]) {
      const args = ["-c", script, "sh", follow];
      const { stdout, stderr } = await run("sh", { args, env: sandbox.env, timeoutMs: 20_000 });
      assertEquals([stdout, stderr], ["one\n", "141\n"], follow);
    }
    // Nothing more is written to this one.
    await Deno.writeTextFile(path, "one\n");
    const args = ["-c", script, "sh", "-f"];
    const { stdout, stderr } = await run("sh", { args, env: sandbox.env, timeoutMs: 20_000 });
    assertEquals([stdout, stderr], ["one\n", "141\n"]);
  }));

const HOSTILE = "\\033]52;c;ZXZpbA==\\007a\\033[2Jll\\033c is well\\n";

Deno.test(
  "gateway writes no escape sequence of the guest to a terminal, and all bytes to a pipe (skipped without script)",
  { ignore: Deno.build.os !== "linux" || which("script") === undefined },
  () =>
    withInstance(GUEST, async ({ sandbox, call }) => {
      const raw = (await run("printf", { args: [HOSTILE] })).stdout;
      await Deno.writeTextFile(sandbox.paths("default").consoleLog, raw);
      const bin = join(sandbox.top, "bin");
      const digest = "sha256:" + "ab".repeat(32);
      const row = `docker.io/${
        HOSTILE.slice(0, -2).replaceAll(" ", "-")
      } x/y ${digest} 6.1 MiB linux/amd64 -\\n`;
      // What the guest's own programs print.
      for (const [name, text] of [["cat", HOSTILE], ["ctr", row], ["k3s", row]] as const) {
        await Deno.writeTextFile(join(bin, name), `#!/bin/sh\nprintf '${text}'\n`, { mode: 0o700 });
      }
      for (const args of [["logs"], ["logs", "--source", "cluster"], ["image", "list"]]) {
        const words = [Deno.execPath(), ...denoArgs(CLI, args)].map((word) => `'${word}'`).join(
          " ",
        );
        const shown = await run("script", {
          args: ["-qec", words, "/dev/null"],
          env: sandbox.env,
          timeoutMs: 30_000,
        });
        // deno-lint-ignore no-control-regex -- looking for them is the point
        assertEquals(/[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]/.exec(shown.stdout), null, shown.stdout);
        assertMatch(shown.stdout, /all.is.well/);
        assertStringIncludes((await call(args)).stdout, "\x1b]52;c;ZXZpbA==\x07");
      }
    }),
);
