/**
 * Figures that need no VM: start of the command line, a build with nothing to do, keys, sizes of artifacts.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";
import { ensureArtifacts } from "../../bootstrap/artifacts/ensure.ts";
import { ensurePki } from "../../bootstrap/credentials/pki.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { run } from "../../vm/base/process.ts";
import { TestHome } from "../vm/harness.ts";
import { median, type Row, seconds, several } from "./row.ts";

const CLI = fromFileUrl(new URL("../../cli.ts", import.meta.url));
const MIB = 1024 * 1024;

/** Measures. */
export async function hostRows(): Promise<Row[]> {
  const deno = (args: string[]) => () => seconds(() => run(Deno.execPath(), { args }));
  const empty = await several(15, deno(["eval", "0"]));
  const help = await several(15, deno(["run", "-A", CLI, "--help"]));
  const signal = new AbortController().signal;
  const span = silentSpan();
  const artifacts = await ensureArtifacts({ span, signal, assumeYes: true });
  await using home = await TestHome.make();
  const noop = await several(5, () => seconds(() => home.ok(["build", "all"])));
  const pki = await several(15, async () => {
    const dir = `${await Deno.makeTempDir({ dir: home.home })}/pki`;
    return await seconds(() => ensurePki(dir, { span, signal }));
  });
  return [
    {
      name: "gateway --help against deno eval 0",
      value: help[0]! / empty[0]!,
      unit: "x",
      limit: 2,
    },
    { name: "gateway build all with nothing to do", value: noop[0]!, unit: "s", limit: 1 },
    {
      name: "CA, server and client certificate, median",
      value: median(pki),
      unit: "s",
      limit: 0.5,
    },
    {
      name: "root image",
      value: artifacts.root.files["root.erofs"]!.sizeBytes / MIB,
      unit: "MiB",
      limit: 300,
    },
    {
      name: "kernel, packed",
      value: artifacts.kernel.files.bzImage!.sizeBytes / MIB,
      unit: "MiB",
      limit: 7.5,
    },
  ];
}
