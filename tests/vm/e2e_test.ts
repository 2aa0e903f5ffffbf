/**
 * `deno task e2e` against a real instance: what the command gets, its exit code, what is kept when it fails, and that
 * nothing is left.
 *
 * @module
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { run } from "../../vm/base/process.ts";
import { TestHome } from "./harness.ts";

const E2E = fromFileUrl(new URL("../e2e/main.ts", import.meta.url));
const CONFIG = fromFileUrl(new URL("../../deno.json", import.meta.url));
const TIMEOUT_MS = 20 * 60_000;

/** Reads its variables as OpenShell's suites do, asks the service, and fails. */
const SUITE = `set -eu
files=$XDG_CONFIG_HOME/openshell/gateways/$OPENSHELL_GATEWAY
test "$(cat "$XDG_CONFIG_HOME/openshell/active_gateway")" = "$OPENSHELL_GATEWAY"
test "$OPENSHELL_BIN" = /nowhere/openshell
grep -q "$GATEWAY_E2E_ENDPOINT" "$files/metadata.json"
curl -sS --cacert "$files/mtls/ca.crt" --cert "$files/mtls/tls.crt" --key "$files/mtls/tls.key" "$GATEWAY_E2E_ENDPOINT/"
exit 7
`;

Deno.test("deno task e2e runs a suite against an instance of its own and removes it", async () => {
  await using home = await TestHome.make();
  await Deno.mkdir(join(home.home, "run"), { recursive: true });
  const e2e = (...words: string[]) =>
    run(Deno.execPath(), {
      args: ["run", "-A", "--quiet", "--no-check", "--config", CONFIG, E2E, ...words],
      env: { ...home.env, OPENSHELL_BIN: "/nowhere/openshell" },
      check: false,
      timeoutMs: TIMEOUT_MS,
    });
  const options = ["--memory", "3072", "--cpus", "2"];
  const { code, stdout, stderr } = await e2e(...options, "--", "sh", "-c", SUITE);
  assertEquals(code, 7, stderr);
  assertStringIncludes(stdout, "gateway demo");
  const logs = /^logs: (.+)$/m.exec(stderr)?.[1];
  assert(logs !== undefined, stderr);
  try {
    const pods = await Deno.readTextFile(join(logs, "pods.txt"));
    assertStringIncludes(pods, "gateway-demo");
    assertStringIncludes(await Deno.readTextFile(join(logs, "events.log")), "service ready");
  } finally {
    await Deno.remove(logs, { recursive: true });
  }
  await home.assertClean();
  assertEquals(JSON.parse((await home.ok(["list", "--json"])).stdout), []);
  const usage = await e2e("--memory", "3072");
  assertEquals([usage.code, usage.stderr.startsWith("usage: ")], [2, true]);
});
