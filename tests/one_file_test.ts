// deno-lint-ignore-file no-console
/**
 * The one file as a program: it is what the sources are, unpacks itself once, and says what keeps it from that. Made
 * here as `deno task compile` makes it.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { bundle, makeApp } from "../bootstrap/package/app.ts";
import { compile } from "../bootstrap/package/compile.ts";
import { makeOneFile } from "../bootstrap/package/one_file.ts";
import { BUNDLE_FLAGS } from "../bootstrap/run/self.ts";
import { digestFile } from "../vm/base/digest.ts";
import { exists } from "../vm/base/layout.ts";
import { run, spawnChild, which } from "../vm/base/process.ts";
import { waitFor } from "../vm/base/wait.ts";
import { entitlementsPlist } from "../vm/libkrun/signed_runtime.ts";
import { installFake, withPath } from "./fakes/install.ts";
import { denoArgs, Sandbox } from "./sandbox.ts";

const here = (name: string) => fromFileUrl(new URL(name, import.meta.url));
const { signal } = new AbortController();

/** Made once; the tests copy what they damage. */
let made: Promise<string> | undefined;
const theFile = () =>
  made ??= (async () => {
    const path = join(await Deno.makeTempDir({ prefix: "gw-one-" }), "gateway");
    await makeOneFile(path, signal);
    return path;
  })();
globalThis.addEventListener("unload", () => {
  void made?.then((path) => Deno.removeSync(join(path, ".."), { recursive: true }));
});

/** What the file gets of a user, without a Deno of theirs. */
function envOf({ env: { DENO_DIR: _, ...env } }: Sandbox): Record<string, string> {
  return env;
}

async function call(sandbox: Sandbox, args: readonly string[], path?: string) {
  const program = path ?? await theFile();
  return await run(program, { args, env: envOf(sandbox), check: false, timeoutMs: 60_000 });
}

const unpackedIn = (sandbox: Sandbox) => join(sandbox.env.XDG_CACHE_HOME, "gateway/file");

/** The folders and what else is in the place of unpacking, without the runtime's own cache. */
function unpacked(sandbox: Sandbox): string[] {
  return [...Deno.readDirSync(unpackedIn(sandbox))].map(({ name }) => name)
    .filter((name) => !["deno", "lock"].includes(name) && !name.endsWith(".used")).sort();
}

Deno.test("the one file says the same as the sources, and comes with what they are", async () => {
  await using sandbox = await Sandbox.make();
  for (
    const args of [["--help"], ["up", "--help"], ["list", "--json"], ["status"], [
      "up",
      "--net",
      "x",
    ]]
  ) {
    const [one, sources] = await Promise.all([call(sandbox, args), sandbox.gateway(args)]);
    assertEquals([one.code, one.stdout, one.stderr], [
      ...[sources.code, sources.stdout, sources.stderr],
    ]);
  }
  const ours = (await sandbox.gateway(["--version"])).stdout.split("\n");
  const version = (await call(sandbox, ["--version"])).stdout.split("\n");
  assertEquals(version.slice(0, 3), ours.slice(0, 3));
  assertStringIncludes(version[3]!, "one file");
  assert((await Deno.stat(await theFile())).size <= 130e6);
});

