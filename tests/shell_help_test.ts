/**
 * Completions in the real shells, and the manual page before the real readers, as the command line prints both.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { silentSpan } from "../vm/base/event.ts";
import { ensureTools } from "../vm/base/host_tools.ts";
import { run } from "../vm/base/process.ts";
import { SHELL_TOOLS } from "./fakes/shell_tools.ts";
import { Sandbox } from "./sandbox.ts";

const fake = (name: string) => fromFileUrl(new URL(`fakes/${name}`, import.meta.url));

await ensureTools(SHELL_TOOLS, {
  span: silentSpan(),
  signal: new AbortController().signal,
  assumeYes: true,
});

/** A sandbox with two instances' folders and every script. */
async function withScripts(
  fn: (script: (shell: string) => string, sandbox: Sandbox) => Promise<void>,
): Promise<void> {
  await using sandbox = await Sandbox.make();
  for (const name of ["default", "dev-2"]) {
    const dir = join(sandbox.env.XDG_DATA_HOME, "gateway/instances", name);
    await Deno.mkdir(dir, { recursive: true });
  }
  for (const shell of ["bash", "zsh", "fish"]) {
    const { code, stdout, stderr } = await sandbox.gateway(["completions", shell]);
    assertEquals([code, stderr], [0, ""]);
    await Deno.writeTextFile(join(sandbox.top, shell), stdout);
  }
  await fn((shell) => join(sandbox.top, shell), sandbox);
}

/** Lines that are typed, and what may come then, in the order of the alphabet. */
const OFFERS: readonly (readonly [line: string, offers: readonly string[]])[] = [
  ["gateway ver", ["verify"]],
  ["gateway s", ["shell", "snapshot", "status", "suspend"]],
  ["gateway l", ["list", "logs", "ls"]],
  ["gateway snapshot ", ["create", "list", "ls", "restore", "rm"]],
  ["gateway ls --j", ["--json"]],
  ["gateway --vmm ", ["auto", "libkrun", "qemu"]],
  ["gateway build kernel --arch ", ["amd64", "arm64"]],
  ["gateway up --cpus 2 --net g", ["gvproxy"]],
  ["gateway up --egress ", ["all", "internet", "none"]],
  ["gateway logs --so", ["--source"]],
  ["gateway logs --source c", ["cluster", "console"]],
  ["gateway logs --follow --name d", ["default", "dev-2"]],
  ["gateway down de", ["default", "dev-2"]],
  ["gateway build k", ["kernel"]],
  ["gateway completions ", ["bash", "fish", "zsh"]],
  ["gateway port add --n", ["--name"]],
  ["gateway host-service ", ["add", "list", "ls", "remove", "rm"]],
  ["gateway fork --host", ["--host-service"]],
  ["gateway snapshot create --name dev", ["dev-2"]],
];

Deno.test("bash offers what fits", () =>
  withScripts(async (script, { env }) => {
    for (const [line, offers] of OFFERS) {
      const args = [fake("complete.bash"), script("bash"), ...line.split(" ")];
      const { stdout, stderr } = await run("bash", { args, env });
      assertEquals(stderr, "", line);
      assertEquals(stdout.trim().split("\n").sort(), offers, line);
    }
  }));

Deno.test("fish offers what fits", () =>
  withScripts(async (script, { env }) => {
    for (const [line, offers] of OFFERS) {
      const words = `source '${script("fish")}'; complete -C '${line}'`;
      const { stdout, stderr } = await run("fish", { args: ["--no-config", "-c", words], env });
      assertEquals(stderr, "", line);
      const found = stdout.trim().split("\n").map((offer) => offer.split("\t")[0]!);
      assertEquals(found.sort(), offers, line);
    }
  }));

Deno.test("zsh completes in an interactive shell", () =>
  withScripts(async (script, { env }) => {
    for (const [line, offers] of OFFERS) {
      const args = ["-f", fake("complete.zsh"), script("zsh"), line];
      const { stdout } = await run("zsh", { args, env, timeoutMs: 30_000 });
      const typed = line.slice(line.lastIndexOf(" ") + 1);
      // Of several, the beginning that they share; of one, all of it.
      const shared = offers.reduce((common, offer) => {
        let at = 0;
        while (at < common.length && common[at] === offer[at]) at++;
        return common.slice(0, at);
      });
      const expected = line.slice(0, line.length - typed.length) + (shared || typed);
      assertEquals(stdout.trimEnd(), expected.trimEnd(), line);
    }
  }));

Deno.test("gateway completions names the shells it knows", async () => {
  await using sandbox = await Sandbox.make();
  const { code, stderr } = await sandbox.gateway(["completions", "csh"]);
  assertEquals([code, stderr], [
    2,
    'error: Cannot complete for "csh"\n  why: the shells are bash, zsh, fish\n  fix: run `gateway completions bash`\n',
  ]);
});

Deno.test("the manual page has every command, and no reader complains", async () => {
  await using sandbox = await Sandbox.make();
  const { code, stdout } = await sandbox.gateway(["man"]);
  assertEquals(code, 0);
  const path = join(sandbox.top, "gateway.1");
  await Deno.writeTextFile(path, stdout);
  const lint = await run("mandoc", { args: ["-T", "lint", "-W", "warning", path], check: false });
  assertEquals([lint.code, lint.stdout], [0, ""]);
  const read = await run("man", {
    args: ["--warnings", "-l", path],
    env: { MANPAGER: "cat", MANWIDTH: "200", LC_ALL: "C.UTF-8" },
  });
  assertEquals(read.stderr, "");
  const text = read.stdout;
  const { stdout: help } = await sandbox.gateway(["--help"]);
  const listed = help.split("\nCommands:\n")[1]!.split("\nExample:")[0]!;
  const commands = [...listed.matchAll(/^ {2}([a-z]+)/gm)].map(([, name]) => name!);
  assert(commands.length > 20, help);
  const missing = commands.filter((name) =>
    name !== "help" && !new RegExp(`^ +gateway ${name}\\b`, "m").test(text)
  );
  assertEquals(missing, []);
  assertStringIncludes(text, "--source <log>");
  assertStringIncludes(text, "gateway logs -f --source cluster");
});
