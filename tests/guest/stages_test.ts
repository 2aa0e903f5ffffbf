import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { run } from "../../vm/base/process.ts";
import { type GuestRoot, guestTest, stage } from "./harness.ts";

const PAYLOAD = `begin payload; job_payload=$!\n${stage("40-payload")}`;

guestTest("payload stage unpacks the disk for root only and reads its settings", async (root) => {
  const source = join(root.path, "source");
  await root.write("source/env", "GW_HOSTNAME='box one'\n");
  await root.write("source/ssh/key", "secret");
  await run("tar", {
    args: ["--format=ustar", "-cf", join(root.path, "p.tar"), "-C", source, "."],
  });
  await root.addDisk("vdc", "payload", { file: join(root.path, "p.tar") });
  const result = await root.run(PAYLOAD + 'echo "[$GW_HOSTNAME]"; cat /run/payload/ssh/key');
  assertEquals(result.code, 0, result.stdout + result.stderr);
  assertStringIncludes(result.stdout, "[box one]");
  assertStringIncludes(result.stdout, "secret");
  assertMatch(result.marks[0]!, /^\d+\.\d\d payload ready=/);
});

guestTest("payload stage fails when the disk is no archive", async (root) => {
  await root.addDisk("vdc", "payload", { sizeMiB: 1 });
  await Deno.writeTextFile(join(root.path, "disks/vdc"), "no archive ".repeat(200));
  const result = await root.run(PAYLOAD);
  assertEquals(result.code, 42);
  assertStringIncludes(result.marks[0]!, "! payload: the payload disk /dev/vdc is no tar archive");
});

guestTest("keep_agent starts the agent again when it ends", async (root) => {
  await root.write("out/lib/agent", "#!/bin/busybox ash\necho started >>/out/starts\nexit 1\n");
  await Deno.chmod(join(root.path, "out/lib/agent"), 0o755);
  const result = await root.run(`lib=/out/lib
: >/out/starts
keep_agent &
kept=$!
tenths=0
while [ "$(grep -c started /out/starts)" -lt 2 ] && [ "$tenths" -lt 100 ]; do
  sleep 0.1
  tenths=$((tenths + 1))
done
kill -9 "$kept"`);
  assertMatch(await root.read("out/starts"), /^started\nstarted\n/, result.stderr);
});

/** What the scripts read of /proc when the real one would show the host's kernel. */
async function fakeProc(root: GuestRoot): Promise<void> {
  await root.write("proc/uptime", "1.50 1.00\n");
  await Deno.mkdir(join(root.path, "proc/self"));
  await Deno.symlink("/bin/busybox", join(root.path, "proc/self/exe"));
}

