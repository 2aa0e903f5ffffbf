/**
 * `gateway verify` on a real guest: our kernel can do what a cluster needs, and a guest that cannot is found out.
 * It needs no cluster, only a guest that runs commands.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { ProvenanceReport } from "../../bootstrap/inspect/provenance.ts";
import type { CapabilityReport } from "../../bootstrap/inspect/verify.ts";
import { waitFor } from "../../vm/base/wait.ts";
import { freePort, TestHome, withEvidence } from "./harness.ts";

Deno.test("gateway verify", async (t) => {
  await using home = await TestHome.make();
  const size = ["--memory", "2048", "--cpus", "2", "--port", `${freePort()}:30051`];
  await using gateway = await home.start(["up", "--cold", "--no-kube-api", ...size]);
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

  await step(
    "provenance tells what the running guest was started from, and that it is stock",
    async () => {
      const { stdout } = await home.ok(["provenance", "--json"]);
      const report: ProvenanceReport = JSON.parse(stdout);
      assertEquals([report.state, report.intact], ["running", true]);
      assertEquals(report.files.map(({ role, origin, why }) => [role, origin, why]), [
        ["kernel", "stock", ""],
        ["root image", "stock", ""],
        ["network", "stock", ""],
        ["memory library", "stock", ""],
      ]);
      const { stdout: release } = await home.ok(["exec", "--", "uname", "-r"]);
      const [kernel, root] = report.files;
      assertEquals(kernel?.manifest?.facts.kernelRelease, release.trim());
      const subjects = report.statement!.subject.map(({ digest }) => digest!.sha256);
      assert(report.files.every(({ found }) => subjects.includes(found!)));
      assertEquals(JSON.parse(await Deno.readTextFile(report.provenance!)), report.statement);
      const sbom = JSON.parse(await Deno.readTextFile(report.sbom!));
      const named = new Set(sbom.packages.map((one: { name: string }) => one.name));
      const packages = Object.keys(root!.manifest!.facts.packages as Record<string, string>);
      const programs = ["/usr/local/bin/k3s", "coredns:/coredns"];
      const modules = ["k8s.io/kubernetes", "github.com/vishvananda/netlink"];
      const wanted = [...packages, ...programs, ...modules];
      assertEquals(wanted.filter((name) => !named.has(name)), []);
      const text = (await home.ok(["provenance"])).stdout;
      assertMatch(text, /^kernel {3}stock$/m);
    },
  );

  await step("prints a table and ends with 1 when a required check fails", async () => {
    await home.ok(["exec", "--", "mount", "--bind", "/dev/null", "/usr/sbin/nft"]);
    const { code, stdout } = await home.call(["verify"], { timeoutMs: 180_000 });
    assertEquals(code, 1);
    assertMatch(stdout, /^nft\.dnat +fail +CONFIG_NFT_NAT +a Service's address/m);
    assertMatch(stdout, /^veth\.packet +pass +CONFIG_VETH/m);
    assertStringIncludes(stdout, "NOT OK: required");
    // The cluster that starts meanwhile needs it: without it the start would give up.
    await home.ok(["exec", "--", "umount", "/usr/sbin/nft"]);
  });

  gateway.signal("SIGINT");
  assert([0, 130].includes((await gateway.exited).code), gateway.text());
});
