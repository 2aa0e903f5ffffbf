/**
 * The file for a Mac as far as Linux can run it: its header with BSD's tar and stand-ins for what else is different there
 * (no flock, no sha256sum, stat's other options, uname), under each shell that can be /bin/sh on a Mac.
 *
 * @module
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { makeOneFile } from "../bootstrap/package/one_file.ts";
import { silentSpan } from "../vm/base/event.ts";
import { ensureTools } from "../vm/base/host_tools.ts";
import { run, spawnChild, which } from "../vm/base/process.ts";
import { MAC_TOOLS } from "./fakes/shell_tools.ts";

const { signal } = new AbortController();
await ensureTools(MAC_TOOLS, { span: silentSpan(), signal, assumeYes: true });

/** Programs that macOS has and that do the same there, as far as the header uses them. */
const SAME = [
  ..."cat chmod cmp df find head ls mkdir mv ps rm sed shasum sleep tail".split(" "),
];
const STAND_INS: Readonly<Record<string, string>> = {
  uname: '[ "$*" = -sm ] && echo "Darwin ${MACHINE:-arm64}"',
  sysctl: '[ "$*" = "-n sysctl.proc_translated" ] && echo "${TRANSLATED:-0}"',
  stat:
    `[ "$1 $2" = "-f %N %i %z %p %Fc" ] && shift 2 && exec /usr/bin/stat -c '%n %i %s %f %z' "$@"`,
  tar: `exec ${which("bsdtar")} "$@"`,
};
/** The runtime: a small program that says how it was started. */
const RUNTIME = '#!/bin/sh\nprintf "ran %s\\n" "$*"\n';

interface Mac {
  readonly top: string;
  readonly cache: string;
  /** Runs the file under a shell. */
  call(
    shell: readonly [string, ...string[]],
    env?: Record<string, string>,
  ): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }>;
}

/** Made once: it does not change. */
let made: Promise<string> | undefined;
const theFile = () =>
  made ??= (async () => {
    const dir = await Deno.makeTempDir({ prefix: "gw-mac-" });
    await Deno.writeTextFile(join(dir, "deno"), RUNTIME, { mode: 0o755 });
    const runtime = { path: join(dir, "deno"), system: "Darwin arm64" };
    await makeOneFile(join(dir, "gateway"), signal, [], runtime);
    return join(dir, "gateway");
  })();
globalThis.addEventListener("unload", () => {
  void made?.then((path) => Deno.removeSync(join(path, ".."), { recursive: true }));
});

async function withMac(body: (mac: Mac) => Promise<void>): Promise<void> {
  const top = await Deno.makeTempDir({ prefix: "gw-mac-" });
  try {
    const bin = join(top, "bin");
    await Deno.mkdir(bin);
    for (const name of SAME) await Deno.symlink(which(name)!, join(bin, name));
    for (const [name, text] of Object.entries(STAND_INS)) {
      await Deno.writeTextFile(join(bin, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    }
    const file = await theFile();
    const cache = join(top, "cache");
    await body({
      ...{ top, cache: join(cache, "gateway/file") },
      call: async ([shell, ...words], env = {}) => {
        const variables = { PATH: bin, HOME: top, XDG_CACHE_HOME: cache, ...env };
        return await run("/usr/bin/env", {
          args: ["-i", ...Object.entries(variables).map(([name, value]) => `${name}=${value}`)]
            .concat(which(shell)!, words, file, "list"),
          check: false,
          timeoutMs: 60_000,
        });
      },
    });
  } finally {
    await Deno.remove(top, { recursive: true });
  }
}

/** What is in the place of unpacking, a name each. */
const left = ({ cache }: Mac) => [...Deno.readDirSync(cache)].map(({ name }) => name).sort();

const SHELLS = [["dash"], ["bash", "--posix"], ["zsh", "--emulate", "sh"]] as const;

for (const shell of SHELLS) {
  Deno.test(`the Mac's file unpacks itself once under ${shell[0]} and starts its runtime`, () =>
    withMac(async (mac) => {
      const first = await mac.call(shell);
      assertEquals([first.code, first.stderr], [0, ""]);
      const [key] = left(mac);
      assertStringIncludes(first.stdout, `${mac.cache}/${key}/bundle/cli.js list\n`);
      assertEquals(left(mac), [key, `${key}.stamp`, `${key}.used`]);
      const inode = async () => (await Deno.stat(join(mac.cache, key!, "deno"))).ino;
      const before = await inode();
      assertEquals((await mac.call(shell)).stdout, first.stdout);
      assertEquals(await inode(), before);
      // What was touched is unpacked again.
      await Deno.writeTextFile(join(mac.cache, key!, "bundle/cli.js"), "changed");
      assertEquals((await mac.call(shell)).stdout, first.stdout);
      assertEquals(await inode() === before, false);
    }));
}

Deno.test("first runs of the Mac's file at the same time all work, and leave no lock", () =>
  withMac(async (mac) => {
    const runs = await Promise.all(Array.from({ length: 4 }, () => mac.call(["dash"])));
    assertEquals(runs.map(({ code, stderr }) => [code, stderr]), [
      ...Array.from({ length: 4 }, () => [0, ""]),
    ]);
    assertEquals(left(mac).length, 3);
  }));

Deno.test("the Mac's file takes the lock of a first run that was killed", () =>
  withMac(async (mac) => {
    await Deno.mkdir(join(mac.cache, "lock"), { recursive: true });
    // A pid beyond what Linux gives out.
    await Deno.writeTextFile(join(mac.cache, "lock/pid"), "4999999");
    assertEquals((await mac.call(["dash"])).code, 0);
    assertEquals(left(mac).length, 3);
  }));

Deno.test("the Mac's file removes versions that are not used, and none that runs", () =>
  withMac(async (mac) => {
    for (const [hour, key] of ["runs", "older", "old", "newer"].entries()) {
      await Deno.mkdir(join(mac.cache, key), { recursive: true });
      const used = new Date(Date.UTC(2020, 0, 1, hour));
      await Deno.writeTextFile(join(mac.cache, `${key}.used`), "");
      await Deno.utime(join(mac.cache, `${key}.used`), used, used);
    }
    const program = join(mac.cache, "runs/deno");
    await Deno.copyFile("/bin/sleep", program);
    await using _runs = spawnChild(program, { args: ["600"], ownGroup: true });
    assertEquals((await mac.call(["dash"])).code, 0);
    const folders = left(mac).filter((name) => !name.includes("."));
    assertEquals(folders.slice(1), ["newer", "runs"]);
  }));

Deno.test("the Mac's file runs under Rosetta's shells, and refuses an Intel Mac in one line", () =>
  withMac(async (mac) => {
    const intel = { MACHINE: "x86_64" };
    const { code, stderr } = await mac.call(["dash"], intel);
    assertEquals([code, stderr.split("\n")[1]], [
      ...[1, "  why: this file is for Darwin arm64, and this is Darwin x86_64"],
    ]);
    assertEquals((await mac.call(["dash"], { ...intel, TRANSLATED: "1" })).code, 0);
  }));
