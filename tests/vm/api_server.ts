/**
 * What clients see of the API server's parts that a start does not wait for: the documents of OpenAPI, and the default
 * objects of a database that has them.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { waitFor } from "../../vm/base/wait.ts";
import type { TestHome } from "./harness.ts";

/** A default role that nothing of a cluster uses. */
const ROLE = "system:node-problem-detector";

/** Clients learn the fields of built-in kinds and of defined ones. */
export async function assertDocuments(home: TestHome): Promise<void> {
  const kubectl = async (...args: string[]) => (await home.ok(["kubectl", "--", ...args])).stdout;
  const raw = async (path: string) => JSON.parse(await kubectl("get", "--raw", path));
  assertStringIncludes(await kubectl("explain", "pod.spec.hostNetwork"), "<boolean>");
  assertStringIncludes(await kubectl("explain", "helmchart.spec.chart"), "<string>");
  const url = (await raw("/openapi/v3")).paths["apis/apps/v1"].serverRelativeURL;
  assertMatch(url, /^\/openapi\/v3\/apis\/apps\/v1\?hash=[0-9A-F]+$/);
  const kind = "io.k8s.api.apps.v1.Deployment";
  const schemas = [url, "/openapi/v3/apis/apps/v1", `${url}0`].map(async (path) =>
    (await raw(path)).components.schemas[kind]
  );
  const [asListed, plain, withOldHash] = await Promise.all(schemas);
  assertEquals(asListed.type, "object");
  assertEquals([plain, withOldHash], [asListed, asListed]);
  const { definitions } = await raw("/openapi/v2");
  assertEquals(definitions[kind].type, "object");
  assert("io.cattle.helm.v1.HelmChart" in definitions);
}

/** Takes a default role away, which the next start brings back. */
export async function removeDefaultRole(home: TestHome): Promise<void> {
  await home.ok(["kubectl", "--", "delete", "clusterrole", ROLE]);
}

/** It comes back when the start is over, a minute after the API server is ready. */
export async function assertDefaultRoleComesBack(home: TestHome): Promise<void> {
  await waitFor({
    what: `the role ${ROLE}`,
    probe: async () =>
      (await home.call(["kubectl", "--", "get", "clusterrole", ROLE])).code === 0 || undefined,
    timeoutMs: 3 * 60_000,
    intervalMs: 2000,
  });
}
