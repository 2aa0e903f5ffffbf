/**
 * What the user did wrong, told by the real command line as a process: the three lines, the exit code, and that no
 * process, socket, lock or file is left. Only what can be told before a VM starts; the rest is in tests/vm.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { hostFacts } from "../bootstrap/plan/options.ts";
import { freeLoopbackPort } from "../net/forward.ts";
import type { InstanceConfig } from "../vm/instance/instance.ts";
import { runRecord } from "./fakes/run_record.ts";
import { inTurns, Sandbox } from "./sandbox.ts";

const NAME_FIX = "choose a name such as `default` or `dev-2`";
const PORT_FIX = "write it as 30051:30051 or 127.0.0.1:8080:80";
const TARGETS =
  "the targets are kernel, root, cluster, images, golden, payload, libkrun, all, libkrunfw";
const { cpus } = hostFacts();

const unknown = (name: string) =>
  [
    `Cannot find the instance "${name}"`,
    "there are no instances yet",
    `run \`gateway up --name ${name}\` to make it, or \`gateway list\``,
  ] as const;

type Lines = readonly [what: string, why: string, fix: string];
interface Refusal {
  readonly args: readonly string[];
  readonly code: number;
  readonly lines: Lines;
}
const usage = (args: readonly string[], ...lines: Lines): Refusal => ({ args, code: 2, lines });
const failure = (args: readonly string[], lines: Lines): Refusal => ({ args, code: 1, lines });

/** Commands that take an instance's name as an argument. */
const BY_NAME = [
  ...["status", "logs", "shell", "verify", "provenance", "down", "suspend", "rm --force"],
  ...["port list", "port ls", "snapshot ls", "image ls", "host-service ls", "status --name"],
];

