/**
 * Figures of the one file: its sizes, what the first run costs, and its start against that of the sources.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { packForEmbedding } from "../../bootstrap/package/embed.ts";
import { makeOneFile } from "../../bootstrap/package/one_file.ts";
import { thisHost } from "../../vm/base/arch.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { run } from "../../vm/base/process.ts";
import { type Row, seconds, several } from "./row.ts";

const CLI = fromFileUrl(new URL("../../cli.ts", import.meta.url));
const MB = 1e6;

/** Makes the file both ways, and measures. */
export async function oneFileRows(): Promise<Row[]> {
  const dir = await Deno.makeTempDir({ prefix: "gw-" });
  try {
    const { signal } = new AbortController();
    const [plain, embedding] = [join(dir, "plain"), join(dir, "embedding")];
    await makeOneFile(plain, signal);
    const packed = await packForEmbedding(thisHost(), {
      span: silentSpan(),
      signal,
      assumeYes: true,
    });
    await makeOneFile(embedding, signal, packed);
    const size = async (path: string) => (await Deno.stat(path)).size / MB;
    const golden = packed.some(({ manifest }) => manifest.name === "golden");
    return [
      ...await startRows(plain, dir),
      { name: "one file", value: await size(plain), unit: "MB", limit: 130 },
      {
        name: "one file with what a start needs",
        value: await size(embedding),
        unit: "MB",
        limit: 350,
        note: golden ? "with the golden disk" : "without a golden disk: none was built",
      },
    ];
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function startRows(file: string, dir: string): Promise<Row[]> {
  const help = (cache: string) => () =>
    seconds(() => run(file, { args: ["--help"], env: { XDG_CACHE_HOME: cache } }));
  const first = await several(5, async () => {
    const cache = await Deno.makeTempDir({ dir });
    const figure = await help(cache)();
    await Deno.remove(cache, { recursive: true });
    return figure;
  });
  const cache = join(dir, "cache");
  await help(cache)();
  const next = await several(15, help(cache));
  const sources = await several(
    15,
    () => seconds(() => run(Deno.execPath(), { args: ["run", "-A", CLI, "--help"] })),
  );
  return [
    {
      name: "one file: first run beyond the next ones",
      // The slowest: whoever waits for it waits once.
      value: first.at(-1)! - next[0]!,
      unit: "s",
      limit: 1.5,
    },
    {
      name: "one file: --help against deno run",
      value: next[0]! / sources[0]!,
      unit: "x",
      limit: 1.3,
      note: `${Math.round(next[0]! * 1000)} and ${Math.round(sources[0]! * 1000)} ms`,
    },
  ];
}