async function gzip(text: string): Promise<Uint8Array> {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const CHECK =
  `mkdir -p /libs/jobs; cp /gw/jobs/* /libs/jobs/; cp /capabilities.tsv /libs/; cp -r /gw/stages /libs/
lib=/libs; begin kernel-check; job_kernel=$!\n${stage("20-kernel-check")}`;

for (
  const [name, config, expected] of [
    [
      "passes when every option is in the kernel",
      "CONFIG_VETH=y\nCONFIG_BRIDGE=m\n",
      "kernel-check ready=",
    ],
    [
      "names the option that is missing and why it is needed",
      "CONFIG_VETH=y\n# CONFIG_BRIDGE is not set\nCONFIG_BRIDGE_X=y\n",
      "! kernel-check: CONFIG_BRIDGE is not in this kernel: pods share one bridge",
    ],
    ["counts the other missing ones", "CONFIG_X=y\n", "pods share one bridge (and 1 more)"],
  ] as const
) {
  guestTest(`kernel-check stage ${name}`, async (root) => {
    await root.write(
      "capabilities.tsv",
      "# a comment\nrequired\tbridge.packet\tCONFIG_BRIDGE CONFIG_VETH\tpods share one bridge\n" +
        "required\tveth.packet\tCONFIG_VETH\tpods\noptional\ttun.packet\tCONFIG_TUN\tVPNs\n",
    );
    await root.write("proc/config.gz", await gzip(config));
    await fakeProc(root);
    const result = await root.run(CHECK, { proc: "fake" });
    assertStringIncludes(result.marks.join("\n"), expected, result.stdout + result.stderr);
    assertEquals(result.code, expected.startsWith("kernel-check") ? 0 : 42);
  });
}

guestTest("kernel-check stage fails when the kernel does not tell its options", async (root) => {
  await root.write("capabilities.tsv", "required\tveth.packet\tCONFIG_VETH\tpods\n");
  await fakeProc(root);
  const result = await root.run(CHECK, { proc: "fake" });
  assertEquals(result.code, 42, result.stdout + result.stderr);
  assertStringIncludes(
    result.marks[0]!,
    "! kernel-check: CONFIG_IKCONFIG_PROC is not in this kernel",
  );
});

const LEASE = "interface=lo:7 ip=192.168.127.2 subnet=255.255.255.0 router=192.168.127.1 ";

guestTest(
  "dhcp-event writes the lease's resolvers to resolv.conf when a lease is bound",
  async (root) => {
    const result = await root.run(
      LEASE +
        'domain=lab dns="192.168.127.1 10.0.0.1" /bin/busybox ash /gw/dhcp-event bound; ifconfig lo:7',
    );
    assertEquals(result.code, 0, result.stderr);
    assertEquals(
      await root.read("run/etc/resolv.conf"),
      "search lab\nnameserver 192.168.127.1\nnameserver 10.0.0.1\n",
    );
    assertEquals(
      await root.read("run/gateway/lease"),
      "lease_ip=192.168.127.2 lease_dns=192.168.127.1\n",
    );
    assertStringIncludes(result.stdout, "192.168.127.2");
  },
);

guestTest("dhcp-event makes no resolver up when the lease has none", async (root) => {
  const result = await root.run(LEASE + "/bin/busybox ash /gw/dhcp-event bound");
  assertEquals(result.code, 0, result.stderr);
  assertEquals(await root.read("run/etc/resolv.conf"), "");
  assertStringIncludes(await root.read("run/gateway/lease"), "lease_dns=none");
});

guestTest("network stage says so in its mark when there is no resolver", async (root) => {
  await root.write("run/gateway/lease", "lease_ip=192.168.127.2 lease_dns=none\n");
  const result = await root.run(
    `GW_HOSTNAME=box; begin network; job_network=$!\n${stage("60-network")}cat /run/etc/hosts`,
  );
  assertEquals(result.code, 0, result.stdout + result.stderr);
  assertMatch(result.marks[0]!, /^\d+\.\d\d network ip=192\.168\.127\.2 dns=none/);
  assertStringIncludes(result.stdout, "192.168.127.2 box");
});

guestTest("network stage takes the host's resolvers where there is no lease", async (root) => {
  const result = await root.run(
    `GW_HOSTNAME=box GW_DNS="10.0.0.2 10.0.0.3"; begin network; job_network=$!\n${
      stage("60-network")
    }cat /run/etc/resolv.conf`,
  );
  assertEquals(result.code, 0, result.stdout + result.stderr);
  assertMatch(result.marks[0]!, /^\d+\.\d\d network ip=none dns=10\.0\.0\.2/);
  assertStringIncludes(result.stdout, "nameserver 10.0.0.2\nnameserver 10.0.0.3\n");
});

guestTest("clock stage sets the clock only when it cannot be right", async (root) => {
  const clock = (seconds: string) =>
    root.run(`date() { echo "date $*" >&2; }\nGW_CLOCK=${seconds}\n${stage("50-clock")}`);
  const right = await clock("$((EPOCHSECONDS - 2)).25");
  assertMatch(right.marks[0]!, /clock how=kept/);
  const slow = await clock("$((EPOCHSECONDS + 5000))");
  assertMatch(slow.marks[0]!, /clock how=corrected/, slow.stderr);
  assertStringIncludes(slow.stderr, "date -u -s @");
});

guestTest("identity stage makes the machine id once", async (root) => {
  const script = `hostname=unused; GW_HOSTNAME=box; mkdir -p /state/gateway\n${
    stage("45-identity")
  }cat /state/machine-id; hostname; echo "$node_name"`;
  const first = (await root.run(script)).stdout.trim().split("\n");
  const second = (await root.run(script)).stdout.trim().split("\n");
  assertMatch(first[0]!, /^[0-9a-f]{32}$/);
  assertEquals(second, first);
  assertEquals(first.slice(1), ["box", "gateway"]);
});

guestTest("identity stage keeps the node's name of a disk from before the rule", async (root) => {
  const db =
    "mkdir -p /state/gateway /state/rancher/k3s/server/db; : >/state/rancher/k3s/server/db/state.db";
  const script = `GW_HOSTNAME=box; ${db}\n${stage("45-identity")}echo "$node_name"`;
  assertEquals((await root.run(script)).stdout.trim(), "box");
});

guestTest("cleanup stage removes what no live namespace owns and keeps the rest", async (root) => {
  const result = (id: string, ns: string) =>
    JSON.stringify({
      kind: "cniCacheV1",
      containerId: id,
      ifName: "eth0",
      netns: `/var/run/netns/${ns}`,
    });
  await root.write("run/netns/live", "");
  await root.write("run/netns/dead", "");
  await root.write("var/lib/cni/results/gateway-aaa-eth0", result("aaa", "live"));
  await root.write("var/lib/cni/results/gateway-bbb-eth0", result("bbb", "dead"));
  await root.write("var/lib/cni/networks/gateway/10.42.0.2", "aaa\r\neth0");
  await root.write("var/lib/cni/networks/gateway/10.42.0.3", "bbb\r\neth0");
  await root.write("var/lib/cni/networks/gateway/last_reserved_ip.0", "10.42.0.3");
  await root.write("var/lib/kubelet/cpu_manager_state", "");
  await root.write("var/lib/kubelet/memory_manager_state", "{}");
  await root.write("run/gateway/unclean", "");
  const { code, stdout, stderr, marks } = await root.run(
    `mount -o bind /proc/self/ns/net /run/netns/live\n${
      stage("80-cleanup")
    }find /run/netns /var/lib/cni /var/lib/kubelet -type f`,
  );
  assertEquals(code, 0, stdout + stderr);
  const left = stdout.trim().split("\n").sort();
  assertEquals(left, [
    "/run/netns/live",
    "/var/lib/cni/networks/gateway/10.42.0.2",
    "/var/lib/cni/networks/gateway/last_reserved_ip.0",
    "/var/lib/cni/results/gateway-aaa-eth0",
    "/var/lib/kubelet/memory_manager_state",
  ]);
  assertMatch(marks[0]!, /cleanup removed=4$/);
});

guestTest(
  "cluster-files stage removes its own vanished manifests and keeps the user's",
  async (root) => {
    await Deno.mkdir(join(root.path, "state/gateway"));
    await root.write("run/payload/manifests/one.yaml", "one: 1\n");
    await root.write("run/payload/manifests/two.yaml", "two: 1\n");
    const files = "ls /var/lib/rancher/k3s/server/manifests";
    const first = await root.run(stage("85-cluster-files") + files);
    assertEquals(first.code, 0, first.stdout + first.stderr);
    assertEquals(first.stdout.trim().split("\n"), ["one.yaml", "two.yaml"]);
    await Deno.remove(join(root.path, "run/payload/manifests/two.yaml"));
    await root.write("var/lib/rancher/k3s/server/manifests/mine.yaml", "mine: 1\n");
    const second = await root.run(stage("85-cluster-files") + files);
    assertEquals(second.stdout.trim().split("\n"), ["mine.yaml", "one.yaml"]);
  },
);

guestTest(
  "cluster-files stage links the payload's registries.yaml, and leaves one of the user's alone",
  async (root) => {
    await Deno.mkdir(join(root.path, "state/gateway"));
    const link = "/etc/rancher/k3s/registries.yaml";
    const look =
      `echo "new=$registries_new"; readlink ${link} || cat ${link} 2>/dev/null || echo none`;
    const lines = async () =>
      (await root.run(stage("85-cluster-files") + look)).stdout.trim().split("\n");
    assertEquals(await lines(), ["new=1", "none"]);
    assertEquals(await lines(), ["new=", "none"]);
    await root.write("run/payload/registries/registries.yaml", "mirrors: {}\n");
    assertEquals(await lines(), ["new=1", "/run/payload/registries/registries.yaml"]);
    assertEquals(await lines(), ["new=", "/run/payload/registries/registries.yaml"]);
    await Deno.remove(join(root.path, "run/payload/registries"), { recursive: true });
    assertEquals(await lines(), ["new=1", "none"]);
    await root.write("run/payload/registries/registries.yaml", "mirrors: {}\n");
    await root.write(link.slice(1), "mine: 1\n");
    assertEquals(await lines(), ["new=1", "mine: 1"]);
  },
);
