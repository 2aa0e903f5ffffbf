/**
 * `deno task scan` as a process against a database on loopback, and the reading of lock files.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl } from "@std/path";
import { run } from "../vm/base/process.ts";
import { freePort } from "./fakes/registry.ts";
import { allParts, crates, goModules, npmPackages } from "./scan/parts.ts";

const ROOT = fromFileUrl(new URL("..", import.meta.url));

Deno.test("goModules() takes what is required, and what it is replaced by", () => {
  const text = `module gateway.local/x
go 1.26
require github.com/one/a v1.2.3
require (
	k8s.io/api v0.0.0
	k8s.io/b v0.1.0 // indirect
)
replace (
	k8s.io/api => k8s.io/api v0.37.2
)
replace k8s.io/b v0.1.0 => example.com/b v0.1.1
`;
  assertEquals(goModules(text), [
    { name: "github.com/one/a", version: "1.2.3" },
    { name: "k8s.io/api", version: "0.37.2" },
    { name: "example.com/b", version: "0.1.1" },
  ]);
});

Deno.test("crates() and npmPackages() take registries' packages with their versions", () => {
  const cargo = `version = 4\n\n[[package]]\nname = "ours"\nversion = "0.0.0"\n\n[[package]]
name = "libc"\nversion = "0.2.1"\nsource = "registry+https://x"\n`;
  assertEquals(crates(cargo), [{ name: "libc", version: "0.2.1" }]);
  const lock = { npm: { "@a/b@1.4.0_jsep@1.6.0": {}, "tar-stream@3.2.2": {} } };
  assertEquals(npmPackages(JSON.stringify(lock)), [
    { name: "@a/b", version: "1.4.0" },
    { name: "tar-stream", version: "3.2.2" },
  ]);
});

Deno.test("allParts() finds the parts of the project in each of its kinds of lock files", async () => {
  const parts = await allParts(ROOT);
  for (
    const [file, name] of [
      ["rootfs/kubenode/go.mod", "k8s.io/kubernetes"],
      ["net/gvproxy/go.mod", "github.com/containers/gvisor-tap-vsock"],
      ["vm/libkrun/crate/Cargo.lock", "libkrun"],
      ["deno.lock", "valibot"],
    ]
  ) assert(parts.some((part) => part.file === file && part.name === name), `${file}: ${name}`);
  assertEquals(parts.filter(({ version }) => !/^\d/.test(version)), []);
});

interface Query {
  readonly package: { readonly name: string; readonly ecosystem: string };
  readonly version: string;
  readonly page_token?: string;
}

/** The task's exit code and output against a database that answers like this. */
async function scan(answer: (query: Query) => object, status = 200) {
  const asked: Query[] = [];
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const { queries } = await request.json() as { queries: Query[] };
      asked.push(...queries);
      return Response.json({ results: queries.map(answer) }, { status });
    },
  );
  return { ...await task(`http://127.0.0.1:${server.addr.port}`), asked };
}

async function task(url: string) {
  const { code, stdout } = await run(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "--quiet", `${ROOT}tests/scan/main.ts`],
    env: { GATEWAY_OSV_URL: url, NO_COLOR: "1" },
    check: false,
    timeoutMs: 120_000,
  });
  return { code, stdout };
}

Deno.test("deno task scan exits with 0 when nothing is known, and asks about every package", async () => {
  const { code, stdout, asked } = await scan(() => ({}));
  assertEquals(code, 0, stdout);
  assertStringIncludes(stdout, " scanned, 0 with known vulnerabilities");
  const ecosystems = new Set(asked.map((query) => query.package.ecosystem));
  assertEquals([...ecosystems].sort(), ["Go", "crates.io", "npm"]);
  assert(asked.length >= (await allParts(ROOT)).length);
});

Deno.test("deno task scan exits with 1 and names file, package and every page's id when something is known", async () => {
  const { code, stdout } = await scan(({ package: { name }, page_token: token }) => {
    if (name !== "libkrun") return {};
    return token ? { vulns: [{ id: "B-2" }] } : { vulns: [{ id: "A-1" }], next_page_token: "2" };
  });
  assertEquals(code, 1, stdout);
  assert(/^vm\/libkrun\/crate\/Cargo\.lock: libkrun \S+: A-1, B-2$/m.test(stdout), stdout);
});

Deno.test("deno task scan exits with 3 and says so when the database cannot be asked", async () => {
  const outcomes = [
    await task(`http://127.0.0.1:${freePort()}`),
    await scan(() => ({}), 500),
    await scan(() => ({ vulns: "many" })),
  ];
  for (const { code, stdout } of outcomes) {
    assertEquals(code, 3, stdout);
    assertStringIncludes(stdout, "NOT SCANNED: ");
    assert(!stdout.includes(" scanned, "), stdout);
  }
});