const REFUSALS: readonly Refusal[] = [
  usage(
    ["up", "--port", "99999:1"],
    `Cannot forward the port "99999:1"`,
    "99999 is not a port: those go from 1 to 65535",
    PORT_FIX,
  ),
  usage(
    ["up", "--port", "a:b"],
    `Cannot forward the port "a:b"`,
    "it is not [ADDRESS:]HOST:GUEST with two port numbers",
    PORT_FIX,
  ),
  usage(
    ["up", "--port", "8080:80"],
    "Cannot tell when the service is ready",
    "no --port leads to the guest's port 30051",
    "add --port 30051:30051",
  ),
  usage(
    ["up", "--host-service", "70000"],
    `Cannot open the host service "70000"`,
    "70000 is not a port: those go from 1 to 65535",
    "write it as 11434, or as 11434:80 for another port in the guest",
  ),
  usage(
    ["--host-service", "80", "--exec", "/bin/true"],
    `Cannot use --host-service with --net "none"`,
    "only gvproxy opens ports of this host to a guest",
    "add --net gvproxy",
  ),
  usage(
    ["up", "--allow-net", "127.0.0.1/32:80"],
    `Cannot allow the network "127.0.0.1/32:80"`,
    "127.0.0.0/8 is always closed to guests",
    "for a port of this host's loopback use --host-service; see docs/network.md",
  ),
  failure(["host-service", "add", "80", "--name", "ghost"], unknown("ghost")),
  usage(
    ["up", "--net", "bridge"],
    `Cannot use --net "bridge"`,
    "the choices are gvproxy, tsi, none",
    "pass --net gvproxy",
  ),
  usage(
    ["--vmm", "xen"],
    `Cannot use --vmm "xen"`,
    "the choices are auto, qemu, libkrun",
    "pass --vmm auto",
  ),
  usage(
    ["up", "--libkrun", "libkrun.so"],
    `Cannot use --libkrun "libkrun.so"`,
    "it is not an absolute path",
    "name the file from the root on",
  ),
  usage(
    ["__vmm"],
    "Cannot start a VM's process",
    "it takes one word, the absolute path of a vm.json",
    "start VMs with `gateway up`; this is how it calls itself",
  ),
  usage(
    ["__up"],
    "Cannot start a supervisor",
    "it takes one word, the file with its plan",
    "start instances with `gateway up`; this is how it calls itself",
  ),
  usage(
    ["up", "--name", "../x"],
    `Cannot use the instance name "../x"`,
    "only a-z, 0-9 and - inside are allowed",
    NAME_FIX,
  ),
  usage(["up", "--name", ""], `Cannot use the instance name ""`, "it is empty", NAME_FIX),
  usage(
    ["up", "--name", "a".repeat(65)],
    `Cannot use the instance name "${"a".repeat(65)}"`,
    "it has 65 characters and 63 is the most",
    NAME_FIX,
  ),
  usage(["up", "--cpus", "0"], "Cannot use --cpus 0", "a VM needs at least 1", "pass --cpus 2"),
  usage(
    ["up", "--cpus", String(cpus + 1)],
    `Cannot use --cpus ${cpus + 1}`,
    `this host has ${cpus}`,
    `pass --cpus ${cpus} or fewer`,
  ),
  usage(
    ["up", "--memory", "64"],
    "Cannot use --memory 64",
    "a cluster needs at least 1536 MiB",
    "pass --memory 2048",
  ),
  usage(
    ["--memory", "64", "--exec", "/bin/true"],
    "Cannot use --memory 64",
    "a VM needs at least 128 MiB",
    "pass --memory 2048",
  ),
  usage(
    ["--exec", ""],
    `Cannot run the program ""`,
    "its name is empty or holds a NUL byte",
    "name a program of the guest, such as --exec /bin/true",
  ),
  usage(
    ["up", "foo"],
    `Cannot run "foo"`,
    "it is no command, and arguments need --exec",
    "run `gateway --help` for the commands",
  ),
  usage(
    ["frobnicate"],
    `Cannot run "frobnicate"`,
    "it is no command, and arguments need --exec",
    "run `gateway --help` for the commands",
  ),
  usage(["build", "foo"], `Cannot build "foo"`, TARGETS, "run `gateway build all`"),
  usage(
    ["build", "kernel", "--refresh"],
    `Cannot renew "kernel"`,
    "--refresh renews the Debian packages of the root image",
    "run `gateway build root --refresh`",
  ),
  usage(
    ["cp", "a", "b"],
    `Cannot copy "a" to "b"`,
    "neither side is NAME:PATH",
    "write the guest's side as NAME:PATH, such as default:/root/",
  ),
  usage(
    ["cp", "one:/a", "two:/b"],
    `Cannot copy "one:/a" to "two:/b"`,
    "both sides are in a guest",
    "write the guest's side as NAME:PATH, such as default:/root/",
  ),
  usage(
    ["port", "add", "0:80"],
    `Cannot forward the port "0:80"`,
    "0 is not a port: those go from 1 to 65535",
    PORT_FIX,
  ),
  usage(
    ["rm"],
    "Cannot remove an instance",
    "no name was given",
    "run `gateway rm NAME`; `gateway list` shows the names",
  ),
  usage(
    ["status", "one", "--name", "two"],
    'Cannot use the instances "one" and "two" at once',
    "status takes one instance",
    "name it once",
  ),
  failure(["exec", "--name", "ghost", "--", "true"], unknown("ghost")),
  failure(["--name", "ghost", "exec", "true", "--json"], unknown("ghost")),
  failure(["kubectl", "--name", "ghost", "-n", "x", "get", "--json"], unknown("ghost")),
  failure(["--name", "ghost", "port", "ls"], unknown("ghost")),
  failure(["kubectl", "--name", "ghost", "--", "get", "nodes"], unknown("ghost")),
  failure(["cp", "notes.txt", "ghost:/root/"], unknown("ghost")),
  ...BY_NAME.map((words) => failure([...words.split(" "), "ghost"], unknown("ghost"))),
  usage(
    ["keys", "trust", "/nowhere/key.pub"],
    'Cannot use the key "/nowhere/key.pub"',
    "it cannot be read",
    "name the signing.pub that `gateway keys make` wrote",
  ),
  usage(
    ["keys", "distrust", "0123456789abcdef"],
    'Cannot stop trusting the key "0123456789abcdef"',
    "no key is trusted",
    "run `gateway keys list`",
  ),
];

const threeLines = ([what, why, fix]: Lines) => `error: ${what}\n  why: ${why}\n  fix: ${fix}\n`;

async function assertNothingLeft(sandbox: Sandbox): Promise<void> {
  assertEquals(await sandbox.files(), []);
  assertEquals(await sandbox.processes(), []);
}

Deno.test("gateway tells each bad input in three lines, exits with its code and leaves nothing", async (t) => {
  await using sandbox = await Sandbox.make();
  const failed: Record<string, string> = {};
  await inTurns(REFUSALS, async ({ args, code, lines }) => {
    const result = await sandbox.gateway(args);
    const seen = `${result.stdout}${result.stderr}exit ${result.code}`;
    if (seen !== `${threeLines(lines)}exit ${code}`) failed[args.join(" ")] = seen;
  });
  assertEquals(failed, {});
  await t.step("and no file, socket, lock or process", async () => {
    await assertNothingLeft(sandbox);
    assertEquals(await sandbox.folders(), []);
  });
});

