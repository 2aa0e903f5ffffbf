import { assert, assertEquals, assertNotEquals } from "@std/assert";
import type { ArtifactManifest } from "../../vm/store/artifact.ts";
import { whyCustom } from "../inspect/provenance.ts";
import { debianPurl, imageSetKey, provenanceStatement } from "./statement.ts";

function manifest(name: string, over: Partial<ArtifactManifest> = {}): ArtifactManifest {
  return {
    schemaVersion: 1,
    name,
    label: name,
    key: `key-of-${name}`,
    inputs: {},
    files: { [`${name}.bin`]: { sha256: "a".repeat(64), sizeBytes: 1 } },
    facts: {},
    builtAt: "2026-01-02T03:04:05.000Z",
    buildMs: 1000,
    ...over,
  };
}

const artifact = (one: ArtifactManifest) => ({ name: one.name, key: one.key, manifest: one });

Deno.test("provenanceStatement() has the form of in-toto and SLSA, every file and every source", () => {
  const kernel = manifest("kernel", {
    inputs: { arch: "x86_64", options: "b".repeat(64) },
    facts: {
      sourcePackage: "linux-source-6.12",
      sourceVersion: "6.12.9-1~deb12u1",
      sourceSha256: "c".repeat(64),
      lockFiles: { "lock.json": "d".repeat(64) },
    },
    builder: {
      gateway: "0.1.0",
      gitCommit: `${"e".repeat(40)}-dirty`,
      runtime: "deno 2.9.6",
      host: "linux",
      tools: { gcc: "4:12.2.0-3" },
    },
  });
  const root = manifest("root", { facts: { packages: { runc: "1.1+ds1-2" } } });
  const part = manifest("agent", {
    inputs: { source: "f".repeat(64) },
    builtAt: "2026-01-01T00:00:00.000Z",
  });
  const statement = provenanceStatement([artifact(kernel), artifact(root)], [part]);
  assertEquals([statement._type, statement.predicateType], [
    "https://in-toto.io/Statement/v1",
    "https://slsa.dev/provenance/v1",
  ]);
  assertEquals(statement.subject.map(({ name }) => name), ["kernel/kernel.bin", "root/root.bin"]);
  assertEquals(statement.subject[0]?.digest, { sha256: "a".repeat(64) });
  const { buildDefinition, runDetails } = statement.predicate;
  assertEquals(buildDefinition.resolvedDependencies, [
    {
      uri: "pkg:deb/debian/linux-source-6.12@6.12.9-1~deb12u1",
      digest: { sha256: "c".repeat(64) },
    },
    { name: "kernel: options", digest: { sha256: "b".repeat(64) } },
    { name: "kernel: lock.json", digest: { sha256: "d".repeat(64) } },
    { name: "kernel: gateway", digest: { gitCommit: "e".repeat(40) } },
    { uri: "pkg:deb/debian/runc@1.1%2Bds1-2" },
    { name: "agent: sources", digest: { sha256: "f".repeat(64) } },
  ]);
  assertEquals(runDetails.builder.version.gcc, "4:12.2.0-3");
  assertEquals(runDetails.metadata.startedOn, "2025-12-31T23:59:59.000Z");
  assertEquals(runDetails.metadata.finishedOn, "2026-01-02T03:04:05.000Z");
  assertEquals(runDetails.byproducts.map(({ name }) => name), ["agent/agent.bin"]);
});

Deno.test("imageSetKey() changes with any artifact and not with their order", () => {
  const [a, b, c] = [{ key: "a" }, { key: "b" }, { key: "c" }];
  assertEquals(imageSetKey([a, b]), imageSetKey([b, a]));
  assertNotEquals(imageSetKey([a, b]), imageSetKey([a, c]));
});

Deno.test("debianPurl() escapes what a version may hold", () => {
  assertEquals(debianPurl("g++", "1:2+b1"), "pkg:deb/debian/g%2B%2B@1%3A2%2Bb1");
});

Deno.test("whyCustom() names the inputs that differ, a source that was not pinned, and nothing for stock", () => {
  const recipe = {
    name: "kernel",
    label: "",
    inputs: { arch: "x86_64", options: "1" },
    outputs: ["vmlinux"],
    tools: [],
    build: () => Promise.resolve(),
  };
  const key = "6a1d47d8d4ea69b9e6c0d5ba3d1d1d0ad0b5ba0b7a0dd6ac1f37d9a05e7dc7b2";
  const made = (over: Partial<ArtifactManifest>) =>
    manifest("kernel", { key, inputs: recipe.inputs, ...over });
  assertEquals(
    whyCustom(made({ inputs: { arch: "x86_64", options: "2" } }), [recipe]),
    "made from other inputs than this version's: options",
  );
  assertEquals(whyCustom(null, [recipe]), "it has no manifest");
  assertEquals(whyCustom(manifest("other"), [recipe]), "this version makes no other");
  assert(whyCustom(made({}), [recipe]).endsWith(": outputs"));
});

Deno.test("whyCustom() takes an artifact of the same key for stock, unless Debian had dropped the source", async () => {
  const { recipeKey } = await import("../../vm/store/artifact.ts");
  const recipe = {
    name: "kernel",
    label: "",
    inputs: { options: "1" },
    outputs: ["vmlinux"],
    tools: [],
    build: () => Promise.resolve(),
  };
  const made = manifest("kernel", { key: recipeKey(recipe), inputs: recipe.inputs });
  assertEquals(whyCustom(made, [recipe]), "");
  const facts = { sourcePinned: false, sourceVersion: "6.12.200-1" };
  assertEquals(
    whyCustom({ ...made, facts }, [recipe]),
    "made from 6.12.200-1, since the pinned source was gone",
  );
});
