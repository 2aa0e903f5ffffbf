/**
 * An arm64 guest beside an amd64 one, both emulated, in one run: to a program's end, from the golden disk to READY, and
 * a new instance from the golden state.
 *
 * @module
 */
import { ensureArtifacts } from "../../bootstrap/artifacts/ensure.ts";
import { kernelFile } from "../../kernel/kernel.ts";
import { type Arch, ARCHES } from "../../vm/base/arch.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { Client } from "../vm/client.ts";
import { freePort, TestHome } from "../vm/harness.ts";
import { median, medianRow, type Row, seconds, several } from "./row.ts";

const SIZE = ["--memory", "3072", "--cpus", "2"];
const BUILD_TIMEOUT_MS = 120 * 60_000;
const UP_TIMEOUT_MS = 20 * 60_000;
const TIMES = 3;
const MIB = 1024 * 1024;

/** Measures. */
export async function arm64Rows(): Promise<Row[]> {
  await using home = await TestHome.make();
  for (const arch of ARCHES) {
    await home.ok(["build", "golden", "--arch", arch, ...SIZE], { timeoutMs: BUILD_TIMEOUT_MS });
  }
  const each = async (measure: (arch: Arch) => Promise<number>) => {
    const [amd64, arm64] = [
      await several(TIMES, () => measure("amd64")),
      await several(TIMES, () => measure("arm64")),
    ];
    return { amd64, arm64 };
  };
  const program = await each((arch) =>
    seconds(() => home.ok(["--arch", arch, "--exec", "/bin/true"]))
  );
  const disk = await each((arch) => start(home, arch, "--cold"));
  const state = await each((arch) => start(home, arch));
  return [
    ratio("arm64: --exec /bin/true, against amd64", program),
    ratio("arm64: golden disk to an answer, against amd64", disk),
    {
      ...medianRow("arm64: new instance from the golden state to an answer", state.arm64, 5),
      note: `worst ${state.arm64.at(-1)!.toFixed(2)} s; of amd64 ${
        median(state.amd64).toFixed(2)
      } s`,
    },
    {
      ...{ name: "arm64: the kernel's Image, packed by gzip", value: await packedMiB() },
      ...{ unit: "MiB", limit: 8 },
    },
  ];
}

/** Seconds until a new instance answers its client; it is removed. */
async function start(home: TestHome, arch: Arch, ...flags: string[]): Promise<number> {
  const client = new Client(home);
  const port = ["--port", `${freePort()}:30051`];
  const took = await seconds(async () => {
    await home.ok(["up", "--detach", "--arch", arch, ...port, ...SIZE, ...flags], {
      timeoutMs: UP_TIMEOUT_MS,
    });
    if (!await client.answers()) throw new Error("it does not answer");
  });
  await home.ok(["rm", "--force", "default"]);
  return took;
}

function ratio(
  name: string,
  { amd64, arm64 }: Readonly<Record<Arch, readonly number[]>>,
): Row {
  const [one, other] = [median(arm64), median(amd64)];
  const note = `${one.toFixed(1)} and ${other.toFixed(1)} s, medians of ${TIMES}`;
  return { name, value: one / other, unit: "x", limit: 1.6, note };
}

async function packedMiB(): Promise<number> {
  const { kernel } = await ensureArtifacts({
    ...{ span: silentSpan(), signal: new AbortController().signal, assumeYes: true },
    config: { vmm: "auto", arch: "arm64" },
  });
  const file = await Deno.open(kernelFile(kernel).path);
  let bytes = 0;
  for await (const piece of file.readable.pipeThrough(new CompressionStream("gzip"))) {
    bytes += piece.length;
  }
  return bytes / MIB;
}