Deno.test("gateway up names who holds a port, before anything is built", async () => {
  await using sandbox = await Sandbox.make();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const program = (await Deno.readTextFile(`/proc/${Deno.pid}/comm`)).trim();
  for (const more of [[], ["--detach"]]) {
    const { code, stdout, stderr } = await sandbox.gateway(
      ["up", "--port", `${port}:30051`, ...more],
    );
    assertEquals([code, stdout], [1, ""]);
    assertStringIncludes(
      stderr,
      threeLines([
        `Cannot listen on "127.0.0.1:${port}"`,
        `"${program}" (process ${Deno.pid}) holds it`,
        `stop that process, or choose another port: --port ${port + 1}:30051`,
      ]),
    );
    await assertNothingLeft(sandbox);
  }
});

const config = (name: string): InstanceConfig => ({
  schemaVersion: 1,
  name,
  createdAt: "2026-01-02T03:04:05.000Z",
  cpus: 1,
  memoryMiB: 1536,
  stateMiB: 1024,
  ports: [{ address: "127.0.0.1", hostPort: freeLoopbackPort(), guestPort: 30_051 }],
  vmm: "auto",
  kubeApi: true,
  payload: "demo",
  payloadDigest: null,
  clusterBinary: null,
});

Deno.test("gateway exec, cp, kubectl and port say that an instance is stopped", async () => {
  await using sandbox = await Sandbox.make();
  const { dir, instanceFile } = sandbox.paths("dev");
  await Deno.mkdir(dir, { recursive: true });
  await Deno.writeTextFile(instanceFile, JSON.stringify(config("dev")));
  const before = await sandbox.files();
  await inTurns([
    ["exec", "--name", "dev", "--", "true"],
    ["cp", "notes.txt", "dev:/root/"],
    ["kubectl", "--name", "dev", "--", "get", "nodes"],
    ["port", "list", "--name", "dev"],
  ], async (args) => {
    const { code, stdout, stderr } = await sandbox.gateway(args);
    assertEquals([code, stdout, stderr], [
      1,
      "",
      threeLines([
        `Cannot reach the instance "dev"`,
        "it is not running",
        "run `gateway up --name dev --detach` first",
      ]),
    ]);
  });
  assertEquals(await sandbox.files(), before);
  assertEquals(await sandbox.processes(), []);
});

Deno.test("gateway up refuses an instance that runs already and leaves it alone", async () => {
  await using sandbox = await Sandbox.make();
  const { dir, instanceFile, runFile, lockFile } = sandbox.paths("dev");
  await Deno.mkdir(dir, { recursive: true });
  await Deno.writeTextFile(instanceFile, JSON.stringify(config("dev")));
  const run = runRecord();
  await Deno.writeTextFile(runFile, JSON.stringify(run));
  using lock = await Deno.open(lockFile, { create: true, write: true });
  await lock.lock(true);
  const before = await sandbox.files();
  const { code, stdout, stderr } = await sandbox.gateway(["up", "--name", "dev"]);
  assertEquals([code, stdout], [1, ""]);
  assertStringIncludes(
    stderr,
    threeLines([
      `Cannot start the instance "dev"`,
      `it is running already (supervisor ${Deno.pid})`,
      "use it, stop it with `gateway down --name dev`, or choose another --name",
    ]),
  );
  assertEquals(await sandbox.files(), before);
  assertEquals(JSON.parse(await Deno.readTextFile(runFile)), run);
});

Deno.test("gateway --json gives the error as JSON on stdout and nothing on stderr", async () => {
  await using sandbox = await Sandbox.make();
  const { code, stdout, stderr } = await sandbox.gateway(["up", "--cpus", "0", "--json"]);
  assertEquals([code, stderr], [2, ""]);
  assertEquals(JSON.parse(stdout), {
    error: {
      code: "usage",
      what: "Cannot use --cpus 0",
      why: "a VM needs at least 1",
      fix: "pass --cpus 2",
    },
  });
  await assertNothingLeft(sandbox);
});

Deno.test("gateway exits with 2 and points at --help when the words do not fit the command", async () => {
  await using sandbox = await Sandbox.make();
  await inTurns([
    ["up", "--frobnicate"],
    ["up", "--cpus", "two"],
    ["logs", "--source", "foo"],
    ["exec"],
    ["cp", "a"],
    ["port", "add"],
  ], async (args) => {
    const { code, stdout, stderr } = await sandbox.gateway(args);
    assertEquals([code, stdout], [2, ""], args.join(" "));
    assert(stderr.startsWith("error: "), stderr);
    assertStringIncludes(stderr, "--help");
  });
  await assertNothingLeft(sandbox);
});

Deno.test("gateway puts data on stdout and words on stderr", async () => {
  await using sandbox = await Sandbox.make();
  const list = await sandbox.gateway(["list", "--json"]);
  assertEquals([list.code, list.stdout, list.stderr], [0, "[]\n", ""]);
  const version = await sandbox.gateway(["--version"]);
  assert(/^gateway \d+\.\d+\.\d+\ncommit +\S+\nruntime +deno /.test(version.stdout));
  assertEquals([version.code, version.stderr], [0, ""]);
});
