/**
 * Runs the Go fuzz targets of the project's modules for some seconds each. What a target finds is written to the
 * package's testdata/fuzz, to be committed as a seed beside the fix.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { dirname, fromFileUrl, join, relative } from "@std/path";
import { cacheDir } from "../vm/base/layout.ts";
import { run, which } from "../vm/base/process.ts";
import { goEnv } from "../vm/store/go_build.ts";

const ROOT = fromFileUrl(new URL("..", import.meta.url));

/** Modules that read what a guest, a registry or a user wrote. Every `func Fuzz…` in them is a target. */
const MODULES = ["net/gvproxy", "rootfs/agent", "rootfs/kubenode", "rootfs/ocipull"];

/** Packages for test-long only: small formats, and what takes long to compile. */
const LONG_ONLY = ["childenv", "crconfig", "imageload", "imagerecord", "netpol"]
  .map((name) => `rootfs/kubenode/internal/${name}`);
const LONG_SECONDS = 60;

/** Go fails a target whose time ends while its workers still start an input. */
const OUT_OF_TIME = /^--- FAIL: \w+ \([\d.]+s\)\n\s+context deadline exceeded\nFAIL\n*$/m;

/** Small inputs are of no use to us while larger ones wait. */
const MINIMIZE = "-test.fuzzminimizetime=100x";

interface Package {
  readonly module: string;
  /** Its folder, from the module. */
  readonly dir: string;
  readonly targets: readonly string[];
}

/** The packages of a module that have targets. */
function fuzzedPackages(module: string): Package[] {
  const targets = new Map<string, string[]>();
  const walk = (dir: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(dir)) {
      const path = join(dir, name);
      if (isDirectory) walk(path);
      else if (name.endsWith("_test.go")) {
        const names = Deno.readTextFileSync(path).matchAll(/^func (Fuzz\w*)\(/gm);
        const known = targets.get(dirname(path)) ?? [];
        targets.set(dirname(path), [...known, ...[...names].map(([, target]) => target!)]);
      }
    }
  };
  walk(join(ROOT, module));
  return [...targets].filter(([, names]) => names.length > 0).map(([dir, names]) => ({
    module,
    dir: relative(join(ROOT, module), dir),
    targets: names.sort(),
  })).sort((a, b) => (a.dir < b.dir ? -1 : 1));
}

/** One test for each package: it is compiled once, then its targets run one after the other. */
export function testGoTargets(seconds: number): void {
  const packages = MODULES.flatMap(fuzzedPackages);
  Deno.test("the modules that read what others wrote have fuzz targets", () => {
    const found = new Set(packages.map(({ module }) => module));
    assertEquals(MODULES.filter((module) => !found.has(module)), []);
    const names = packages.map(({ module, dir }) => join(module, dir));
    assertEquals(LONG_ONLY.filter((name) => !names.includes(name)), []);
  });
  for (const one of packages) {
    if (seconds < LONG_SECONDS && LONG_ONLY.includes(join(one.module, one.dir))) continue;
    Deno.test({
      name: `${join(one.module, one.dir)} stands ${seconds} s of each of ${
        one.targets.join(", ")
      } (skipped without go)`,
      ignore: which("go") === undefined,
      fn: (t) => fuzzPackage(one, seconds, t),
    });
  }
}

async function fuzzPackage(
  { module, dir, targets }: Package,
  seconds: number,
  t: Deno.TestContext,
): Promise<void> {
  const temp = await Deno.makeTempDir({ prefix: "gateway-fuzz-" });
  try {
    const program = join(temp, "fuzz.test");
    await run("go", {
      args: ["test", "-c", "-fuzz=Fuzz", "-o", program, `./${dir}`],
      cwd: join(ROOT, module),
      // Without kubenode's experiments: what all modules share is compiled once with the counters of fuzzing.
      env: goEnv(join(cacheDir(), "build")),
      timeoutMs: 20 * 60_000,
      niceness: 10,
    });
    for (const target of targets) {
      await t.step(target, async () => {
        const { code, stdout, stderr } = await run(program, {
          args: [
            ...["-test.run=^$", `-test.fuzz=^${target}$`, `-test.fuzztime=${seconds}s`, MINIMIZE],
            // What a short run finds interesting is not kept, so that each begins with the seeds.
            `-test.fuzzcachedir=${
              seconds < LONG_SECONDS
                ? join(temp, "found")
                : join(cacheDir(), "build", "go-fuzz", module, dir)
            }`,
          ],
          cwd: join(ROOT, module, dir),
          timeoutMs: (seconds + 120) * 1000,
          niceness: 10,
          check: false,
        });
        const said = stdout + stderr;
        assert(code === 0 || OUT_OF_TIME.test(said) && !said.includes("Failing input"), said);
        assert(stderr.includes("execs: "), stderr);
      });
    }
  } finally {
    await Deno.remove(temp, { recursive: true });
  }
}