Deno.test("the one file says in one line that it is for another system, and unpacks nothing", async () => {
  const dir = await Deno.makeTempDir({ prefix: "gw-one-" });
  try {
    await using sandbox = await Sandbox.make();
    const path = join(dir, "gateway");
    await makeOneFile(path, signal, [], { path: "/bin/true", system: "Linux riscv64" });
    const { code, stdout, stderr } = await call(sandbox, ["--version"], path);
    const here = (await run("uname", { args: ["-sm"] })).stdout.trim();
    assertEquals([code, stdout, stderr.split("\n")], [1, "", [
      "error: Cannot unpack gateway",
      `  why: this file is for Linux riscv64, and this is ${here}`,
      "  fix: get the file for this system",
      "",
    ]]);
    assertEquals(await exists(join(unpackedIn(sandbox), "lock")), false);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("the one file is the same when it is made again", async () => {
  const again = join(await Deno.makeTempDir({ prefix: "gw-one-" }), "gateway");
  try {
    await makeOneFile(again, signal);
    assertEquals(await digestFile(again), await digestFile(await theFile()));
  } finally {
    await Deno.remove(join(again, ".."), { recursive: true });
  }
});

Deno.test("every recipe has the same key from a bundle as from the sources", async () => {
  await using sandbox = await Sandbox.make();
  const app = join(sandbox.top, "app");
  await makeApp(app, { entry: here("fakes/keys.ts"), built: "a test", signal });
  const env = envOf(sandbox);
  const options = { env: { ...env, DENO_DIR: sandbox.env.DENO_DIR }, timeoutMs: 60_000 };
  const [bundled, sources] = await Promise.all([
    run(Deno.execPath(), { args: [...BUNDLE_FLAGS, join(app, "bundle/keys.js")], ...options }),
    run(Deno.execPath(), { args: denoArgs(here("fakes/keys.ts"), []), ...options }),
  ]);
  assertEquals(bundled.stdout, sources.stdout);
  assert(sources.stdout.split("\n").length > 15, sources.stdout);
});

Deno.test("what it unpacked is used again, and made again when something of it was touched", async () => {
  await using sandbox = await Sandbox.make();
  await call(sandbox, ["--help"]);
  const [key, stamp, ...rest] = unpacked(sandbox);
  assertEquals([`${key}.stamp`, rest], [stamp, []]);
  const dir = join(unpackedIn(sandbox), key!);
  assertEquals((await Deno.stat(dir)).mode! & 0o777, 0o700);
  const runtime = join(dir, "deno");
  const inode = async () => (await Deno.stat(runtime)).ino;
  const first = await inode();
  await call(sandbox, ["list"]);
  assertEquals(await inode(), first);
  const damages = [
    () => Deno.truncate(runtime, 50_000_000),
    () => Deno.writeTextFile(join(dir, "bundle/cli.js"), "Deno.exit(9);"),
    () => Deno.remove(join(dir, "vm/qemu/ramshim/ramshim.c")),
    () => Deno.writeTextFile(join(dir, "net/gvproxy/more.go"), "package main"),
    () => Deno.chmod(runtime, 0o600),
    () => Deno.remove(dir, { recursive: true }),
    () => Deno.remove(join(unpackedIn(sandbox), stamp!)),
  ];
  for (const damage of damages) {
    const before = await inode();
    // Held open, so that its number goes to no other file when the damage removes it.
    using _held = await Deno.open(runtime);
    await damage();
    const { code, stderr } = await call(sandbox, ["list", "--json"]);
    assertEquals([code, stderr], [0, ""], String(damage));
    assert(await inode() !== before, String(damage));
    assertEquals(await exists(join(dir, "net/gvproxy/more.go")), false);
    assertEquals(unpacked(sandbox), [key, stamp]);
  }
});

Deno.test("first runs at the same time all work, and leave one folder", async () => {
  await using sandbox = await Sandbox.make();
  const runs = await Promise.all(
    Array.from({ length: 4 }, () => call(sandbox, ["list", "--json"])),
  );
  assertEquals(runs.map(({ code, stdout, stderr }) => [code, stdout, stderr]), [
    ...Array.from({ length: 4 }, () => [0, "[]\n", ""]),
  ]);
  assertEquals(unpacked(sandbox).length, 2);
});

Deno.test("what a killed first run left is swept by the next", async () => {
  await using sandbox = await Sandbox.make();
  // A pid beyond what Linux gives out.
  await Deno.mkdir(join(unpackedIn(sandbox), ".new-4999999"), { recursive: true });
  assertEquals((await call(sandbox, ["--help"])).code, 0);
  assertEquals(unpacked(sandbox).length, 2);
});

Deno.test("a first run leaves the two versions used last, and any that runs", async () => {
  await using sandbox = await Sandbox.make();
  const top = unpackedIn(sandbox);
  const put = async (key: string, hour: number) => {
    await Deno.mkdir(join(top, key), { recursive: true });
    for (const end of ["stamp", "used"]) await Deno.writeTextFile(join(top, `${key}.${end}`), "");
    const used = new Date(Date.UTC(2020, 0, 1, hour));
    await Deno.utime(join(top, `${key}.used`), used, used);
  };
  for (const [hour, key] of ["runs", "older", "old", "newer"].entries()) await put(key, hour);
  await Deno.copyFile("/bin/sleep", join(top, "runs/deno"));
  await using _child = spawnChild(join(top, "runs/deno"), { args: ["600"], ownGroup: true });
  assertEquals((await call(sandbox, ["list", "--json"])).stdout, "[]\n");
  const left = unpacked(sandbox).filter((name) => !name.endsWith(".stamp"));
  assertEquals(left.slice(1), ["newer", "runs"]);
  assertEquals(left.length, 3);
  assertEquals(await exists(join(top, "old.stamp")), false);
});

Deno.test("what a start of the bundle reads brings no module of node", async () => {
  const dir = await Deno.makeTempDir({ prefix: "gw-" });
  try {
    await bundle("cli.ts", dir, signal);
    const files = ["cli.js"];
    for (const name of files) {
      const text = await Deno.readTextFile(join(dir, name));
      assertEquals(/^import .*"(node:[^"]*)"/m.exec(text)?.[1], undefined, name);
      files.push(...[...text.matchAll(/^(?:import |\} from )"\.\/(.+)"/gm)].map((one) => one[1]!));
    }
    assert(files.length > 1);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("a file that was cut or changed is refused, and leaves nothing", async () => {
  await using sandbox = await Sandbox.make();
  const copy = join(sandbox.top, "gateway");
  const changeAt = async (at: number) => {
    using file = await Deno.open(copy, { write: true });
    await file.seek(at, Deno.SeekMode.Start);
    await file.write(new TextEncoder().encode("changed"));
  };
  const { size } = await Deno.stat(await theFile());
  const damages = [
    () => Deno.truncate(copy, size - 700_000),
    () => Deno.truncate(copy, 20_000),
    () => changeAt(40_000_000),
    () => changeAt(size - 300_000),
  ];
  for (const damage of damages) {
    await Deno.copyFile(await theFile(), copy);
    await damage();
    const { code, stdout, stderr } = await call(sandbox, ["--help"], copy);
    assertEquals([code, stdout], [1, ""]);
    assertEquals(
      stderr,
      [
        "error: Cannot unpack gateway",
        `  why: ${copy} is cut or changed: its bytes do not have the digests in it`,
        "  fix: get the file again\n",
      ].join("\n"),
    );
    assertEquals(unpacked(sandbox), []);
  }
});

Deno.test("a cache that cannot be used is told", async (t) => {
  await using sandbox = await Sandbox.make();
  const program = await theFile();
  const inFile = join(sandbox.top, "plain");
  await Deno.writeTextFile(inFile, "");
  const { code, stderr } = await run(program, {
    args: ["list"],
    env: { ...envOf(sandbox), XDG_CACHE_HOME: inFile },
    check: false,
  });
  assertEquals(code, 1);
  assertStringIncludes(stderr, `  why: ${inFile}/gateway/file cannot be written: mkdir: `);
  assertStringIncludes(stderr, "  fix: set XDG_CACHE_HOME to a folder that you can write to\n");
  const probe = await run("unshare", { args: ["-m", "true"], check: false });
  for (
    const [options, why] of [
      ["ro", "cannot be written"],
      ["noexec", "may not be run: its file system is mounted noexec"],
      ["size=40m", "cannot be written"],
    ] as const
  ) {
    const ignore = probe.code !== 0;
    if (ignore) console.log(`skipped, a cache mounted ${options}: ${probe.stderr}`);
    await t.step({
      name: `mounted ${options}`,
      ignore,
      fn: async () => {
        const mount = 'mount -t tmpfs -o "$1" gw "$XDG_CACHE_HOME" && exec "$2" list';
        const found = await run("unshare", {
          args: ["-m", "sh", "-c", mount, "sh", options, program],
          env: envOf(sandbox),
          check: false,
          timeoutMs: 60_000,
        });
        assertEquals([found.code, found.stdout], [1, ""], found.stderr);
        assertStringIncludes(found.stderr, "error: Cannot unpack gateway\n");
        assertStringIncludes(found.stderr, why);
      },
    });
  }
});

Deno.test("it needs no program beyond Debian's essential ones, and no HOME when XDG names its folders", async () => {
  await using sandbox = await Sandbox.make();
  const bin = join(sandbox.top, "bin");
  await Deno.mkdir(bin);
  for (
    const name of [
      ..."chmod cmp df find flock head ls mkdir mv rm sha256sum tail tar uname".split(" "),
    ]
  ) await Deno.symlink(which(name)!, join(bin, name));
  const { HOME: _, ...env } = envOf(sandbox);
  const { code, stdout, stderr } = await run("/usr/bin/env", {
    args: ["-i", ...Object.entries({ ...env, PATH: bin }).map(([k, v]) => `${k}=${v}`)]
      .concat(await theFile(), "list", "--json"),
    check: false,
  });
  assertEquals([code, stdout, stderr], [0, "[]\n", ""]);
});

Deno.test("the runtime takes the shell's place: signals reach it and its exit code is the file's", async () => {
  await using sandbox = await Sandbox.make();
  const fifo = join(sandbox.top, "fifo");
  await run("mkfifo", { args: [fifo] });
  // Reads a key out of something that never comes.
  await using child = spawnChild(await theFile(), {
    args: ["keys", "trust", fifo],
    env: envOf(sandbox),
    ownGroup: true,
  });
  const status = () => Deno.readTextFile(`/proc/${child.pid}/status`);
  await waitFor({
    what: "the runtime with its signal handlers",
    probe: async () => {
      const program = await Deno.readLink(`/proc/${child.pid}/exe`);
      const caught = /^SigCgt:\s*(\S+)/m.exec(await status())?.[1] ?? "0";
      return program.endsWith("/deno") && (BigInt(`0x${caught}`) & 2n) !== 0n || undefined;
    },
    timeoutMs: 20_000,
  });
  Deno.kill(child.pid, "SIGINT");
  await waitFor({
    what: "the end after the second signal",
    probe: () => {
      try {
        Deno.kill(child.pid, "SIGINT");
        return Promise.resolve(undefined);
      } catch {
        return Promise.resolve(true);
      }
    },
    timeoutMs: 20_000,
    intervalMs: 100,
  });
  assertEquals((await child.exited).code, 130);
});

Deno.test("where deno compile works it is asked for a program that unpacks its sources", async () => {
  await using sandbox = await Sandbox.make();
  const fake = join(sandbox.top, "deno");
  const log = join(sandbox.top, "log");
  await Deno.writeTextFile(fake, `#!/bin/sh\nprintf '%s\\n' "$*" >>"${log}"\n`, { mode: 0o755 });
  const said: string[] = [];
  const path = join(sandbox.top, "gateway");
  await compile({ path, signal, deno: fake, say: (text) => said.push(text) });
  const [probe = "", asked = ""] = (await Deno.readTextFile(log)).split("\n");
  assert(probe.startsWith("compile --quiet --no-config --output "), probe);
  assert(
    asked.startsWith(`compile -A --quiet --no-check --self-extracting --output ${path} --include `),
  );
  for (
    const name of [
      "deno.json",
      "vm/qemu/ramshim/ramshim.c",
      "net/gvproxy/go.mod",
      "dist/package.json",
    ]
  ) {
    assertStringIncludes(asked, ` --include ${name} `);
  }
  assert(asked.endsWith(" cli.ts"), asked);
  assertEquals(said, [`${path}: made by deno compile`]);
});

Deno.test("on macOS what deno compile made is signed with the entitlements of a VM", async () => {
  await using sandbox = await Sandbox.make();
  await using tools = await installFake("codesign.sh", "codesign");
  const deno = join(sandbox.top, "deno");
  const path = join(sandbox.top, "gateway");
  await Deno.writeTextFile(deno, `#!/bin/sh\necho made >"${path}"\n`, { mode: 0o755 });
  await withPath(tools.dir, () => compile({ path, signal, deno, os: "darwin", say: () => {} }));
  const plist = `${path}.entitlements`;
  assertEquals(await tools.get("calls"), `--sign - --force --entitlements ${plist} ${path}\n`);
  assertEquals(await Deno.readTextFile(path), "made\nsigned\n");
  assertEquals(await Deno.readTextFile(plist), entitlementsPlist());
});

Deno.test("where deno compile does not work the reason is told, and the file made all the same", async () => {
  await using sandbox = await Sandbox.make();
  const fake = join(sandbox.top, "deno");
  const words =
    "error: Get a runtime\\n\\nCaused by:\\n    0: no route\\n\\nStack backtrace:\\n 0: x\\n";
  await Deno.writeTextFile(fake, `#!/bin/sh\nprintf '${words}' >&2\nexit 1\n`, { mode: 0o755 });
  const said: string[] = [];
  const path = join(sandbox.top, "gateway");
  await compile({ path, signal, deno: fake, say: (text) => said.push(text) });
  assertEquals(said[0], "deno compile does not work here: no route");
  assertEquals((await call(sandbox, ["list", "--json"], path)).stdout, "[]\n");
});
