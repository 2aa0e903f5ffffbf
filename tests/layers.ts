/**
 * Runs the fuzz target of the memory layers' reader (tests/layers/fuzz.c) under the compiler's sanitizers.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { run } from "../vm/base/process.ts";

const ROOT = fromFileUrl(new URL("..", import.meta.url));
const SEEDS = join(ROOT, "tests/layers/seeds");

const FLAGS = [
  ...["-g", "-O1", "-Wall", "-Wextra", "-Werror"],
  ...["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
];

async function compile(dir: string): Promise<string> {
  const program = join(dir, "fuzz");
  const objects: string[] = [];
  for (const name of ["layers", "adopt", "common"]) {
    objects.push(join(dir, `${name}.o`));
    // Only the reader's own code tells where an input leads.
    await run("cc", {
      args: [
        ...[...FLAGS, "-fsanitize-coverage=trace-pc", "-c", "-o", objects.at(-1)!],
        join(ROOT, "vm/qemu/ramshim", `${name}.c`),
      ],
    });
  }
  const source = join(ROOT, "tests/layers/fuzz.c");
  await run("cc", { args: [...FLAGS, "-Wl,--wrap=complain", "-o", program, source, ...objects] });
  return program;
}

/** The seeds and so many changed ones; the same seed of the random numbers gives the same inputs. */
export function testLayerReader(runs: number, random: number): void {
  const name = `the reader of memory layers stands ${runs} changed files`;
  Deno.test({ name, ignore: Deno.build.os !== "linux" }, async () => {
    const dir = await Deno.makeTempDir({ prefix: "gateway-layers-" });
    const crash = join(dir, "crash");
    const seeds = [...Deno.readDirSync(SEEDS)].map(({ name }) => join(SEEDS, name)).sort();
    const { code, stderr } = await run(await compile(dir), {
      args: [String(runs), String(random), ...seeds],
      env: { CRASH: crash },
      timeoutMs: 30 * 60_000,
      niceness: 10,
      check: false,
    });
    // The file stays after a failure: it belongs into the seeds.
    assertEquals(code, 0, `seed ${random}, input ${crash}\n${stderr.slice(0, 4000)}`);
    await Deno.remove(dir, { recursive: true });
  });
}
