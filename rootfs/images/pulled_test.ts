import { assertEquals, assertMatch, assertNotEquals, assertThrows } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { recipeKey } from "../../vm/store/artifact.ts";
import {
  type PullAccess,
  pulledChartRecipe,
  pulledImageRecipe,
  pullerRecipe,
  pullError,
} from "./pulled.ts";

const DIGEST = `sha256:${"0".repeat(64)}`;
const access: PullAccess = { registries: null, caFiles: [], settings: "registries.yaml" };
const puller = await pullerRecipe();
const base = { ref: "ghcr.io/x/y:1.2", digest: DIGEST, access, puller, assumeYes: false };

Deno.test("pulledImageRecipe() has a key of what is asked for, whatever mirror it comes from", () => {
  const one = pulledImageRecipe({ ...base, arch: "amd64" });
  const mirrors = { mirrors: { "ghcr.io": { endpoint: ["https://mirror.example"] } } };
  const other = pulledImageRecipe({
    ...base,
    arch: "amd64",
    access: { ...access, registries: mirrors },
  });
  assertEquals(recipeKey(one), recipeKey(other));
  assertNotEquals(recipeKey(one), recipeKey(pulledImageRecipe({ ...base, arch: "arm64" })));
  assertNotEquals(recipeKey(one), recipeKey(pulledChartRecipe(base)));
  assertMatch(one.name, /^pulled-ghcr\.io-x-y-1\.2-[0-9a-f]{8}$/);
});

Deno.test("pulledImageRecipe() gives every reference a file name of its own", () => {
  const name = (ref: string) => pulledImageRecipe({ ...base, ref, arch: "amd64" }).name;
  assertNotEquals(name("a/b:c"), name("a/b-c"));
  const long = "registry.k8s.io/agent-sandbox/agent-sandbox-controller:v0.5.0";
  assertMatch(name(long), /^pulled-agent-sandbox-agent-sandbox-controller-v0\.5\.0-/);
  assertMatch(name(`../${"x".repeat(200)}/y:1`), /^pulled-[A-Za-z0-9][\w.-]{1,70}$/);
});

Deno.test("pulledImageRecipe() refuses what has no digest", () => {
  for (const digest of ["", "sha256:1", "1.2"]) {
    const error = assertThrows(
      () => pulledImageRecipe({ ...base, digest, arch: "amd64" }),
      GatewayError,
    );
    assertEquals([error.code, error.what], ["usage", 'Cannot pull the image "ghcr.io/x/y:1.2"']);
  }
});

Deno.test("each kind of failure that ocipull reports has a fix", async () => {
  const dir = new URL("../ocipull/", import.meta.url);
  const kinds = new Set<string>();
  for await (const { name } of Deno.readDir(dir)) {
    if (!name.endsWith(".go") || name.endsWith("_test.go")) continue;
    const text = await Deno.readTextFile(new URL(name, dir));
    for (const [, kind] of text.matchAll(/\bfail\("([a-z-]+)"/g)) kinds.add(kind!);
  }
  // These two have the general fix: run the command again.
  for (const general of ["other", "interrupted"]) kinds.delete(general);
  const asked = { digest: DIGEST, access, kind: "image" } as const;
  const code = (kind: string) =>
    pullError(asked, { kind, why: "" }, { what: "Cannot pull", cache: "" }).code;
  assertEquals([...kinds].filter((kind) => code(kind) === "build-failed"), []);
  assertEquals(code("too-large"), "image-unknown");
});
