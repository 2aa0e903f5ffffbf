/**
 * The folder of a deployment: what a killed dry run leaves, and a record that cannot be read. The whole process's
 * environment decides where it is, so these tests run alone.
 *
 * @module
 */
import { assertEquals, assertRejects } from "@std/assert";
import { dirname, join } from "@std/path";
import { DeploymentFolder } from "../bootstrap/deploy/certificates.ts";
import { GatewayError } from "../vm/base/error.ts";
import { ensurePrivateDir, exists, runtimeDir } from "../vm/base/layout.ts";
import { withHome } from "./instance_home.ts";

Deno.test("the next deployment removes the authority's key that a killed dry run left", () =>
  withHome(async () => {
    for (const next of ["open", "temporary"] as const) {
      const left = join(runtimeDir(), "deploy-999999999-1-x");
      await ensurePrivateDir(join(left, "pki"));
      await Deno.writeTextFile(join(left, "pki", "ca.key"), "secret");
      await using running = await DeploymentFolder.temporary("one");
      await using _folder: Disposable | AsyncDisposable = await DeploymentFolder[next]("two");
      assertEquals([await exists(left), await exists(running.dir)], [false, true]);
      assertEquals(dirname(running.dir), runtimeDir());
    }
    assertEquals(await exists(runtimeDir()), false);
  }));

for (const text of ["", "{", '{"context":5}']) {
  Deno.test(`DeploymentFolder keeps a record of ${JSON.stringify(text)} and says so`, () =>
    withHome(async () => {
      using folder = await DeploymentFolder.open("one");
      const path = join(folder.dir, "deployment.json");
      await Deno.writeTextFile(path, text);
      for (const change of [() => folder.add("a"), () => folder.drop("a")]) {
        const error = await assertRejects(change, GatewayError);
        assertEquals([error.code, error.what], ["instance-schema", `Cannot read "${path}"`]);
      }
      assertEquals(await Deno.readTextFile(path), text);
    }));
}
