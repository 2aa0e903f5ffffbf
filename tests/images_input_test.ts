/**
 * Bad input about registries, proxies and images, to the real command line: told in three lines, and nothing is left.
 *
 * @module
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { Sandbox } from "./sandbox.ts";

/** Runs with one more variable, which the program inherits. */
async function withVariable<T>(name: string, value: string, body: () => Promise<T>): Promise<T> {
  const before = Deno.env.get(name);
  Deno.env.set(name, value);
  try {
    return await body();
  } finally {
    if (before === undefined) Deno.env.delete(name);
    else Deno.env.set(name, before);
  }
}

async function refused(
  sandbox: Sandbox,
  args: readonly string[],
  code: number,
  ...words: string[]
): Promise<void> {
  const left = await sandbox.files();
  const result = await sandbox.gateway(args);
  assertEquals([result.code, result.stdout], [code, ""], result.stderr);
  assertEquals(result.stderr.trim().split("\n").length, 3, result.stderr);
  for (const word of words) assertStringIncludes(result.stderr, word);
  assertEquals(await sandbox.files(), left);
}

Deno.test("gateway up refuses a proxy or an authority that the guest cannot use, and leaves nothing", async () => {
  await using sandbox = await Sandbox.make();
  await withVariable("https_proxy", "http://me:hidden@127.0.0.1:3128", () =>
    refused(
      sandbox,
      ["up", "--host-proxy"],
      1,
      "error: Cannot give the guest this host's proxy",
      "HTTPS_PROXY names a proxy on this host's loopback, which the guest cannot reach",
    ));
  const missing = join(sandbox.top, "none.pem");
  await refused(sandbox, ["up", "--host-ca", missing], 2, `Cannot use --host-ca "${missing}"`);
});

Deno.test("gateway up names line and field of a registries.yaml that is wrong, before anything is built", async () => {
  await using sandbox = await Sandbox.make();
  const dir = join(sandbox.env.XDG_CONFIG_HOME, "gateway");
  await Deno.mkdir(dir);
  await Deno.writeTextFile(
    join(dir, "registries.yaml"),
    "mirrors:\n  hub.test:\n    endpoints: [x]\n",
  );
  await refused(
    sandbox,
    ["up"],
    1,
    `error: Cannot use "${join(dir, "registries.yaml")}"`,
    "why: line 3: mirrors.hub.test.endpoints: it is no field of a mirror",
  );
});

Deno.test("gateway image asks for an instance that runs", async () => {
  await using sandbox = await Sandbox.make();
  await refused(sandbox, ["image", "load", "x.tar"], 1, "there are no instances yet");
  await refused(sandbox, ["image", "list", "--name", "dev"], 1, '"dev"');
});
