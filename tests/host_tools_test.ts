/**
 * Installing host tools and building Go programs, against a fake apt-get and a fake go. They change PATH, which is the
 * whole process's, so they are not beside their modules, whose tests run side by side.
 *
 * @module
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { GatewayError, interruptedError } from "../vm/base/error.ts";
import { silentSpan } from "../vm/base/event.ts";
import { ensureTools, type HostTool, missingTools } from "../vm/base/host_tools.ts";
import { run } from "../vm/base/process.ts";
import { ArtifactStore, type BuildContext } from "../vm/store/artifact.ts";
import { goBuild } from "../vm/store/go_build.ts";
import { type Fake, installFake, withPath } from "./fakes/install.ts";

const TOOLS: readonly HostTool[] = [
  { program: "gw-test-tool", debian: "gw-test-package" },
  { program: "gw-other-tool", debian: "gw-test-package" },
];
const options = () => ({
  span: silentSpan(),
  signal: new AbortController().signal,
  assumeYes: true,
});

/** Installing needs root, also with a fake: that is what the code asks for. */
function rootTest(name: string, fn: () => Promise<void>): void {
  Deno.test({ name: `${name} (needs root)`, ignore: Deno.uid() !== 0, fn });
}

rootTest("ensureTools() updates, installs each package once and sees the tools", async () => {
  await using fake = await installFake("apt_get.sh", "apt-get");
  await fake.set("brings", "gw-test-tool gw-other-tool");
  await withPath(fake.dir, () => ensureTools(TOOLS, options()), true);
  const common = "-o DPkg::Lock::Timeout=600 -o Acquire::Retries=3";
  assertEquals((await fake.get("calls")).trim().split("\n"), [
    `noninteractive ${common} update`,
    ...["gw-test-package --no-remove --download-only", "gw-test-package --no-remove"]
      .map((words) => `noninteractive ${common} install -y --no-install-recommends ${words}`),
  ]);
});

rootTest(
  "ensureTools() lets apt-get finish an installation when the user interrupts it",
  async () => {
    await using fake = await installFake("apt_get.sh", "apt-get");
    await fake.set("brings", "gw-test-tool gw-other-tool");
    await run("mkfifo", { args: [join(fake.dir, "begun"), join(fake.dir, "proceed")] });
    const user = new AbortController();
    await withPath(fake.dir, async () => {
      const done = assertRejects(
        () => ensureTools(TOOLS, { ...options(), signal: user.signal }),
        GatewayError,
      );
      await Deno.readTextFile(join(fake.dir, "begun"));
      user.abort(interruptedError());
      // It is gone by now if it was killed.
      const proceed = Deno.writeTextFile(join(fake.dir, "proceed"), "on\n", { create: false });
      assertEquals((await done).code, "interrupted");
      await proceed;
      assertEquals(missingTools(TOOLS), []);
    }, true);
  },
);

rootTest("ensureTools() says which tool a package did not bring", async () => {
  await using fake = await installFake("apt_get.sh", "apt-get");
  await fake.set("brings", "gw-test-tool");
  await withPath(fake.dir, async () => {
    const error = await assertRejects(() => ensureTools(TOOLS, options()), GatewayError);
    assertEquals([error.code, error.what], ["tool-missing", "Cannot find gw-other-tool"]);
  }, true);
});

rootTest("ensureTools() gives apt-get's own words when it fails", async () => {
  await using fake = await installFake("apt_get.sh", "apt-get");
  await fake.set("refuse", "E: Unable to locate package gw-test-package");
  await withPath(fake.dir, async () => {
    const error = await assertRejects(() => ensureTools(TOOLS, options()), GatewayError);
    assertEquals([error.code, error.what, error.why], [
      "tool-missing",
      "Cannot install gw-test-tool, gw-other-tool",
      "it ended with code 100: E: Unable to locate package gw-test-package",
    ]);
  }, true);
});

function contextIn(dir: string): BuildContext {
  return {
    outDir: join(dir, "out"),
    workDir: join(dir, "work"),
    logPath: join(dir, "log"),
    span: silentSpan(),
    signal: new AbortController().signal,
    jobs: 3,
    cacheDir: join(dir, "build"),
    store: new ArtifactStore(dir),
  };
}

async function fakeGo(version: string): Promise<Fake> {
  const fake = await installFake("go.sh", "go");
  await fake.set("version", version);
  for (const name of ["out", "module"]) await Deno.mkdir(join(fake.dir, name));
  return fake;
}

const build = (fake: Fake, experiments?: string[]) =>
  goBuild({
    experiments,
    moduleDir: join(fake.dir, "module"),
    pkg: "./cmd/x",
    output: "x",
    tags: ["netgo", "osusergo"],
    ldflags: "-X main.version=1",
    goarch: "arm64",
    ctx: contextIn(fake.dir),
  });

Deno.test("goBuild() builds in the module's folder with our flags and environment", async () => {
  await using fake = await fakeGo("go1.26.1");
  await withPath(fake.dir, () => build(fake));
  const lines = (await fake.get("out/x")).trim().split("\n");
  assertEquals(lines.filter((line) => line.startsWith("arg ")).map((line) => line.slice(4)), [
    "build",
    "-p=3",
    "-tags",
    "netgo,osusergo",
    "-ldflags",
    "-s -w -buildid= -X main.version=1",
    "-o",
    join(fake.dir, "out", "x"),
    "./cmd/x",
  ]);
  for (
    const wanted of [
      "CGO_ENABLED=0",
      "GOOS=linux",
      "GOARCH=arm64",
      `GOCACHE=${fake.dir}/build/go-build`,
      "GOTOOLCHAIN=local",
      join(fake.dir, "module"),
    ]
  ) assert(lines.includes(wanted), wanted);
});

Deno.test("goBuild() asks for the experiments that the toolchain knows, and builds without others", async () => {
  for (const [asked, given] of [["nogreen", "nogreen"], ["nosuch", ""]] as const) {
    await using fake = await fakeGo("go1.26.1");
    await withPath(fake.dir, () => build(fake, [asked]));
    assert((await fake.get("out/x")).split("\n").includes(`GOEXPERIMENT=${given}`), asked);
  }
});

Deno.test("goBuild() refuses a toolchain that is too old before it builds", async () => {
  await using fake = await fakeGo("go1.19.8");
  await withPath(fake.dir, async () => {
    const error = await assertRejects(() => build(fake), GatewayError);
    assertEquals([error.code, error.why], [
      "tool-missing",
      "it is go1.19.8 and 1.26 or later is needed",
    ]);
  });
  assertEquals(await fake.get("out/x"), "");
});

Deno.test("goBuild() fails with the end of the log", async () => {
  await using fake = await fakeGo("go1.26");
  await fake.set("refuse", "main.go:3: undefined: y");
  await withPath(fake.dir, async () => {
    const error = await assertRejects(() => build(fake), GatewayError);
    assertEquals([error.code, error.why, error.fix], [
      "build-failed",
      "it ended with code 1: main.go:3: undefined: y",
      `read ${join(fake.dir, "log")}`,
    ]);
  });
});
