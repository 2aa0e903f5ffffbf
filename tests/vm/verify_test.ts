/**
 * `gateway verify` on a real guest: our kernel can do what a cluster needs, and a guest that cannot is found out.
 * It needs no cluster, only a guest that runs commands.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { CapabilityReport } from "../../bootstrap/verify.ts";
import { waitFor } from "../../vm/wait.ts";
import { freePort, TestHome, withEvidence } from "./harness.ts";

Deno.test("gateway verify", async (t) => {
  await using home = await TestHome.make();
  const size = ["--memory", "2048", "--cpus", "2", "--port", `${freePort()}:30051`];
  await using gateway = await home.start(["up", "--no-kube-api", ...size]);
  const step = (name: string, fn: () => Promise<void>) =>
    t.step(name, () => withEvidence(home, "default", fn));

  await step("finds every required check passed and leaves nothing in the guest", async () => {
    await gateway.says("] guest: sshd", 75 * 60_000);
    await waitFor({
      what: "a guest that runs commands",
      probe: async () => (await home.call(["exec", "--", "true"])).code === 0 || undefined,
      timeoutMs: 120_000,
      intervalMs: 500,
    });
    const { code, stdout, stderr } = await home.call(["verify", "--json"], { timeoutMs: 180_000 });
    assertEquals(stderr, "");
    const report: CapabilityReport = JSON.parse(stdout);
    const required = report.results.filter((row) => row.level === "required");
    assertEquals(required.filter((row) => row.outcome !== "pass"), []);
    assertEquals(report.results.filter((row) => row.outcome === "fail"), []);
    assertEquals([code, report.ok, required.length >= 40], [0, true, true]);
    assertMatch(report.kernel, /-gateway$/);
    const left =
      "ls -d /tmp/gateway-verify* /state/gateway-verify* /sys/fs/cgroup/gateway-verify*; " +
      "ip -o link | grep -E 'br0|tun0|east'";
    const { stdout: found } = await home.call(["exec", "--", "sh", "-c", `${left}; true`]);
    assertEquals(found, "");
  });

  await step("prints a table and ends with 1 when a required check fails", async () => {
    await home.ok(["exec", "--", "mount", "--bind", "/dev/null", "/usr/sbin/nft"]);
    const { code, stdout } = await home.call(["verify"], { timeoutMs: 180_000 });
    assertEquals(code, 1);
    assertMatch(stdout, /^nft\.dnat +fail +CONFIG_NFT_NAT +a Service's address/m);
    assertMatch(stdout, /^veth\.packet +pass +CONFIG_VETH/m);
    assertStringIncludes(stdout, "NOT OK: required");
  });

  gateway.signal("SIGINT");
  assert([0, 130].includes((await gateway.exited).code), gateway.text());
});
